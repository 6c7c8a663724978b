import math

import pytest

from helmflow.errors import InputError
from helmflow.families import free_energy
from helmflow.families.two_states.temperature import at_beta, temperature_perturbation
from helmflow.system import load_system


def test_ice_from_200_to_240_kelvin_is_the_difference_of_two_absolute_runs():
    system = load_system("ice/mw_cubic_64")
    found = temperature_perturbation(system, 240.0, seed=1)
    assert found.result.per == "particle"
    assert found.result.grade == "A"
    assert found.variance_reduction > 10.0
    hot = at_beta(system, system.beta * 200.0 / 240.0, 240.0)
    runs = [free_energy(s, seed=7) for s in (system, hot)]
    difference = found.result.value - (runs[1].value - runs[0].value)
    stderr = math.hypot(found.result.stderr, *(run.stderr for run in runs))
    assert abs(difference) < 3.0 * stderr
    assert abs(difference) < 4e-4
    forward = next(e for e in found.result.estimates if e.method.startswith("fep from A, harm"))
    assert abs(forward.value - found.result.value) < 4.0 * forward.stderr


@pytest.mark.parametrize(
    ("name", "temperature", "message"),
    [("lattice/phi4_4", 2.0, "system: expected a crystal"), ("ice/mw_cubic_8", -1.0, "temperat")],
)
def test_mistakes(name, temperature, message):
    with pytest.raises(InputError, match=message):
        temperature_perturbation(load_system(name), temperature)
