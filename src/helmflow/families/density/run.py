"""A density on a manifold: fit a flow, weigh its samples, compare with quadrature."""

from helmflow.errors import InputError
from helmflow.families.density.flow import fit_flow
from helmflow.families.density.outcome import arrays_of_density, result_of_density
from helmflow.families.density.potential import CheckedPotential
from helmflow.families.density.quadrature import integrate_on_grid, surface
from helmflow.families.density.weighing import weigh
from helmflow.families.path.rounds import Progress
from helmflow.families.weighing import Clock
from helmflow.results import Event, Result, RunDirectory
from helmflow.settings import Settings
from helmflow.system import System


def run_density(
    system: System, settings: Settings, directory: RunDirectory | None, progress: Progress
) -> Result:
    """ln Z of a density with its error, exact samples, and quadrature where that is possible.

    A ``directory`` keeps the flow once it is fitted, every stage of a training and every round of
    samples: an interrupted run goes on there and ends with the same numbers. Raises InputError
    where ``max_evaluations`` does not reach the first samples; a grid that it does not reach, and
    the picture of the surface, are left out.
    """
    clock = Clock()
    if settings.method not in ("auto", "fep", "flow"):
        raise InputError("method", "auto, fep or flow for a density", settings.method)
    manifold = system.manifold
    if manifold is None:
        raise InputError("kind", "density", system.kind)
    u, limit = CheckedPotential(system), settings.max_evaluations

    def report(done: float, detail: str) -> None:
        if limit is not None and u.n_evaluations > limit:
            raise InputError("max_evaluations", f"more than {u.n_evaluations} for a fit", limit)
        progress(Event("flow", done, 1.0, detail, energy_evaluations=u.n_evaluations))

    fitted = fit_flow(manifold, u, settings.seed, directory, report)
    weighed = weigh(fitted.flow, u, settings, directory, clock, progress)
    quadrature = integrate_on_grid(manifold, u, fitted.flow, limit)
    result, chain = result_of_density(
        system, settings, fitted, weighed, quadrature, u.n_evaluations, clock.spent()
    )
    if directory is not None:
        seen = surface(manifold, u) if limit is None else {}
        directory.write_work(arrays_of_density(weighed, chain) | seen)
        directory.write_result(result)
    progress(Event("cross-check", 1.0, 1.0, "", result.value, result.stderr, u.n_evaluations))
    return result
