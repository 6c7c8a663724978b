"""System and settings in, result out: the one pipeline behind every method."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from helmflow.densities.gaussian import Gaussian
from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.integration import Ladder
from helmflow.recipes.analysis import Analysis, Samples, analyse, climb, integrate
from helmflow.recipes.base import build_base, einstein_base
from helmflow.recipes.certificate import certificate
from helmflow.recipes.crystal import Crystal
from helmflow.recipes.ladder import LadderSampler
from helmflow.recipes.lattice import LatticeField
from helmflow.recipes.outcome import Outcome, arrays_of, result_of
from helmflow.recipes.problem import Problem
from helmflow.results import Event, Result, RunDirectory
from helmflow.settings import Method, Settings
from helmflow.streams import stream
from helmflow.system import System

Progress = Callable[[Event], None]

PROBLEMS = {"crystal": Crystal, "lattice_field": LatticeField}

PILOT = 256
"""Draws from the base that decide how many nodes the ladder needs."""

GAP = 1.6
"""Largest spread of (step in lambda) x work between neighbouring nodes, in kT."""

NODES = (5, 24)
CHAINS = 192
BURN_IN = 8
FIRST_SWEEPS = 10


@dataclass(frozen=True)
class Plan:
    """Where to sample: nodes, chains at each, and whether control variates are used."""

    lam: np.ndarray
    chains: np.ndarray
    controls: bool
    burn_in: int
    sweeps: int  # recorded in the first round
    max_rounds: int


def run(
    system: System, settings: Settings, directory: RunDirectory | None, progress: Progress
) -> Result:
    """Compute the free energy of a system, in rounds until ``target_error`` is met.

    With a ``directory`` every round is checkpointed, an interrupted run continues where its last
    round ended with the same numbers, and ``work.npz`` and ``result.json`` are written.
    """
    clock = (time.process_time(), time.time())
    settings = settings.resolved(system.kind)
    problem = PROBLEMS[system.kind](system)
    progress(Event("base", 0.0, 1.0))
    base = build_base(problem, settings.base, settings.seed)
    if settings.method == "frenkel_ladd":
        if system.kind != "crystal":
            raise InputError("method", "auto, ti, bar or fep for a lattice field", settings.method)
        base = einstein_base(base)
    plan = _plan(problem, base, settings)
    progress(Event("base", 1.0, 1.0, energy_evaluations=problem.n_evaluations))
    fields = problem.fields(base) if plan.controls else []
    generator = stream(settings.seed, "chains")
    sampler = LadderSampler(problem, base, plan.lam, plan.chains, fields, generator)
    outcome = Outcome(system, settings, problem, per=_sites_per_value(system), clock=clock)
    _sample(sampler, plan, settings, outcome, directory, progress)
    progress(Event("cross-check", 0.0, 1.0, energy_evaluations=problem.n_evaluations))
    analysis = analyse(_samples(sampler, plan))
    headline = _headline(settings.method, analysis)
    displaced = problem.displaced_fraction(sampler.target_positions) if len(plan.lam) > 1 else None
    checks = certificate(
        analysis, headline, target_error=settings.target_error * outcome.per, displaced=displaced
    )
    result = result_of(outcome, analysis, headline, checks, sampler)
    if directory is not None:
        directory.write_work(arrays_of(outcome, analysis, sampler, base))
        directory.write_result(result)
    progress(
        Event("cross-check", 1.0, 1.0, "", result.value, result.stderr, problem.n_evaluations)
    )
    return result


def _sites_per_value(system: System) -> int:
    return system.n_particles if system.kind == "crystal" else 1


def _plan(problem: Problem, base: Gaussian, settings: Settings) -> Plan:
    """Nodes close enough to overlap; chains where the integral's variance comes from."""
    sampling, method = settings.sampling, settings.method
    if method == "fep":
        lam, weight = np.array([0.0]), np.array([1.0])
    elif method == "bar":
        lam, weight = np.array([0.0, 1.0]), np.array([0.5, 0.5])
    else:
        n_nodes = sampling.nodes or _node_count(problem, base, settings.seed)
        ladder = Ladder.lobatto(n_nodes)
        # The spread of the corrected work grows roughly like this from base to target.
        lam, weight = ladder.lam, ladder.weight * (0.3 + ladder.lam)
    if sampling.chains:
        chains = np.full(len(lam), sampling.chains)
    else:
        total = max(CHAINS, 16 * len(lam))
        chains = np.maximum(np.rint(total * weight / weight.sum()), 16).astype(int)
    return Plan(
        lam=lam,
        chains=chains,
        controls=method == "auto",
        burn_in=BURN_IN if sampling.burn_in is None else sampling.burn_in,
        sweeps=sampling.steps or FIRST_SWEEPS,
        max_rounds=sampling.max_rounds,
    )


def _node_count(problem: Problem, base: Gaussian, seed: int) -> int:
    u = base.sample(PILOT, stream(seed, "pilot"))
    work = problem.target(u)[0] + base.log_prob(u)
    low, high = np.quantile(work.numpy(), (0.16, 0.84))  # robust against one wild draw
    spread = 0.5 * (high - low)
    for n_nodes in range(NODES[0], NODES[1]):
        if np.diff(Ladder.lobatto(n_nodes).lam).max() * spread <= GAP:
            return n_nodes
    return NODES[1]


def _sample(
    sampler: LadderSampler,
    plan: Plan,
    settings: Settings,
    outcome: Outcome,
    directory: RunDirectory | None,
    progress: Progress,
) -> None:
    """Rounds of sampling until the error is met, the budget is spent or rounds run out."""
    saved = directory.load_checkpoint() if directory is not None else None
    if saved is not None:
        sampler.restore(saved[0])
        rounds = int(saved[1]["rounds"])
    else:
        progress(Event("burn-in", 0.0, 1.0, energy_evaluations=sampler.problem.n_evaluations))
        sampler.burn_in(plan.burn_in)
        rounds = 0
    goal = settings.target_error * outcome.per
    wanted = plan.sweeps
    while rounds < plan.max_rounds:
        if rounds:
            current = _current(settings.method, sampler, plan)
            value, stderr = outcome.value_and_stderr(current)
            detail = f"{len(plan.lam)} nodes, {sampler.n_kicks} kicks"
            done = sampler.n_sweeps
            wanted = math.ceil(1.1 * done * (current.stderr / goal) ** 2)
            progress(
                Event(
                    "sampling",
                    done,
                    max(wanted, done),
                    detail,
                    value,
                    stderr,
                    sampler.problem.n_evaluations,
                )
            )
            if current.stderr <= goal:
                return
            if _budget_spent(sampler, settings, wanted - done):
                return
        sampler.sample(min(max(wanted - sampler.n_sweeps, 2), 2 * max(sampler.n_sweeps, 8)))
        rounds += 1
        if directory is not None:
            directory.save_checkpoint(sampler.state(), {"rounds": str(rounds)})


def _budget_spent(sampler: LadderSampler, settings: Settings, sweeps: int) -> bool:
    if settings.max_evaluations is None:
        return False
    per_sweep = sampler.problem.n_evaluations / max(sampler.n_sweeps, 1)
    return sampler.problem.n_evaluations + min(sweeps, 2) * per_sweep > settings.max_evaluations


def _samples(sampler: LadderSampler, plan: Plan) -> Samples:
    state = sampler.state()
    return Samples.from_columns(
        plan.lam, sampler.node, state["work"].numpy(), state["controls"].numpy()
    )


def _current(method: str, sampler: LadderSampler, plan: Plan) -> Estimate:
    samples = _samples(sampler, plan)
    if len(plan.lam) > 2:
        return integrate(samples).estimate
    return _headline(method, analyse(samples))


def _headline(method: str, analysis: Analysis) -> Estimate:
    if analysis.one_sided is not None:
        return analysis.one_sided
    if analysis.integral is None:
        return climb(analysis.rungs, "both")
    return analysis.integral.estimate


def free_energy(
    system: System,
    *,
    method: Method = "auto",
    seed: int = 0,
    target_error: float | None = None,
    progress: Progress | None = None,
) -> Result:
    """Absolute free energy of a crystal, or ln Z of a lattice field, with error and certificate.

    ``method`` names a recipe: "auto" (thermodynamic integration with control variates,
    cross-checked), "ti" (without them), "bar" and "fep" (one stage), "frenkel_ladd" (Einstein
    crystal). ``target_error`` is the standard error to reach, in kT per particle for crystals and
    in nats for fields. Nothing is written; ``helmflow run`` keeps a directory instead.
    """
    settings = Settings(method=method, seed=seed, target_error=target_error)
    return run(system, settings, None, progress or _silent)


def _silent(_: Event) -> None:
    return
