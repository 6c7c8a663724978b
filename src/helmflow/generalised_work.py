"""Generalised work: the one quantity that training, sampling and estimators consume."""

from collections.abc import Callable

from torch import Tensor

from helmflow.bijectors.base import Bijector, Identity
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values

ReducedPotential = Callable[[Configs], Values]
"""Reduced potential u (batch,), in kT, of configurations (batch, *event)."""


def work(
    x: Configs,
    u_from: ReducedPotential,
    u_to: ReducedPotential,
    bijector: Bijector | None = None,
) -> Values:
    """Work (batch,) of carrying samples x of one state to another, through a map if given.

    ``w(x) = u_to(f(x)) - u_from(x) - log|det df/dx|``, in kT. With ``u_from = u_A``,
    ``u_to = u_B`` and x from A this is w_F; the reverse work w_R is
    ``work(y, u_B, u_A, Inverse(f))`` with y from B (not minus the forward work).
    Source: C. Jarzynski, doi:10.1103/PhysRevE.65.046122.
    """
    y, log_det = (bijector or Identity()).forward(x)
    return require_energies(u_to(y), len(y)) - require_energies(u_from(x), len(x)) - log_det


def density_work(x: Configs, log_q: Values, u: ReducedPotential) -> Values:
    """Work (batch,) from a normalised density (free energy zero) to a state, in kT.

    ``w(x) = u(x) + log q(x)``: minus the log importance weight, with <w> = f + KL(q || p).
    For x from q this is w_F; for x from the state, w_R is minus this. Raises InputError for
    energies of another shape, which would spread over the batch.
    """
    return require_energies(u(x), len(x)) + log_q


def require_energies(u: Values, n: int, field: str = "energy") -> Values:
    """The energies; raises InputError unless they are a tensor of n real numbers on the CPU."""
    if not isinstance(u, Tensor):
        raise InputError(field, f"a tensor of energies ({n},)", type(u).__name__)
    if u.shape != (n,):
        raise InputError(field, f"energies of shape ({n},)", tuple(u.shape))
    if not u.is_floating_point():
        raise InputError(field, "energies in floating point", u.dtype)
    if u.device.type != "cpu":
        raise InputError(field, "energies on the CPU", u.device)
    return u


def require_gradients(gradient: object, x: Configs, field: str) -> None:
    """Raise ``InputError(field, ...)`` for gradients that are no tensor of the shape of x."""
    if not isinstance(gradient, Tensor) or gradient.shape != x.shape:
        got = tuple(getattr(gradient, "shape", ())) or type(gradient).__name__
        raise InputError(field, f"gradients of shape {tuple(x.shape)}", got)
