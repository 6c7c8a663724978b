"""Three ways to spend 64 000 energies on `toy/sines_10`: `pytest -m benchmark -s`.

The recommended recipe asks for values of the energy alone; the reparameterised gradient also uses
its derivative; the log-likelihood trick is what one would write first. Divergences are exact up to
the error of a mean over 8192 samples, because ln Z is known.
"""

import statistics

import pytest
import torch

from helmflow.bijectors.circle_maps import Rotation
from helmflow.bijectors.elementwise import Composed
from helmflow.bijectors.splines import CircularSpline
from helmflow.bijectors.torus_flows import TorusAutoregressive
from helmflow.densities.flow import Flow
from helmflow.densities.uniform import Uniform
from helmflow.objectives import reverse_kl
from helmflow.streams import stream
from helmflow.system import load_system
from helmflow.training.black_box import BlackBoxPlan, fit_without_gradient
from helmflow.training.plan import TrainingPlan
from helmflow.training.stochastic import train

pytestmark = pytest.mark.benchmark
SYSTEM = load_system("toy/sines_10")
U = SYSTEM.reduced_potential
STEPS, BATCH, RATE = 250, 256, 5e-3
SEEDS = range(10)


def raw_trick(flow, entropy, n, generator):
    with torch.no_grad():
        x, log_q = flow.sample_and_log_prob(n, generator)
        r = U(x) + entropy * log_q
    return (r * flow.log_prob(x)).mean()


def recommended(flow, generator):
    fit_without_gradient(flow, U, BlackBoxPlan(STEPS, BATCH, RATE), generator)


def reparameterised(flow, generator):
    plan = TrainingPlan(STEPS, BATCH, RATE, clip_norm=10.0)
    train(flow, lambda n, g: reverse_kl(flow, U, n, g), plan, generator)


def raw(entropy):
    def fit(flow, generator):
        plan = TrainingPlan(STEPS, BATCH, RATE, clip_norm=None)
        train(flow, lambda n, g: raw_trick(flow, entropy, n, g), plan, generator)

    return fit


WAYS = {
    "recommended, no gradient": recommended,
    "reparameterised gradient": reparameterised,
    "log-likelihood trick": raw(1.0),
    "log-likelihood trick, energy alone": raw(0.0),
}


def test_ten_seeds():
    found = {}
    for name, fit in WAYS.items():
        divergences = []
        for seed in SEEDS:
            circle = Composed([CircularSpline(12), Rotation()])
            net = TorusAutoregressive(10, circle, [24], generator=stream(seed, "net"))
            flow = Flow(Uniform(SYSTEM.manifold), net)
            fit(flow, stream(seed, "fit"))
            with torch.no_grad():
                x, log_q = flow.sample_and_log_prob(8192, stream(seed, "test"))
            divergences.append(float((U(x) + log_q).mean()) + SYSTEM.references[0].value)
        found[name] = divergences
        median = statistics.median(divergences)
        print(f"\n{name:<36} KL median {median:.3f}, worst {max(divergences):.3f} nats")
    ours = found["recommended, no gradient"]
    assert max(ours) < 4.0
    assert statistics.median(ours) <= statistics.median(found["reparameterised gradient"])
    assert min(found["log-likelihood trick"]) > max(ours)
    assert min(found["log-likelihood trick, energy alone"]) > 2.0 * max(ours)
