"""Free energies, averages and their errors: pure functions of works and reduced potentials."""

from helmflow.estimators.autocorrelation import Autocorrelation, integrated_autocorrelation
from helmflow.estimators.bar import bar, overlap
from helmflow.estimators.diagnostics import (
    acceptance_error,
    acceptance_rate,
    forward_ess,
    pareto_k,
    rejection_tau,
    work_bounds,
)
from helmflow.estimators.equilibration import Equilibration, equilibration
from helmflow.estimators.estimate import Estimate, format_uncertainty
from helmflow.estimators.fep import fep
from helmflow.estimators.mbar import MultistateEstimate, mbar
from helmflow.estimators.reweighting import kish_ess, log_mean_exp, log_sum_exp, reweight

__all__ = [
    "Autocorrelation",
    "Equilibration",
    "Estimate",
    "MultistateEstimate",
    "acceptance_error",
    "acceptance_rate",
    "bar",
    "equilibration",
    "fep",
    "format_uncertainty",
    "forward_ess",
    "integrated_autocorrelation",
    "kish_ess",
    "log_mean_exp",
    "log_sum_exp",
    "mbar",
    "overlap",
    "pareto_k",
    "rejection_tau",
    "reweight",
    "work_bounds",
]
