"""Rounds of sampling until the target error is met, with a checkpoint every few sweeps."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.nodes import Nodes
from helmflow.recipes.path.analysis import effective_samples, headline
from helmflow.recipes.path.certificate import ENOUGH
from helmflow.recipes.path.ladder import LadderSampler
from helmflow.recipes.path.plan import Plan
from helmflow.results import Event, RunDirectory
from helmflow.settings import Settings

Progress = Callable[[Event], None]

CHUNK = (10, 1)
"""Least sweeps between checkpoints: for compiled energies, and for costly ones."""

STALLED = 4
"""Rounds within which the error must have fallen."""

LOST = 0.05
"""Fraction of displaced particles at which the target is no longer the crystal asked for."""


@dataclass
class Rounds:
    """The loop around a sampler; ``scale`` turns an estimate into (value, stderr) to show."""

    sampler: LadderSampler
    plan: Plan
    settings: Settings
    goal: float  # kT, whole system
    scale: Callable[[Estimate], tuple[float, float]]
    progress: Progress
    directory: RunDirectory | None
    history: list[float] = field(default_factory=list)  # errors after each round
    pending: int = 0  # sweeps left in the current round
    spent: tuple[float, float] = (0.0, 0.0)  # processor and wall seconds before a resume

    def run(self) -> None:
        """Sample until the error is met, the budget is spent, or going on is pointless."""
        self._start()
        while self.pending:
            sweeps = min(self.pending, self._chunk())
            self.sampler.sample(sweeps)
            self.pending -= sweeps
            current = self._report()
            if not self.pending:
                self.history.append(current.stderr)
                self.pending = self._wanted(current)
            self._save()

    def _chunk(self) -> int:
        """Sweeps until the next checkpoint: a growing part, so that their cost stays small."""
        return max(CHUNK[self.sampler.problem.costly], self.sampler.n_sweeps // 8)

    def samples(self) -> Nodes:
        """Everything recorded so far, by node."""
        state = self.sampler.state()
        return Nodes.from_columns(
            self.plan.lam, self.sampler.node, state["work"].numpy(), state["controls"].numpy()
        )

    def _start(self) -> None:
        self._clock = (time.process_time(), time.time())
        saved = self.directory.load_checkpoint() if self.directory is not None else None
        if saved is not None:
            tensors, _ = saved
            self.history = tensors.pop("history").tolist()
            self.pending = int(tensors.pop("pending"))
            self.spent = tuple(tensors.pop("spent").tolist())
            self.sampler.restore(tensors)
            return
        self.pending = self.plan.sweeps
        self.sampler.burn_in(self.plan.burn_in, self._burnt)

    def _burnt(self, done: int, total: int) -> None:
        self.progress(self._event("burn-in", done, total, f"{self.sampler.n_kicks} kicks"))

    def _wanted(self, current: Estimate) -> int:
        """Sweeps of the next round; 0 to stop."""
        done = self.sampler.n_sweeps
        stalled = len(self.history) > STALLED and current.stderr >= self.history[-1 - STALLED]
        lost = (self.sampler.displaced_fraction() or 0.0) > LOST
        total = self._needed(current)
        finished = total <= done or len(self.history) >= self.plan.max_rounds
        if finished or stalled or lost:
            return 0
        return self._affordable(min(max(total - done, 2), 2 * max(done, 8)))

    def _needed(self, current: Estimate) -> int:
        """Sweeps in all that the goal and the certificate ask for, with a tenth to spare."""
        done, ratio = self.sampler.n_sweeps, 0.0
        if current.stderr > self.goal:
            ratio = min((current.stderr / self.goal) ** 2, 1e6)
        effective = effective_samples(self.samples())
        if effective < ENOUGH:
            ratio = max(ratio, ENOUGH / effective)
        return math.ceil(1.1 * done * ratio) if ratio else done

    def _affordable(self, sweeps: int) -> int:
        budget = self.settings.max_evaluations
        if budget is None:
            return sweeps
        left = budget - self.sampler.problem.n_evaluations
        chunk = min(sweeps, self._chunk())
        per_chunk = chunk * self.sampler.evaluations_per_sweep + self.sampler.n_chains
        return max(min(sweeps, int(left / per_chunk) * chunk), 0)

    def _report(self) -> Estimate:
        current = headline(self.samples())
        done, needed = self.sampler.n_sweeps, self._needed(current)
        detail = f"{len(self.plan.lam)} nodes, {self.sampler.n_kicks} kicks"
        self.progress(self._event("sampling", done, needed, detail, current))
        return current

    def _event(
        self, stage: str, done: float, total: float, detail: str, current: Estimate | None = None
    ) -> Event:
        value, stderr = (None, None) if current is None else self.scale(current)
        evaluations = self.sampler.problem.n_evaluations
        return Event(stage, done, total, detail, value, stderr, evaluations)

    def elapsed(self) -> tuple[float, float]:
        """Processor and wall seconds of all sessions of this run."""
        cpu, wall = self._clock
        return self.spent[0] + time.process_time() - cpu, self.spent[1] + time.time() - wall

    def _save(self) -> None:
        if self.directory is None:
            return
        tensors = self.sampler.state()
        tensors["history"] = torch.tensor(self.history, dtype=torch.float64)
        tensors["pending"] = torch.tensor(self.pending)
        tensors["spent"] = torch.tensor(self.elapsed(), dtype=torch.float64)
        self.directory.save_checkpoint(tensors, {})


def check_budget(sampler: LadderSampler, plan: Plan, settings: Settings) -> None:
    """Raise InputError when ``max_evaluations`` does not reach the end of the first round."""
    if settings.max_evaluations is None:
        return
    sweeps = 2 * plan.burn_in + plan.sweeps
    needed = sampler.problem.n_evaluations + sweeps * sampler.evaluations_per_sweep
    if needed > settings.max_evaluations:
        raise InputError(
            "max_evaluations", f"at least {math.ceil(needed)}", settings.max_evaluations
        )
