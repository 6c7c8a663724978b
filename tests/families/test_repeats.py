"""Frames that are there twice: the error bar does not shrink, and they are named."""

import pytest
import torch

import gaussian_pair as pair
from helmflow.families.two_states.multistate import multistate
from helmflow.families.two_states.repeats import Repeats
from helmflow.families.two_states.shards import merge_shards, work_shard
from helmflow.families.two_states.targeted import targeted_fep
from helmflow.training.map_fit import GaussianFit


def of(found, name):
    return [c for c in found.result.checks if c.name == name]


def test_a_file_written_twice_has_the_error_of_one():
    x, y = pair.samples(300)
    once = targeted_fep(*pair.states(), x, y)
    both = torch.cat([x, x]), torch.cat([y, y])
    shards = [work_shard(*pair.states(), *both, part=(k, 2)) for k in (1, 2)]
    for twice in (targeted_fep(*pair.states(), *both), merge_shards(shards)):
        assert twice.plain.value == pytest.approx(once.plain.value)
        assert twice.plain.stderr == pytest.approx(once.plain.stderr, rel=0.03)
        (check,) = of(twice, "copies of frames")
        assert not check.passed
        assert check.severity == "soft"
        assert "300 of 600 frames of A" in check.explanation
    mapped = targeted_fep(*pair.states(), *both, map=GaussianFit())
    assert mapped.through.works.times == (2.0, 2.0)
    several = [multistate(pair.states(), s).states.stderr_ij[0, 1] for s in ((x, y), both)]
    assert several[1] == pytest.approx(several[0], rel=0.03)


def test_one_file_for_two_states_is_no_result():
    x, y = pair.samples(300)
    for found in (targeted_fep(*pair.states(), x, x), multistate(pair.states(), (x, x))):
        (check,) = of(found, "frames of two states")
        assert check.severity == "hard"
        assert found.result.grade == "F"
    a_few = targeted_fep(*pair.states(), x, torch.cat([x[:8], y]))
    (check,) = of(a_few, "frames of two states")
    assert (check.passed, check.severity) == (False, "soft")


def test_what_is_no_copy():
    """Rejected moves, a common first frame, discrete variables."""
    x, y = pair.samples(50)
    x, y = x.repeat_interleave(3, 0), torch.cat([x[:1], y])
    assert Repeats.of("AB", (x, y)) == Repeats((1.0, 1.0), ())
    spins = torch.randint(0, 2, (100, 3), generator=torch.Generator().manual_seed(0)).double()
    assert Repeats.of("AB", (spins, spins)) == Repeats((1.0, 1.0), ())
    rare = torch.cat([x[::3], x[:3:3]])
    (check,) = Repeats.of("A", (torch.cat([torch.randn(500, 3, 3).double(), rare]),)).checks
    assert check.passed
