"""Which flow a manifold gets, and how to build it again from a few words."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from helmflow.bijectors.base import Bijector, Chain, Inverse
from helmflow.bijectors.circle_maps import Rotation
from helmflow.bijectors.conjugated import Part
from helmflow.bijectors.elementwise import Composed, Elementwise
from helmflow.bijectors.potential_map import PotentialMap, SpherePotentialMap, TorusPotentialMap
from helmflow.bijectors.potentials import (
    FourierPotential,
    LinearPotential,
    RadialPotential,
    SymmetrisedPotential,
)
from helmflow.bijectors.product_flow import ProductAutoregressive
from helmflow.bijectors.radial_centres import spread_points
from helmflow.bijectors.sphere_flows import RecursiveSphere, SphereRotation
from helmflow.bijectors.splines import CircularSpline
from helmflow.bijectors.torus_flows import TorusAutoregressive, TorusFrame, circle_map
from helmflow.densities.flow import Flow
from helmflow.densities.reference import UniformAndNormal
from helmflow.errors import InputError
from helmflow.generalised_work import ReducedPotential
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.product import Product
from helmflow.manifolds.sphere import Sphere
from helmflow.manifolds.torus import Torus
from helmflow.nets.mlp import Conditioner
from helmflow.streams import stream

TORUS_SIZES = {1: ((8, 64), (24, 192)), 2: ((6, 24), (10, 48), (16, 64))}
"""By dimension: radius in Fourier space, and nodes per angle."""

SPHERE_SIZES = {
    1: ((24, 8.0, 48), (64, 40.0, 128)),
    2: ((100, 4.0, 16), (200, 6.0, 20), (400, 10.0, 40)),
    3: ((300, 6.0, 12), (700, 8.0, 16)),
}
"""By dimension: centres, their sharpness, and nodes per height."""

ALIKE = 1e-9
"""Difference of energies, in kT, below which two are the same."""


@dataclass(frozen=True)
class Architecture:
    """A flow in words.

    ``size`` is the place in the list of potential maps for the manifold, None for a trained flow.
    ``even``: the same at x and -x. ``angles`` of a trained flow on a torus: "given", "relative"
    (each to the one before) or "sums" (of all up to each). ``splines``: circular splines, whose
    inverse is as fast as they are, in place of the smoother Moebius mixtures. ``order`` and
    ``seen``: the order of the angles and what each depends on, where the energy couples few.
    """

    size: int | None = None
    even: bool = False
    angles: str = "given"
    splines: bool = False
    order: Sequence[int] | None = None
    seen: Sequence[Sequence[int]] | None = None

    def to_json(self) -> str:
        """For the header of a file; `from_json` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Architecture":
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


def n_potential_maps(manifold: Manifold) -> int:
    """How many sizes of potential maps there are for a manifold: none where they are no use."""
    if isinstance(manifold, Torus):
        return len(TORUS_SIZES.get(manifold.dim, ()))
    return len(SPHERE_SIZES.get(manifold.dim, ())) if isinstance(manifold, Sphere) else 0


def potential_map(
    manifold: Manifold, chosen: Architecture, seed: int
) -> tuple[PotentialMap, int, str]:
    """A potential map before its fit, the nodes per dimension to fit it with, and its name."""
    if isinstance(manifold, Torus) and chosen.size is not None:
        radius, nodes = TORUS_SIZES[manifold.dim][chosen.size]
        potential = FourierPotential(manifold.dim, radius)
        name = f"implicit potential map, {len(potential.coefficients)} Fourier coefficients"
        return TorusPotentialMap(potential, manifold.dim), nodes, name
    if isinstance(manifold, Sphere) and chosen.size is not None:
        n, sharpness, nodes = SPHERE_SIZES[manifold.dim][chosen.size]
        generator = stream(seed, f"centres {chosen.size}")
        centres = spread_points(manifold, n, generator)
        inner: LinearPotential = RadialPotential(centres, sharpness)
        name = f"implicit potential map, {n} centres"
        if chosen.even:
            one = torch.eye(manifold.n_coordinates, dtype=torch.float64)
            inner, name = SymmetrisedPotential(inner, torch.stack((one, -one))), f"{name}, even"
        return SpherePotentialMap(inner, manifold.dim), nodes, name
    raise InputError("manifold", "one with potential maps", repr(manifold))


def untrained(manifold: Manifold, chosen: Architecture, seed: int) -> tuple[Flow, str]:
    """A flow that is trained, before that, and its name; InputError for other manifolds."""
    generator = stream(seed, "network")
    base = UniformAndNormal(manifold)
    circle = Composed([CircularSpline(12), Rotation()]) if chosen.splines else circle_map(5)
    width = [32, 32] if chosen.splines else [16]
    kind = "splines" if chosen.splines else "Moebius mixtures"
    chain: list[Bijector] = []
    if isinstance(manifold, Torus):
        chain = _torus_layers(manifold.dim, circle, width, chosen, generator)
        given = chosen.angles if chosen.seen is None else "given those they depend on"
        return Flow(base, Chain(chain)), f"autoregressive {kind}, angles {given}"
    if isinstance(manifold, Sphere) and manifold.dim > 1:
        circle = circle if chosen.splines else circle_map(8)
        for _ in range(2):
            chain += [
                SphereRotation(manifold.dim, generator),
                RecursiveSphere(manifold.dim, circle, Conditioner([24], generator)),
            ]
        return Flow(base, Chain(chain)), f"recursive {kind}, 2 layers"
    if isinstance(manifold, Product):
        places = list(range(len(manifold.factors)))
        for order in (places, places[::-1]):
            chain += _rotations(manifold, generator)
            chain.append(
                ProductAutoregressive(manifold, circle, Conditioner([24], generator), order=order)
            )
        return Flow(base, Chain(chain)), f"autoregressive {kind}, factor by factor, 2 layers"
    raise InputError("manifold", "T1, T2, ..., S2, S3, ... or a product of them", repr(manifold))


def _torus_layers(
    dim: int,
    circle: Elementwise,
    hidden: list[int],
    chosen: Architecture,
    generator: torch.Generator,
) -> list[Bijector]:
    forwards = list(range(dim)) if chosen.order is None else list(chosen.order)
    one_layer = chosen.splines or chosen.angles != "given"
    layers: list[Bijector] = [
        TorusAutoregressive(
            dim,
            circle,
            Conditioner(hidden, generator),
            order=order,
            relative=chosen.angles == "relative",
            seen=chosen.seen,
        )
        for order in ([forwards] if one_layer else [forwards, forwards[::-1]])
    ]
    if chosen.angles == "sums":
        layers.append(TorusFrame(torch.eye(dim) - torch.eye(dim).roll(-1, 1).tril()))
    return layers


def _rotations(manifold: Product, generator: torch.Generator) -> list[Bijector]:
    """A learned rotation of every sphere among the factors."""
    found: list[Bijector] = []
    start = 0
    for factor, size in zip(manifold.factors, manifold.sizes, strict=True):
        if isinstance(factor, Sphere):
            place = torch.arange(start, start + size)
            found.append(Part(SphereRotation(factor.dim, generator), place))
        start += size
    return found


def symmetries(manifold: Manifold, u: ReducedPotential, seed: int) -> Architecture:
    """What the energy shows of itself at a few points: even, or turning with all its angles."""
    if not isinstance(manifold, Torus | Sphere):
        return Architecture()
    x = manifold.uniform(32, stream(seed, "symmetries"))
    with torch.no_grad():
        value = u(x)
        if isinstance(manifold, Sphere):
            return Architecture(even=_alike(value, u(-x)))
        turns = manifold.dim > 2 and _alike(value, u(manifold.exp(x, torch.ones_like(x))))
    return Architecture(angles="relative" if turns else "given")


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    finite = torch.isfinite(a) & torch.isfinite(b)
    return bool(torch.equal(torch.isfinite(a), torch.isfinite(b))) and bool(
        ((a - b).abs() < ALIKE)[finite].all()
    )


def empty_flow(manifold: Manifold, chosen: Architecture, seed: int) -> tuple[Flow, str]:
    """The flow of an architecture before it is fitted, and its name."""
    if chosen.size is None:
        return untrained(manifold, chosen, seed)
    bijector, _, name = potential_map(manifold, chosen, seed)
    return Flow(UniformAndNormal(manifold), Inverse(bijector)), name
