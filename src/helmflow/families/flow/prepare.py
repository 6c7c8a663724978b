"""``method = "flow"``: exact samples and free energies by a flow, cross-checked without it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helmflow.densities.base import Density
from helmflow.densities.gaussian import Gaussian
from helmflow.errors import InputError
from helmflow.families.flow.coupling import CouplingRecipe
from helmflow.families.flow.field_flow import FieldRecipe
from helmflow.families.flow.path_samples import PathSamples, path_of
from helmflow.families.flow.recipe import FlowRecipe, MadeFlow
from helmflow.families.flow.transport import STEP_SAMPLES, TransportRecipe
from helmflow.families.path.problem import Problem
from helmflow.skeleton.run import Run, Stage

RECIPES: dict[str, type[FlowRecipe[Any]]] = {
    "transport": TransportRecipe,
    "coupling": CouplingRecipe,
    "local": CouplingRecipe,
    "continuous": FieldRecipe,
}
"""By ``flow.kind``; couplings of fields are made like continuous flows of fields."""


@dataclass(frozen=True)
class PreparedFlow:
    """A flow ready to be sampled, and samples that know nothing of it."""

    made: MadeFlow
    path: PathSamples
    name: str

    n_check_evaluations: int = 4 * STEP_SAMPLES
    """Energies that its checks take."""


def recipe_of(problem: Problem, base: Gaussian, run: Run, goal: float) -> FlowRecipe[Any]:
    """How the flow that the settings ask for is made."""
    kind = str(run.settings.flow.kind)
    made_like = "continuous" if kind == "coupling" and problem.noun == "field" else kind
    return RECIPES[made_like](problem, base, run, goal)


def prepare_flow(problem: Problem, base: Gaussian, run: Run, goal: float) -> PreparedFlow:
    """Sample the path, then fit, train or read the flow; the run keeps both.

    ``goal``: error asked for, kT for the whole system. Raises InputError for flows that do not
    belong to this system.
    """
    recipe, source = recipe_of(problem, base, run, goal), run.settings.flow.source
    if source is not None:  # read before anything is sampled: it may not fit
        made = run.once("flow", lambda _: recipe.reuse(Path(source)), recipe.form)
        path = path_of(problem, base, run, made.fields)
    else:
        path = path_of(problem, base, run)
        made = run.once("flow", lambda stage: recipe.make(path, stage), recipe.form)
    return PreparedFlow(made, path, f"{run.settings.flow.kind} flow")


def stored_flow(problem: Problem, base: Gaussian, run: Run) -> Density:
    """The flow that a run keeps, or the one that its settings name as a source."""
    recipe, source = recipe_of(problem, base, run, 1.0), run.settings.flow.source

    def reuse(_: Stage) -> MadeFlow:
        if source is None:
            raise InputError("run", "a run of `helmflow run --method flow`", run.name)
        return recipe.reuse(Path(source))

    return run.once("flow", reuse, recipe.form).density
