"""Speed of torus couplings against normflows and zuko in one run: `pytest -m benchmark -s`."""

import math
import time

import pytest
import torch

from helmflow.bijectors.base import Chain
from helmflow.bijectors.splines import CircularSpline
from helmflow.bijectors.torus_flows import TorusCoupling
from helmflow.densities.flow import Flow
from helmflow.densities.uniform import Uniform
from helmflow.manifolds.torus import Torus
from helmflow.nets.mlp import Conditioner
from helmflow.streams import stream

pytestmark = pytest.mark.benchmark


def test_throughput_of_torus_couplings():
    """Density forward and backward, 32 angles, batch 1024, four couplings, equal parameters."""
    normflows = pytest.importorskip("normflows")
    zuko = pytest.importorskip("zuko")
    torch.set_default_dtype(torch.float64)
    try:
        flows = _three_coupling_flows(normflows, zuko)
        best = dict.fromkeys(flows, math.inf)
        for _ in range(10):
            for name, (module, log_prob) in flows.items():
                clock = time.process_time()
                for _ in range(3):
                    module.zero_grad()
                    (-log_prob().mean()).backward()
                best[name] = min(best[name], (time.process_time() - clock) / 3)
    finally:
        torch.set_default_dtype(torch.float32)
    for name, (module, _) in flows.items():
        n = sum(p.numel() for p in module.parameters() if p.requires_grad)
        ratio = best[name] / best["helmflow"]
        print(f"\n{name:<12}{n:>8} parameters  {1e3 * best[name]:7.1f} ms  {ratio:.2f} times")
    assert best["zuko"] >= 2.0 * best["helmflow"]
    assert best["normflows"] >= 2.0 * best["helmflow"]


def _three_coupling_flows(normflows, zuko):
    dim, batch, layers = 32, 1024, 4
    x = Torus(dim).uniform(batch, stream(0, "x"))
    masks = [[(k + layer) % 2 == 0 for k in range(dim)] for layer in range(layers)]
    net = Conditioner([72, 72], activation=torch.nn.ReLU)
    own = [TorusCoupling(m, CircularSpline(8), net) for m in masks]
    ours = Flow(Uniform(Torus(dim)), Chain(own))
    theirs = zuko.flows.NCSF(dim, transforms=layers, passes=2, hidden_features=(42, 42), bins=8)
    base = normflows.distributions.UniformGaussian(
        dim, list(range(dim)), scale=torch.full((dim,), math.pi)
    )
    coupling = normflows.flows.CircularCoupledRationalQuadraticSpline
    others = normflows.NormalizingFlow(
        base,
        [
            coupling(
                dim,
                1,
                64,
                list(range(dim)),
                num_bins=8,
                tail_bound=math.pi,
                reverse_mask=bool(layer % 2),
            )
            for layer in range(layers)
        ],
    )
    return {
        "helmflow": (ours, lambda: ours.log_prob(x)),
        "zuko": (theirs, lambda: theirs().log_prob(x - math.pi)),
        "normflows": (others, lambda: others.log_prob(x - math.pi)),
    }
