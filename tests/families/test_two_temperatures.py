"""States at two temperatures: each free energy in kT of its own."""

import math

import pytest
import torch

from assertions import assert_consistent
from helmflow.families.two_states.difference import CONVENTION
from helmflow.families.two_states.multistate import multistate
from helmflow.families.two_states.openmm_files import openmm_state
from helmflow.families.two_states.shards import merge_shards, work_shard
from helmflow.families.two_states.targeted import targeted_fep
from helmflow.units import BOLTZMANN
from openmm_systems import oscillators

STIFF = (200.0, 300.0)
TEMPERATURES = (300.0, 330.0)
EXACT = 1.5 * len(STIFF) * math.log(TEMPERATURES[0] / TEMPERATURES[1])


def states(temperatures=TEMPERATURES):
    system = oscillators(STIFF, [[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]])
    return [openmm_state(system, T, platform="Reference") for T in temperatures]


def samples(n=400):
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]], dtype=torch.float64)
    stiff = torch.tensor(STIFF, dtype=torch.float64)
    for T in TEMPERATURES:
        noise = torch.randn((n, 2, 3), generator=generator, dtype=torch.float64)
        yield centres + noise * (BOLTZMANN["kJ/mol"] * T / stiff).sqrt()[:, None]


def test_momenta_do_not_cancel():
    x = list(samples())
    shards = [work_shard(*states(), *x, part=(i, 2)) for i in (1, 2)]
    for found in (targeted_fep(*states(), *x), merge_shards(shards), multistate(states(), x)):
        assert_consistent(found.result.value, found.result.stderr, EXACT, resolve=0.5)
        assert "cancel" not in found.result.convention
        assert "momenta are left out" in found.result.convention
        assert "no other unit applies" in found.result.convention
        assert not found.result.other_units


def test_at_one_temperature_they_do():
    x = list(samples(40))
    found = targeted_fep(*states((300.0, 300.0)), x[0], x[0])
    assert found.result.convention == CONVENTION
    assert {row.unit for row in found.result.other_units} >= {"kJ/mol", "kcal/mol"}
    assert found.temperature == pytest.approx(300.0)
