"""Fitted transport flows of small shipped systems, for several test files."""

from functools import cache

from helmflow.densities.flow import Flow
from helmflow.families.flow.path_samples import fit_coefficients, sample_path
from helmflow.families.flow.recipe import MadeFlow
from helmflow.families.flow.transport import TransportRecipe, transport_flow
from helmflow.families.path.base import build_base
from helmflow.families.registry import family_of
from helmflow.settings import FlowSettings, Settings
from helmflow.skeleton.budget import Budget
from helmflow.skeleton.kept import write_kept
from helmflow.skeleton.run import Run
from helmflow.system import load_system

SETTINGS = Settings(method="flow", flow=FlowSettings(kind="transport", sweeps=8, steps=4))


@cache
def problem_and_base(name):
    problem = family_of(load_system(name)).problem(Budget())
    return problem, build_base(problem, SETTINGS)[0]


@cache
def fitted(name, n_steps=4):
    """(problem, base, fields, transport)."""
    problem, base = problem_and_base(name)
    path = sample_path(problem, base, Run("fitted", SETTINGS))
    coefficients = fit_coefficients(path.samples).coefficients
    return problem, base, path.fields, transport_flow(base, path.fields, coefficients, n_steps)


def recipe(problem, base):
    return TransportRecipe(problem, base, Run("fitted", SETTINGS), 1.0)


def save_flow(file, problem, base, transport):
    """Write a file as a run does."""
    made = MadeFlow(Flow(base, transport), transport, transport)
    write_kept(file, recipe(problem, base).form.pack(made), {})


def load_flow(path, problem, base):
    """Read it as `--flow` does."""
    return recipe(problem, base).reuse(path).transport
