"""Crystals and lattice fields: free energies along the path from a Gaussian base."""

from abc import abstractmethod
from collections.abc import Collection
from dataclasses import replace
from typing import ClassVar

from helmflow.densities.base import Density
from helmflow.densities.gaussian import Gaussian
from helmflow.families.base import Family
from helmflow.families.flow.certificate import flow_checks
from helmflow.families.flow.field_volumes import field_volumes
from helmflow.families.flow.prepare import PreparedFlow, prepare_flow, stored_flow
from helmflow.families.flow.reads import flow_reads
from helmflow.families.flow.sampler import FlowSampler
from helmflow.families.path.analysis import Analysis, analyse, too_coarse
from helmflow.families.path.base import start_of
from helmflow.families.path.basins import basin_checks
from helmflow.families.path.certificate import certificate
from helmflow.families.path.finding import finding_of
from helmflow.families.path.ladder import LadderSampler
from helmflow.families.path.plan import NODES, Plan, finer, make_plan
from helmflow.families.path.problem import Problem
from helmflow.families.path.rounds import RoundsPlan, sample_again, sample_in_rounds
from helmflow.families.path.traces import trace_checks
from helmflow.families.path.trial import trial_of
from helmflow.generalised_work import ReducedPotential
from helmflow.results import Check
from helmflow.settings import Settings
from helmflow.skeleton.budget import Budget, BudgetError
from helmflow.skeleton.checks import failed_by_chance
from helmflow.skeleton.quantity import Finding
from helmflow.skeleton.run import Run

ALWAYS = frozenset({"sampling.chains", "sampling.steps", "sampling.max_rounds"})
ON_A_LADDER = ("auto", "ti", "frenkel_ladd")


class PathFamily(Family):
    """Systems whose free energy is that of a Gaussian base and what lies between."""

    flow_kinds: ClassVar[tuple[str, ...]]

    @abstractmethod
    def problem(self, budget: Budget) -> Problem:
        """The system in flat coordinates, its energies counted by ``budget``."""

    def reads(self, settings: Settings) -> Collection[str]:
        """Base, sampling and, for method "flow", what its kind of flow depends on."""
        keys = set(ALWAYS)
        if settings.method != "fep":
            keys.add("sampling.burn_in")
        if settings.method in ON_A_LADDER:
            keys.add("sampling.nodes")
        if settings.method != "frenkel_ladd":
            keys.add("base.kind")
            keys |= {"base.iterations"} if settings.base.kind != "harmonic" else set()
        if settings.method == "flow":
            keys |= flow_reads(settings, self.flow_kinds, self.noun)
        return keys

    def estimate(self, run: Run) -> Finding:
        """Sample between base and target in rounds until the error is met, and cross-check."""
        quantity, settings = self.quantity, run.settings
        goal = (settings.target_error or self.target_error) * quantity.n_divided
        problem = self.problem(run.budget)
        run.tell("base", 0.0)
        problem, base, base_name = start_of(problem, run)
        trial = run.try_energy(trial_of(problem, base, goal, run.stream("trial")))
        plan = make_plan(problem, base, settings)
        run.tell("base", 1.0, 1.0, base_name)
        flow = None
        if settings.method == "flow":
            flow = prepare_flow(problem, base, run, goal)
            base_name = f"{base_name}, {flow.name}"
        reserve = 0 if flow is None else flow.n_check_evaluations
        rounds = RoundsPlan(plan, goal, reserve, refine=flow is None and _may_refine(plan, run))
        sampler = _sampler(problem, base, flow, rounds, run)
        sample_in_rounds(sampler, rounds, run)
        sampler, rounds = _refined(problem, base, sampler, rounds, run)
        analysis, checks = _judged(sampler, goal, run, flow)
        if failed_by_chance(checks) and sample_again(sampler, rounds, run):
            analysis, checks = _judged(sampler, goal, run, flow)
        if sampler.n_chains:
            trial.lines = sampler.target_configurations()
        learned = None if flow is None else flow.path.estimate
        finding = finding_of(analysis, sampler, quantity, run, learned=learned)
        arrays = finding.arrays
        if flow is not None:
            checks = flow_checks(flow, analysis, problem, base, run, goal) + checks
            arrays = {**arrays, **field_volumes(problem, flow, run)}
        checks += trace_checks(sampler, analysis.headline.stderr, goal, run)
        checks = (*checks, *basin_checks(sampler, base_name), *finding.checks)
        return replace(finding, checks=checks, arrays=arrays, base=base_name)

    def flow(self, run: Run) -> tuple[Density, ReducedPotential]:
        """The flow of a run of method "flow", of displacements or fields (batch, n)."""
        problem = self.problem(run.budget)
        problem, base, _ = start_of(problem, run)
        return stored_flow(problem, base, run), lambda u: problem.target(u)[0]


def _judged(
    sampler: LadderSampler, goal: float, run: Run, flow: PreparedFlow | None
) -> tuple[Analysis, list[Check]]:
    run.tell("cross-check", 0.0)
    analysis, displaced = analyse(sampler.samples()), sampler.displaced_fraction()
    learned = flow is not None
    return analysis, certificate(analysis, goal=goal, displaced=displaced, learned=learned)


def _may_refine(plan: Plan, run: Run) -> bool:
    return run.settings.sampling.nodes is None and 2 < len(plan.lam) < NODES[1]


def _refined(
    problem: Problem, base: Gaussian, sampler: LadderSampler, rounds: RoundsPlan, run: Run
) -> tuple[LadderSampler, RoundsPlan]:
    """The same from ladders with more nodes, as long as the quadrature and the budget ask."""
    while rounds.refine and too_coarse(sampler.samples(), rounds.goal):
        plan = make_plan(problem, base, run.settings, finer(sampler.samples()))
        further = replace(rounds, plan=plan, refine=_may_refine(plan, run))
        other = _sampler(problem, base, None, further, run)
        try:
            sample_in_rounds(other, further, run)
        except BudgetError:  # the coarse ladder then tells its own error
            break
        sampler, rounds = other, further
    return sampler, rounds


def _sampler(
    problem: Problem, base: Gaussian, flow: PreparedFlow | None, rounds: RoundsPlan, run: Run
) -> LadderSampler:
    plan = rounds.plan
    generator = run.stream("chains")
    if flow is not None:
        n_draws, n_chains = (int(n) for n in plan.chains)
        return FlowSampler(problem, base, flow.made.density, (n_draws, n_chains), generator)
    fields = problem.fields(base) if plan.controls else []
    return LadderSampler(problem, base, plan.lam, plan.chains, fields, generator)
