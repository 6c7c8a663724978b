"""Losses of the work, to be minimised over the parameters of a flow."""

from helmflow.objectives.divergences import forward_kl, reverse_kl
from helmflow.objectives.known_gradient import with_known_gradient
from helmflow.objectives.log_variance import log_variance, on_policy_log_variance
from helmflow.objectives.path_gradient import path_gradient_reverse_kl
from helmflow.objectives.two_sided import two_sided, two_sided_map

__all__ = [
    "forward_kl",
    "log_variance",
    "on_policy_log_variance",
    "path_gradient_reverse_kl",
    "reverse_kl",
    "two_sided",
    "two_sided_map",
    "with_known_gradient",
]
