"""Fitted transport flows of small shipped systems, for several test files."""

from functools import cache

from helmflow.recipes.flow.transport import fit_coefficients, sample_path, transport_flow
from helmflow.recipes.path.base import build_base
from helmflow.recipes.path.kinds import PROBLEMS
from helmflow.settings import FlowSettings, Settings
from helmflow.system import load_system

SETTINGS = Settings(method="flow", flow=FlowSettings(sweeps=8))


@cache
def problem_and_base(name):
    system = load_system(name)
    problem = PROBLEMS[system.kind](system)
    return problem, build_base(problem, SETTINGS)[0]


@cache
def fitted(name, n_steps=4):
    """(problem, base, fields, transport)."""
    problem, base = problem_and_base(name)
    path = sample_path(problem, base, SETTINGS, lambda done, total: None)
    found, fields = fit_coefficients(path.samples), path.fields
    return problem, base, fields, transport_flow(base, fields, found.coefficients, n_steps)
