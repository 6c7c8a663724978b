import math

import numpy as np
import openmm
import pytest
import torch

from helmflow.bijectors.affine import VolumeScaling
from helmflow.bijectors.base import Identity
from helmflow.errors import InputError
from helmflow.families.two_states.multistate import multistate
from helmflow.families.two_states.openmm_files import Sampled, openmm_state
from helmflow.families.two_states.openmm_maps import choose_map
from helmflow.families.two_states.shards import merge_shards, work_shard
from helmflow.families.two_states.targeted import targeted_fep

N = 3


def gas(edges, *, barostat=False, epsilon=0.0):
    """Particles, ideal by default, in a box of three edges; without edges in none."""
    made = openmm.System()
    force = openmm.NonbondedForce()
    if edges is not None:
        made.setDefaultPeriodicBoxVectors(*np.diag(edges))
        force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
        force.setCutoffDistance(0.7)
        force.setUseDispersionCorrection(False)
    for _ in range(N):
        made.addParticle(39.9)
        force.addParticle(0.0, 0.3, epsilon)
    made.addForce(force)
    if barostat:
        made.addForce(openmm.MonteCarloBarostat(1.0, 300.0))
    return openmm_state(made, 300.0, platform="Reference")


def draw(edges, n=200, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random((n, N, 3)) * edges)


SMALL, LARGE, LONG = (2.0, 2.0, 2.0), (2.2, 2.2, 2.2), (3.0, 2.0, 2.0)
EXACT = -3 * N * math.log(1.1)


def both(first=SMALL, last=LARGE, **options):
    return gas(first), gas(last), draw(first, **options), draw(last, seed=1, **options)


def test_without_a_map_two_boxes_are_graded_f():
    found = targeted_fep(*both())
    assert found.result.grade == "F"
    assert "states share a box" in found.result.reason
    merged = merge_shards([work_shard(*both(), part=(i, 2)) for i in (1, 2)])
    assert "states share a box" in merged.result.reason


def test_between_two_boxes_the_map_is_the_headline():
    for epsilon in (0.0, 0.2):  # with the second, works through the map scatter and others do not
        a, b = gas(SMALL, epsilon=epsilon), gas(LARGE)
        found = targeted_fep(a, b, draw(SMALL), draw(LARGE), map=VolumeScaling(1.1, N))
        assert found.result.method == "bar, volume scaling map"
        assert not any(c.name == "states share a box" for c in found.result.checks)
    found = targeted_fep(*both(), map=VolumeScaling(1.1, N))
    assert found.result.value == pytest.approx(EXACT)
    assert all("volume scaling map" in row.method for row in found.result.estimates)
    assert not found.result.observables
    assert math.isnan(found.variance_reduction)


@pytest.mark.parametrize(
    ("last", "bijector"),
    [
        (LARGE, Identity()),
        (LARGE, VolumeScaling(1.05, N)),
        (LONG, VolumeScaling(1.5 ** (1 / 3), N)),
    ],
)
def test_a_map_must_carry_one_box_onto_the_other(last, bijector):
    with pytest.raises(InputError, match="map: expected one that carries the box of A onto"):
        targeted_fep(*both(last=last), map=bijector)


def test_states_with_and_without_a_box_do_not_mix():
    for states in ((gas(SMALL), gas(None)), (gas(None), gas(SMALL))):
        with pytest.raises(InputError, match="states: expected all of them periodic, or none"):
            targeted_fep(*states, draw(SMALL), draw(SMALL))
        with pytest.raises(InputError, match="states: expected all of them periodic, or none"):
            multistate(states, [draw(SMALL), draw(SMALL)])


def test_several_states_share_a_box():
    a, b, x, y = both()
    with pytest.raises(InputError, match="system: expected one box for all states"):
        multistate([a, a, b], [x, x, y])


def test_a_barostat_left_in_is_told_once():
    a, b = gas(SMALL, barostat=True), gas(SMALL, barostat=True, epsilon=0.1)
    x, y = draw(SMALL), draw(SMALL, seed=1)
    shards = [work_shard(a, b, x, y, part=(i, 2)) for i in (1, 2)]
    for found in (targeted_fep(a, b, x, y), multistate([a, b], [x, y]), merge_shards(shards)):
        (check,) = [c for c in found.result.checks if "barostat" in c.name]
        assert not check.passed
        assert check.severity == "soft"
        assert "MonteCarloBarostat" in check.explanation


@pytest.mark.parametrize("choice", ["auto", "scaling"])
def test_scaling_needs_boxes_of_one_shape(choice):
    a, b, c = (Sampled(gas(e), draw(e), (), ()) for e in (SMALL, LARGE, LONG))
    assert choose_map(choice, a, b, 1).scale == pytest.approx(1.1)
    with pytest.raises(InputError, match="map: expected boxes of one shape"):
        choose_map(choice, a, c, 1)


def test_equal_volumes_are_not_equal_boxes():
    a, b = (Sampled(gas(e), draw(e), (), ()) for e in (SMALL, (2.5, 2.0, 1.6)))
    for choice in ("auto", "transport"):
        with pytest.raises(InputError, match="map: expected"):
            choose_map(choice, a, b, 1)
