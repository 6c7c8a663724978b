"""A family in sixty lines: a normal density with a known ln Z, drawn from a wider one.

``python toy_family.py ARGS`` is the command line with it inside; KILL_AT=k kills the process
(SIGKILL) at the k-th event, as a power cut would.
"""

import torch

from helmflow.densities.gaussian import Gaussian
from helmflow.energies.analytic import HarmonicOscillators
from helmflow.families.base import Family
from helmflow.families.registry import register
from helmflow.skeleton import checks
from helmflow.skeleton.kept import Form, Kept
from helmflow.skeleton.quantity import Finding, ln_z
from helmflow.skeleton.weighted import Batches, weighted_samples
from helmflow.system import SystemTable, plain_system

WIDTH = Form(lambda flow: Kept({"k": flow.precision}), lambda kept: Gaussian(kept.tensors["k"]))


class ToyTable(SystemTable):
    stiffness: float


class Toy(Family):
    noun, methods, target_error, table = "a toy", ("auto", "fep"), 0.01, ToyTable

    @staticmethod
    def build(table, path, factory):
        energy = HarmonicOscillators(torch.tensor([table.stiffness], dtype=torch.float64))
        return plain_system(table, path, energy, 1, "ln of the integral of exp(-u)")

    def reads(self, settings):
        return {"flow.steps"}

    @property
    def quantity(self):
        return ln_z(self.system)

    def keeps_flow(self, settings):
        return True

    def flow(self, run):
        soft = torch.full((1, 1), 0.9 / (run.settings.flow.steps or 1), dtype=torch.float64)
        return run.once("flow", lambda stage: Gaussian(soft), WIDTH), self.system.energy

    def estimate(self, run):
        flow, u = self.flow(run)
        batches = Batches(100, 400, 409_600)
        samples = weighted_samples(flow, run.budget.count(u), lambda x: {}, batches, run)
        judged = checks.target_error(samples.estimate, run.settings.target_error, "nats")
        return Finding(samples.estimate, (judged,), samples.arrays(), one_sided=True)


register("toy", Toy)
