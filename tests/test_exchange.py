import numpy as np
import pytest

import gaussian_pair as pair
from helmflow.errors import InputError
from helmflow.families.two_states.targeted import targeted_fep
from helmflow.results.exchange import u_nk, works_as_potentials


def test_alchemlyb_reproduces_the_estimate():
    """Its BAR estimator on our frame."""
    from alchemlyb import estimators

    found = targeted_fep(*pair.states(), *pair.samples(300))
    frame = found.u_nk()
    assert frame.attrs == {"temperature": pytest.approx(300.0), "energy_unit": "kT"}
    theirs = estimators.BAR().fit(frame)
    assert theirs.delta_f_.iloc[0, 1] == pytest.approx(found.plain.value, abs=1e-4)


def test_frames_without_pandas_are_refused_in_one_line(monkeypatch):
    import builtins

    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="u_nk: expected pandas"):
        u_nk([np.zeros((3, 2))], 300.0)


def test_works_as_potentials():
    first, second = works_as_potentials([1.0, 2.0], [3.0])
    assert first.tolist() == [[0.0, 1.0], [0.0, 2.0]]
    assert second.tolist() == [[3.0, 0.0]]
