"""Samples of a flow, drawn and weighed until ln Z is known well enough: the only such loop."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from helmflow.densities.base import Density
from helmflow.estimators.diagnostics import acceptance_error, acceptance_rate
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.fep import fep
from helmflow.estimators.reweighting import reweight
from helmflow.generalised_work import ReducedPotential, density_work
from helmflow.results import Bounds, Observable
from helmflow.samplers.independence import IndependenceChain, independence_metropolis
from helmflow.shapes import Configs, Values
from helmflow.skeleton.energy_trial import EnergyTrial
from helmflow.skeleton.kept import Form, Kept
from helmflow.skeleton.limits import NOTICEABLE
from helmflow.skeleton.run import Run, Stage

Array = np.ndarray
Columns = Mapping[str, Tensor]
"""What is known of the samples, one row each: ``work``, ``log_q``, and whatever was measured."""

Measure = Callable[[Configs], Columns]

IN_CACHE = 256
"""Configurations carried through a flow at a time, so that they stay in the caches."""

TRIED, REPEATED = 8, 32
"""Draws on which an energy is tried first; one in so many samples is evaluated again at once."""


@dataclass(frozen=True)
class Batches:
    """Samples drawn at a time, in the first round, and at most; every round doubles them.

    ``reserve``: energies that later rounds leave for checks, where they are limited.
    """

    size: int
    least: int
    most: int
    reserve: int = 0

    @property
    def spent(self) -> int:
        """Energies that a batch takes, those that are evaluated again among them."""
        return self.size + -(-self.size // REPEATED)

    @property
    def first(self) -> int:
        """Energies until the first batch is drawn, with those of the trial."""
        return self.spent + 3 * TRIED + 2


@dataclass(frozen=True)
class Weighted:
    """Samples of a flow with their works, and -ln Z in kT by one-sided perturbation."""

    columns: Columns
    estimate: Estimate

    @property
    def work(self) -> Array:
        """w = u + ln q of every sample (n,)."""
        return self.columns["work"].numpy()

    @property
    def log_w(self) -> Array:
        """Log weights (n,)."""
        return -self.work

    @property
    def bounds(self) -> Bounds | None:
        """``<w>_p <= -ln Z <= <w>_q`` (Gibbs and Bogoliubov), the former by reweighting."""
        work = self.work
        if not np.isfinite(work).all():
            return None
        stderr = float(work.std(ddof=1)) / math.sqrt(len(work))
        lower = reweight(work, -work)
        return Bounds(lower.value, float(work.mean()), lower.stderr, stderr)

    @property
    def measured(self) -> Mapping[str, Array]:
        """What was measured on the samples, by name, in the order of ``measure``."""
        known = ("log_q", "work")
        return {name: column.numpy() for name, column in self.columns.items() if name not in known}

    def chain(self, run: Run) -> IndependenceChain:
        """The Metropolis chain over the samples."""
        return independence_metropolis(self.log_w, run.stream("metropolis"))

    def arrays(self) -> dict[str, Array]:
        """What the report draws of weighted samples."""
        n = len(self.work)
        return {
            "lam": np.array([0.0]),
            "node": np.zeros(n, dtype=np.int64),
            "chain": np.zeros(n, dtype=np.int64),
            "step": np.arange(n),
            "work": self.work,
            "log_q": self.columns["log_q"].numpy(),
        }


def weighted_samples(
    flow: Density, u: ReducedPotential, measure: Measure, batches: Batches, run: Run
) -> Weighted:
    """Draw until the error of ln Z is at most ``target_error``, or samples or budget run out.

    ``measure(x)`` adds columns to ``log_q`` and ``work``. Every round is kept. Raises
    ``BudgetError`` if ``max_evaluations`` does not reach the first batch, and InputError where
    ``u`` is no function of a configuration alone, on draws of the flow.
    """
    trial = run.trial
    if trial is None:
        x, _ = draw(flow, TRIED, run.stream("trial"))
        trial = run.try_energy(EnergyTrial(u, x, run.settings.target_error or NOTICEABLE))

    def make(stage: Stage) -> Weighted:
        return _rounds(flow, trial, measure, batches, run, stage)

    def unpack(kept: Kept) -> Weighted:
        return _weighted(kept.tensors, kept.facts["columns"])

    form = Form(lambda made: Kept(made.columns, {"columns": list(made.columns)}), unpack)
    return run.once("samples", make, form)


def _rounds(
    flow: Density,
    trial: EnergyTrial,
    measure: Measure,
    batches: Batches,
    run: Run,
    stage: Stage,
) -> Weighted:
    goal, generator = run.settings.target_error or math.inf, run.stream("samples")
    most = min(batches.most, _whole(run.budget.left - batches.reserve, batches))
    wanted, known = int(min(batches.least, max(most, batches.size))), None
    saved = stage.load()
    if saved is not None:
        tensors, facts = saved
        generator.set_state(tensors.pop("generator"))
        known = _weighted(tensors, facts["columns"])
        most, wanted = facts["most"], facts["wanted"]
    while True:
        before = 0 if known is None else len(known.work)
        parts = [] if known is None else [known.columns]
        for _ in range(before, wanted, batches.size):
            with torch.no_grad():
                x, log_q = flow.sample_and_log_prob(batches.size, generator)
                row = {"log_q": log_q, "work": density_work(x, log_q, trial.u)}
                again = slice(-(-batches.size // REPEATED))
                trial.repeat(x[again], (row["work"] - log_q)[again])
                parts.append({**row, **measure(x)})
        names = list(parts[0])
        known = _weighted({k: torch.cat([part[k] for part in parts]) for k in names}, names)
        if wanted > before:
            done = min(1.0, goal / max(known.estimate.stderr, 1e-300))
            run.tell("sampling", done, 1.0, "", known.estimate)
            facts = {"columns": names, "most": most, "wanted": wanted}
            stage.save({**known.columns, "generator": generator.get_state()}, facts)
        if known.estimate.stderr <= goal or 2 * wanted > most:
            return known
        wanted *= 2


def _whole(left: float, batches: Batches) -> float:
    """The largest number of whole batches within a budget, in samples."""
    return left if math.isinf(left) else left // batches.spent * batches.size


def _weighted(tensors: Columns, names: list[str]) -> Weighted:
    """Columns in their order, which files do not keep."""
    columns = {name: tensors[name] for name in names}
    return Weighted(columns, fep(columns["work"].numpy()))


def draw(flow: Density, n: int, generator: Generator) -> tuple[Configs, Values]:
    """Independent samples (n, ...) of a flow and their log densities, in cache-sized batches."""
    sizes = [min(IN_CACHE, n - k) for k in range(0, n, IN_CACHE)]
    with torch.no_grad():
        parts = [flow.sample_and_log_prob(size, generator) for size in sizes]
    return torch.cat([x for x, _ in parts]), torch.cat([log_q for _, log_q in parts])


def expected_acceptance(log_w: Array) -> Observable:
    """Of independence Metropolis, from the weights alone."""
    rate = min(max(acceptance_rate(log_w), 0.0), 1.0)  # one dominant weight: 0 up to rounding
    return Observable("acceptance, 1 - Gini", rate, acceptance_error(log_w))
