"""Points of phase space: positions on a manifold, momenta tangent to it."""

from helmflow.errors import InputError
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.sphere import UNIT_TOLERANCE, Sphere
from helmflow.manifolds.torus import require_rows
from helmflow.shapes import Configs


def require_phase_space(manifold: Manifold, x: Configs) -> None:
    """Raise InputError unless rows of x are (q, p), q a point and p tangent to the manifold at q.

    A momentum is tangent if ``|q . p| <= 1e-9 (1 + |p|)`` on a sphere; elsewhere all are.
    """
    require_rows(x, 2 * manifold.n_coordinates)
    q, p = x.chunk(2, -1)
    manifold.require(q)
    if not isinstance(manifold, Sphere) or len(x) == 0:
        return
    across = (q * p).sum(-1).abs()
    wrong = across > UNIT_TOLERANCE * (1.0 + p.norm(dim=-1))
    if bool(wrong.any()):
        raise InputError(
            "x", "momenta tangent to the sphere", f"q . p = {across.max().item():.3g}"
        )
