"""A density on a manifold: fit a flow, weigh its samples, compare with quadrature."""

from helmflow.errors import InputError
from helmflow.recipes.density.flow import fit_flow
from helmflow.recipes.density.outcome import arrays_of_density, result_of_density
from helmflow.recipes.density.potential import CheckedPotential
from helmflow.recipes.density.quadrature import integrate_on_grid, surface
from helmflow.recipes.density.weighing import Clock, weigh
from helmflow.recipes.path.rounds import Progress
from helmflow.results import Event, Result, RunDirectory
from helmflow.settings import Settings
from helmflow.system import System


def run_density(
    system: System, settings: Settings, directory: RunDirectory | None, progress: Progress
) -> Result:
    """ln Z of a density with its error, exact samples, and quadrature where that is possible.

    A ``directory`` keeps the flow once it is fitted, every stage of a training and every round of
    samples: an interrupted run goes on there and ends with the same numbers.
    """
    clock = Clock()
    if settings.method not in ("auto", "fep", "flow"):
        raise InputError("method", "auto, fep or flow for a density", settings.method)
    manifold = system.manifold
    if manifold is None:
        raise InputError("kind", "density", system.kind)
    u = CheckedPotential(system)

    def report(done: float, detail: str) -> None:
        progress(Event("flow", done, 1.0, detail, energy_evaluations=u.n_evaluations))

    fitted = fit_flow(manifold, u, settings.seed, directory, report)
    weighed = weigh(fitted.flow, u, settings, directory, clock, progress)
    quadrature = integrate_on_grid(manifold, u, fitted.flow)
    result, chain = result_of_density(
        system, settings, fitted, weighed, quadrature, u.n_evaluations, clock.spent()
    )
    if directory is not None:
        directory.write_work(arrays_of_density(weighed, chain) | surface(manifold, u))
        directory.write_result(result)
    progress(Event("cross-check", 1.0, 1.0, "", result.value, result.stderr, u.n_evaluations))
    return result
