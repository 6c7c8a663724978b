"""Rounds of sampling until the target error is met, kept every few sweeps."""

import math
from dataclasses import dataclass, field, replace

from helmflow.estimators.estimate import Estimate
from helmflow.families.path.analysis import effective_samples, headline, too_coarse
from helmflow.families.path.ladder import LadderSampler
from helmflow.families.path.plan import Plan
from helmflow.skeleton.budget import BudgetError
from helmflow.skeleton.energy_trial import require_repeating
from helmflow.skeleton.kept import Form, Kept
from helmflow.skeleton.limits import EFFECTIVE_SAMPLES
from helmflow.skeleton.run import Run, Stage

CHUNK = (10, 1)
"""Fewest sweeps between two saved states: for compiled energies, and for costly ones."""

STALLED = 4
"""Rounds within which the error must have fallen."""

LOST = 0.05
"""Fraction of displaced particles at which the target is no longer the crystal asked for."""


@dataclass(frozen=True)
class RoundsPlan:
    """What to sample, the error asked for (kT, whole system), and energies to leave for checks.

    ``refine``: whether nodes too far apart end it, for more of them.
    """

    plan: Plan
    goal: float
    reserve: int = 0
    refine: bool = False

    @property
    def name(self) -> str:
        """Of the stage: a finer ladder has one of its own."""
        return f"{len(self.plan.lam)} nodes"


def sample_in_rounds(sampler: LadderSampler, plan: RoundsPlan, run: Run) -> None:
    """Sample until the error is met, the budget is spent, or going on is pointless.

    Raises ``BudgetError`` when ``max_evaluations`` does not reach the end of the first round.
    """
    _kept(f"sampling {plan.name}", sampler, plan, run)


def sample_again(sampler: LadderSampler, plan: RoundsPlan, run: Run) -> bool:
    """As many sweeps once more; whether ``max_rounds`` and ``max_evaluations`` allowed any."""
    before = sampler.n_sweeps
    if plan.plan.max_rounds > 1:
        once = replace(plan.plan, sweeps=before, max_rounds=1)
        _kept("sampling again", sampler, replace(plan, plan=once), run)
    return sampler.n_sweeps > before


def _kept(name: str, sampler: LadderSampler, plan: RoundsPlan, run: Run) -> None:
    def make(stage: Stage) -> LadderSampler:
        _Rounds(sampler, plan, run, stage).sample()
        return sampler

    def unpack(kept: Kept) -> LadderSampler:
        sampler.restore(kept.tensors)
        return sampler

    run.once(name, make, Form(lambda done: Kept(done.state()), unpack))


@dataclass
class _Rounds:
    """The loop around a sampler."""

    sampler: LadderSampler
    plan: RoundsPlan
    run: Run
    stage: Stage
    history: list[float] = field(default_factory=list)  # errors after each round
    pending: int = 0  # sweeps left in the current round

    def sample(self) -> None:
        self._start()
        while self.pending:
            sweeps = self._affordable(min(self.pending, self._chunk()))
            if sweeps == 0:
                break
            self.sampler.sample(sweeps)
            require_repeating(self.sampler.moved, self.plan.goal)
            self.pending -= sweeps
            current = self._report()
            if not self.pending:
                self.history.append(current.stderr)
                self.pending = self._wanted(current)
            self._save()

    def _chunk(self) -> int:
        """Sweeps until the next saved state: a growing part, so that their cost stays small."""
        return max(CHUNK[self.sampler.problem.costly], self.sampler.n_sweeps // 8)

    def _start(self) -> None:
        saved = self.stage.load()
        if saved is not None:
            tensors, facts = saved
            self.history, self.pending = list(facts["history"]), int(facts["pending"])
            self.sampler.restore(tensors)
            return
        plan = self.plan.plan
        self.pending = plan.sweeps
        if not self.sampler.n_sweeps:
            self._check_budget(plan)
            self.sampler.burn_in(plan.burn_in, self._burnt)

    def _check_budget(self, plan: Plan) -> None:
        budget = self.run.budget
        sweeps = (2 * plan.burn_in if self.sampler.n_chains else 0) + plan.sweeps
        needed = sweeps * self.sampler.evaluations_per_sweep + self.plan.reserve
        if needed > budget.left:
            total = math.ceil(budget.evaluations + budget.set_aside + needed)
            raise BudgetError("max_evaluations", f"at least {total}", budget.limit)

    def _burnt(self, done: int, total: int) -> None:
        require_repeating(self.sampler.moved, self.plan.goal)
        self.run.tell("burn-in", done, total, f"{self.sampler.n_kicks} kicks")

    def _wanted(self, current: Estimate) -> int:
        """Sweeps of the next round; 0 to stop."""
        done = self.sampler.n_sweeps
        stalled = len(self.history) > STALLED and current.stderr >= self.history[-1 - STALLED]
        lost = (self.sampler.displaced_fraction() or 0.0) > LOST
        total = self._needed(current)
        finished = total <= done or len(self.history) >= self.plan.plan.max_rounds
        coarse = self.plan.refine and too_coarse(self.sampler.samples(), self.plan.goal)
        if finished or stalled or lost or coarse:
            return 0
        return self._affordable(min(max(total - done, 2), 2 * max(done, 8)))

    def _needed(self, current: Estimate) -> int:
        """Sweeps in all that the goal and the certificate ask for, with a tenth to spare."""
        done, ratio = self.sampler.n_sweeps, 0.0
        if current.stderr > self.plan.goal:
            ratio = min((current.stderr / self.plan.goal) ** 2, 1e6)
        effective = effective_samples(self.sampler.samples())
        if effective < EFFECTIVE_SAMPLES.soft:
            ratio = max(ratio, EFFECTIVE_SAMPLES.soft / effective)
        return math.ceil(1.1 * done * ratio) if ratio else done

    def _affordable(self, sweeps: int) -> int:
        """As many of these sweeps as the budget reaches, in whole chunks."""
        left = self.run.budget.left - self.plan.reserve
        if math.isinf(left):
            return sweeps
        chunk = min(sweeps, self._chunk())
        per_chunk = chunk * self.sampler.evaluations_per_sweep + self.sampler.n_chains
        return max(min(sweeps, int(left / per_chunk) * chunk), 0)

    def _report(self) -> Estimate:
        current = headline(self.sampler.samples())
        detail = f"{len(self.plan.plan.lam)} nodes, {self.sampler.n_kicks} kicks"
        done, needed = self.sampler.n_sweeps, self._needed(current)
        self.run.tell("sampling", done, needed, detail, current)
        return current

    def _save(self) -> None:
        facts = {"history": self.history, "pending": self.pending}
        self.stage.save(self.sampler.state(), facts)
