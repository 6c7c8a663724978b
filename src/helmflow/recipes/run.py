"""System and settings in, result out: the one pipeline behind every method."""

import time

from helmflow.densities.gaussian import Gaussian
from helmflow.errors import InputError
from helmflow.recipes.density.run import run_density
from helmflow.recipes.flow.certificate import flow_checks
from helmflow.recipes.flow.field_volumes import ess_against_volume
from helmflow.recipes.flow.prepare import PreparedFlow, prepare_flow
from helmflow.recipes.flow.sampler import FlowSampler
from helmflow.recipes.gauge.run import run_gauge
from helmflow.recipes.path.analysis import analyse
from helmflow.recipes.path.base import build_base
from helmflow.recipes.path.certificate import certificate
from helmflow.recipes.path.kinds import PROBLEMS
from helmflow.recipes.path.ladder import LadderSampler
from helmflow.recipes.path.lattice import LatticeField
from helmflow.recipes.path.outcome import Outcome, arrays_of, result_of
from helmflow.recipes.path.plan import Plan, make_plan
from helmflow.recipes.path.problem import Problem
from helmflow.recipes.path.rounds import Progress, Rounds, check_budget
from helmflow.recipes.solvation.run import run_solvation
from helmflow.results import Event, Result, RunDirectory
from helmflow.settings import Method, Settings
from helmflow.streams import stream
from helmflow.system import System
from helmflow.tables import parse_table


def run(
    system: System, settings: Settings, directory: RunDirectory | None, progress: Progress
) -> Result:
    """Compute the free energy of a system, in rounds until ``target_error`` is met.

    With a ``directory`` every round is checkpointed, an interrupted run continues where its last
    round ended with the same numbers, and ``work.npz`` and ``result.json`` are written.
    """
    clock = (time.process_time(), time.time())
    settings = settings.resolved(system.kind)
    _require_applicable(settings, system.kind)
    if system.kind == "density":
        return run_density(system, settings, directory, progress)
    if system.kind == "gauge_field":
        return run_gauge(system, settings, directory, progress)
    if system.kind == "two_states":
        return run_solvation(system, settings, directory, progress)
    if settings.method == "frenkel_ladd" and system.kind != "crystal":
        raise InputError("method", "auto, ti, bar or fep for a lattice field", settings.method)
    problem = PROBLEMS[system.kind](system)
    outcome = Outcome(system, settings, problem)
    goal = settings.target_error * outcome.per
    progress(Event("base", 0.0, 1.0))
    base, base_name = build_base(problem, settings)
    plan = make_plan(problem, base, settings)
    progress(Event("base", 1.0, 1.0, base_name, energy_evaluations=problem.n_evaluations))
    flow = None
    if settings.method == "flow":
        flow = prepare_flow(problem, base, settings, goal, directory, progress)
        base_name = f"{base_name}, {flow.name}"
    sampler = _sampler(problem, base, flow, plan, settings)
    check_budget(sampler, plan, settings)
    rounds = Rounds(sampler, plan, settings, goal, outcome.value_and_stderr, progress, directory)
    prepared = (time.process_time() - clock[0], time.time() - clock[1])
    rounds.run()
    progress(Event("cross-check", 0.0, 1.0, energy_evaluations=problem.n_evaluations))
    analysis = analyse(rounds.samples())
    checks = certificate(analysis, goal=goal, displaced=sampler.displaced_fraction())
    if flow is not None:
        checks = flow_checks(flow, analysis, problem, base, settings, goal) + checks
    spent = tuple(a + b for a, b in zip(prepared, rounds.elapsed(), strict=True))
    others = () if flow is None else (flow.path.estimate,)
    result = result_of(outcome, analysis, checks, sampler, base_name, spent, others)
    if directory is not None:
        arrays = dict(arrays_of(outcome, analysis, sampler, base))
        if isinstance(problem, LatticeField) and flow is not None:
            kind = str(settings.flow.kind)
            arrays |= ess_against_volume(problem, directory.path, kind, settings.seed)
        directory.write_work(arrays)
        directory.write_result(result)
    progress(
        Event("cross-check", 1.0, 1.0, "", result.value, result.stderr, problem.n_evaluations)
    )
    return result


def _require_applicable(settings: Settings, kind: str) -> None:
    """Raise InputError for settings of flows that say nothing about this run."""
    flow = settings.flow
    if flow.source is not None and settings.method != "flow":
        raise InputError("flow", "--method flow with it", settings.method)
    if kind == "gauge_field":
        return
    if flow.start == "loops":
        raise InputError("flow.start", "base, lattice or transport", "loops, for U(1) links only")
    if flow.coupling is not None:
        raise InputError("flow.coupling", "none", "one, which is for U(1) links only")


def _sampler(
    problem: Problem, base: Gaussian, flow: PreparedFlow | None, plan: Plan, settings: Settings
) -> LadderSampler:
    generator = stream(settings.seed, "chains")
    if flow is not None:
        n_draws, n_chains = (int(n) for n in plan.chains)
        return FlowSampler(problem, base, flow.flow, (n_draws, n_chains), generator)
    fields = problem.fields(base) if plan.controls else []
    return LadderSampler(problem, base, plan.lam, plan.chains, fields, generator)


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
    crystal), "flow" (a fitted flow, cross-checked by integration). ``target_error`` is the
    standard error to reach, in kT per particle for crystals and in nats for fields. Nothing is
    written; ``helmflow run`` keeps a directory instead.
    """
    table = {"method": method, "seed": seed, "target_error": target_error}
    settings = parse_table(Settings, {k: v for k, v in table.items() if v is not None})
    return run(system, settings, None, progress or _silent)


def _silent(_: Event) -> None:
    return
