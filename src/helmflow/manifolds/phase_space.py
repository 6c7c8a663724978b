"""Points of phase space: positions on a manifold, momenta tangent to it."""

from helmflow.errors import InputError
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.sphere import UNIT_TOLERANCE
from helmflow.manifolds.torus import require_rows
from helmflow.shapes import Configs


def require_phase_space(manifold: Manifold, x: Configs) -> None:
    """Raise InputError unless rows of x are (q, p), q a point and p tangent to the manifold at q.

    A momentum is tangent if the rest of it is at most ``1e-9 (1 + |p|)``.
    """
    require_rows(x, 2 * manifold.n_coordinates)
    q, p = x.chunk(2, -1)
    manifold.require(q)
    across = (p - manifold.tangent(q, p)).norm(dim=-1)
    if bool((across > UNIT_TOLERANCE * (1.0 + p.norm(dim=-1))).any()):
        off = across.max().item()
        raise InputError("x", "momenta tangent to the manifold", f"off by {off:.3g}")
