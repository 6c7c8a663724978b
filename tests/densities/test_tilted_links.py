"""Loop splitting with weighted sectors and windings: normalised, and found again by a fit."""

import math

import pytest
import torch

from helmflow.densities.loop_splitting import LoopSplitting
from helmflow.densities.tilted_links import (
    TiltedLinks,
    likeliest_sectors,
    likeliest_windings,
    winding_sums,
)
from helmflow.errors import InputError
from helmflow.manifolds.links import topological_charge
from helmflow.streams import stream

SECTORS, WINDINGS = (1.0, 0.4, 0.1), (0.3, -0.2)


@pytest.fixture
def tilted():
    return TiltedLinks((4, 8), beta=2.0, sectors=SECTORS, windings=WINDINGS)


def test_density_is_normalised_and_that_of_the_samples(tilted):
    """<q_tilted/q> = 1 over loop splitting, and <q/q_tilted> = 1 over the tilted samples."""
    plain = LoopSplitting((4, 8), beta=2.0)
    n = 20_000
    x, log_q = plain.sample_and_log_prob(n, stream(0, "x"))
    y, log_p = tilted.sample_and_log_prob(n, stream(1, "x"))
    torch.testing.assert_close(tilted.log_prob(y), log_p, rtol=0, atol=1e-10)
    for ratio in ((tilted.log_prob(x) - log_q).exp(), (plain.log_prob(y) - log_p).exp()):
        assert abs(float(ratio.mean()) - 1.0) < 5.0 * float(ratio.std()) / math.sqrt(n) < 0.1


def test_fits_find_what_was_planted(tilted):
    x, _ = tilted.sample_and_log_prob(20_000, stream(2, "x"))
    weights = torch.full((20_000,), 1.0 / 20_000, dtype=torch.float64)
    assert likeliest_windings(x, weights) == pytest.approx(WINDINGS, abs=0.02)
    found = likeliest_sectors(x, weights, 2.0)
    assert [f / found[0] for f in found[:3]] == pytest.approx(SECTORS, rel=0.12)


def test_sums_of_lines():
    x, _ = LoopSplitting((4, 8), beta=2.0).sample_and_log_prob(3, stream(3, "x"))
    sums = winding_sums(x)
    expected = torch.polar(torch.ones(3, 8).double(), x[:, 0].sum(1)).sum(1)
    torch.testing.assert_close(sums[0], expected)
    turned = x.clone()
    turned[:, 1, :, 3] += 0.7
    twist = torch.polar(torch.tensor(1.0).double(), torch.tensor(0.7).double())
    torch.testing.assert_close(winding_sums(turned)[1], twist * sums[1])
    assert float(topological_charge(turned).sub(topological_charge(x)).abs().max()) < 1e-9


def test_mistakes():
    with pytest.raises(InputError, match="sectors"):
        TiltedLinks((4, 4), beta=1.0, sectors=(1.0, 0.0))
    with pytest.raises(InputError, match="windings"):
        TiltedLinks((4, 4), beta=1.0, windings=(math.nan, 0.0))
    with pytest.raises(InputError, match="powers of two"):
        TiltedLinks((6, 6), beta=1.0)
