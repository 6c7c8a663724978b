"""Losses of the work, to be minimised over the parameters of a flow."""

from helmflow.objectives.divergences import (
    forward_kl,
    log_variance,
    on_policy_log_variance,
    reverse_kl,
    two_sided,
    two_sided_map,
)
from helmflow.objectives.evidence import bracket_penalty, evidence_bound
from helmflow.objectives.known_gradient import with_known_gradient
from helmflow.objectives.path_gradient import path_gradient_reverse_kl
from helmflow.objectives.score_function import leave_one_out, lin_log, trust_region_power

__all__ = [
    "bracket_penalty",
    "evidence_bound",
    "forward_kl",
    "leave_one_out",
    "lin_log",
    "log_variance",
    "on_policy_log_variance",
    "path_gradient_reverse_kl",
    "reverse_kl",
    "trust_region_power",
    "two_sided",
    "two_sided_map",
    "with_known_gradient",
]
