"""All figures of a report, in the order of the page."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context

from helmflow.report.charge_figures import charge_history, ess_against_volume
from helmflow.report.density_figures import density_map, torsion_map
from helmflow.report.drawing import STYLE, Drawing, Work, settle
from helmflow.report.estimate_figures import comparison, convergence, history, integrand
from helmflow.report.state_figures import free_energies_of_states
from helmflow.report.structure_figures import energy_histogram, radial_distribution
from helmflow.report.work_figures import overlap_matrix, weights, work_distributions
from helmflow.results import Result

FIGURES = (
    comparison,
    density_map,
    torsion_map,
    work_distributions,
    integrand,
    convergence,
    weights,
    free_energies_of_states,
    overlap_matrix,
    radial_distribution,
    energy_histogram,
    charge_history,
    ess_against_volume,
)


def draw_all(result: Result, work: Work, metrics: Sequence[Mapping[str, Any]]) -> list[Drawing]:
    """The figures that the available arrays allow."""
    with rc_context(STYLE):
        drawings = [*(figure(result, work) for figure in FIGURES), history(result, metrics)]
        drawn = [drawing for drawing in drawings if drawing is not None]
        for drawing in drawn:
            settle(drawing.figure)
    return drawn
