"""Fitting a flow to an energy that has values but no gradient: the failure and the remedy.

Ten angles, an energy of products of sines and cosines with thousands of minima, and three ways to
spend the same number of energy calls. ln Z is known exactly, so every divergence is exact too.
"""

import os

import torch

import helmflow as hf
from helmflow.bijectors import CircularSpline, Composed, Rotation, TorusAutoregressive
from helmflow.densities import Flow, Uniform
from helmflow.nets.mlp import Conditioner
from helmflow.streams import stream
from helmflow.training import BlackBoxPlan, TrainingPlan, fit_without_gradient, train

STEPS = 20 if "SMOKE" in os.environ else 1000
SYSTEM = hf.load_system("toy/sines_10")
LN_Z = SYSTEM.references[0].value


def new_flow():
    circle = Composed([CircularSpline(12), Rotation()])
    net = TorusAutoregressive(SYSTEM.manifold.dim, circle, Conditioner([24], stream(0, "net")))
    return Flow(Uniform(SYSTEM.manifold), net)


def raw_trick(flow, entropy, n, generator):
    """What one would write first: <(u + entropy * log q) dlog q>, no baseline."""
    with torch.no_grad():
        x, log_q = flow.sample_and_log_prob(n, generator)
        r = SYSTEM.reduced_potential(x) + entropy * log_q
    return (r * flow.log_prob(x)).mean()


def report(name, flow):
    with torch.no_grad():
        x, log_q = flow.sample_and_log_prob(8192, stream(1, "test"))
    work = SYSTEM.reduced_potential(x) + log_q
    ln_z = hf.fep(work.numpy())
    line = f"{name:<34} KL(q || p) = {work.mean() + LN_Z:7.3f} nats"
    print(f"{line}   ln Z = {ln_z.value * -1:.2f}({max(round(100 * ln_z.stderr), 1)})")


for name, entropy in (("raw trick, energy alone", 0.0), ("raw trick, with entropy", 1.0)):
    flow = new_flow()
    plan = TrainingPlan(STEPS, 256, 5e-3, clip_norm=None)
    train(flow, lambda n, g, f=flow, e=entropy: raw_trick(f, e, n, g), plan, stream(0, "fit"))
    report(name, flow)

flow = new_flow()
fit_without_gradient(flow, SYSTEM.reduced_potential, BlackBoxPlan(STEPS), stream(0, "fit"))
report("baseline, clipping, tempering", flow)
print(f"exact ln Z {LN_Z:.4f}; every row used {STEPS * 256} energies and no gradient")
