"""A recipe that stands in for the real ones: rounds of random numbers, checkpointed.

``python counting_recipe.py ARGS`` is the command line with this recipe inside; KILL_AT=k makes
the process kill itself (SIGKILL) in the middle of round k.
"""

import os
import signal
import sys
from types import SimpleNamespace

import numpy as np
import torch

from helmflow.results import Cost, EstimateRow, Event, Result

ROUNDS = 6


def run(system, settings, directory, progress):
    """The mean of ROUNDS x 100 normals as "ln Z", resumable after every round."""
    generator = torch.Generator().manual_seed(settings.seed)
    draws, done = torch.empty(0, dtype=torch.float64), 0
    saved = directory.load_checkpoint()
    if saved is not None:
        draws, done = saved[0]["draws"], int(saved[1]["done"])
        generator.set_state(saved[0]["generator"])
    for k in range(done, ROUNDS):
        progress(Event("sampling", k, ROUNDS, f"lambda {k / ROUNDS:.2f}"))
        new = torch.randn(100, generator=generator, dtype=torch.float64)
        draws = torch.cat([draws, new])
        progress(
            Event(
                "sampling",
                k + 1,
                ROUNDS,
                "",
                float(draws.mean()),
                float(draws.std()) / len(draws) ** 0.5,
                len(draws),
            )
        )
        if k == int(os.environ.get("INTERRUPT_AT", -1)):
            raise KeyboardInterrupt
        if k == int(os.environ.get("KILL_AT", -1)):
            os.kill(os.getpid(), signal.SIGKILL)
        directory.save_checkpoint(
            {"draws": draws, "generator": generator.get_state()}, {"done": str(k + 1)}
        )
    directory.write_work(
        {"lam": np.array([0.0, 1.0]), "node": np.repeat([0, 1], 300), "work": draws.numpy()}
    )
    value, stderr = float(draws.mean()), float(draws.std()) / len(draws) ** 0.5
    return Result(
        system=system.name,
        quantity="log_partition_function",
        value=value,
        stderr=stderr,
        unit="nat",
        per="system",
        convention="a mean of normals",
        method="count",
        grade=os.environ.get("GRADE", "B"),
        reason="It is only a test.",
        seed=settings.seed,
        cost=Cost(1.0, 1.0, len(draws)),
        estimates=(EstimateRow("count", value, stderr),),
    )


if __name__ == "__main__":
    sys.modules["helmflow.families"] = SimpleNamespace(run=run)
    from helmflow.cli import app

    app()
