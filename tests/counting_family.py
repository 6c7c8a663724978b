"""A family that stands in for lattice fields: rounds of random numbers, kept after each.

``python counting_family.py ARGS`` is the command line with it inside; KILL_AT=k makes the process
kill itself (SIGKILL) in the middle of round k, INTERRUPT_AT=k is Ctrl-C there, GRADE=F fails.
"""

import os
import signal
from dataclasses import replace

import numpy as np
import torch

from helmflow.estimators.estimate import Estimate
from helmflow.families.base import Family
from helmflow.families.registry import FAMILIES
from helmflow.skeleton.checks import at_most
from helmflow.skeleton.kept import Form, Kept
from helmflow.skeleton.quantity import Finding, ln_z

ROUNDS = 6


class Counting(Family):
    """The mean of ROUNDS x 100 normals as "ln Z"."""

    noun, methods, target_error = "a count", ("auto", "ti"), 0.01

    def reads(self, settings):
        return ()

    @property
    def quantity(self):
        return replace(ln_z(self.system), references=())  # of a field, which this is not

    def estimate(self, run):
        form = Form(lambda draws: Kept({"draws": draws}), lambda kept: kept.tensors["draws"])
        draws = run.once("sampling", lambda stage: _draws(run, stage), form)
        works = {"lam": np.array([0.0, 1.0]), "node": np.repeat([0, 1], 300)}
        grade = at_most("told to fail", float(os.environ.get("GRADE") == "F"), 0.5, "", hard=0.5)
        arrays = {**works, "work": draws.numpy()}
        return Finding(_estimate(draws), (grade,), arrays, one_sided=True)


def _draws(run, stage):
    generator = torch.Generator().manual_seed(run.settings.seed)
    draws, done = torch.empty(0, dtype=torch.float64), 0
    saved = stage.load()
    if saved is not None:
        draws, done = saved[0]["draws"], int(saved[1]["done"])
        generator.set_state(saved[0]["generator"])
    for k in range(done, ROUNDS):
        run.tell("sampling", k, ROUNDS, f"lambda {k / ROUNDS:.2f}")
        run.budget.spend(100)
        new = torch.randn(100, generator=generator, dtype=torch.float64)
        draws = torch.cat([draws, new])
        run.tell("sampling", k + 1, ROUNDS, "", _estimate(draws))
        if k == int(os.environ.get("INTERRUPT_AT", -1)):
            raise KeyboardInterrupt
        if k == int(os.environ.get("KILL_AT", -1)):
            os.kill(os.getpid(), signal.SIGKILL)
        stage.save({"draws": draws, "generator": generator.get_state()}, {"done": k + 1})
    return draws


def _estimate(draws):
    return Estimate(-draws.mean().item(), draws.std().item() / len(draws) ** 0.5, 1.0, "count")


if __name__ == "__main__":
    FAMILIES["lattice_field"] = Counting
    from helmflow.cli import app

    app()
