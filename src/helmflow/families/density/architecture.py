"""Which flow a manifold gets, and how to build it again from a few words."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from helmflow.bijectors.base import Bijector, Chain, Inverse
from helmflow.bijectors.circle_maps import Rotation
from helmflow.bijectors.elementwise import Composed, Elementwise
from helmflow.bijectors.part import Part
from helmflow.bijectors.potential_map import PotentialMap, SpherePotentialMap, TorusPotentialMap
from helmflow.bijectors.potentials import (
    FourierPotential,
    LinearPotential,
    RadialPotential,
    SymmetrisedPotential,
)
from helmflow.bijectors.product_flow import ProductAutoregressive
from helmflow.bijectors.radial_centres import spread_points
from helmflow.bijectors.sphere_flows import SphereRotation
from helmflow.bijectors.splines import CircularSpline
from helmflow.bijectors.torus_flows import TorusAutoregressive, TorusFrame, circle_map
from helmflow.densities.flow import Flow
from helmflow.densities.reference import UniformAndNormal
from helmflow.errors import InputError
from helmflow.generalised_work import ReducedPotential
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.sphere import Sphere
from helmflow.streams import stream

POTENTIAL_MAPS: dict[str, tuple[tuple[float, ...], ...]] = {
    "T1": ((8, 64), (24, 192)),
    "T2": ((6, 24), (10, 48), (16, 64)),
    "S1": ((24, 8.0, 48), (64, 40.0, 128)),
    "S2": ((100, 4.0, 16), (200, 6.0, 20), (400, 10.0, 40)),
    "S3": ((300, 6.0, 12), (700, 8.0, 16)),
}
"""Sizes of the potential maps of a manifold: radius in Fourier space, or centres and their
sharpness, and last the nodes per dimension that it is fitted with."""

CENTRES, MORE_CENTRES = 5, 8
"""Of the Moebius mixtures; the second for a sphere, which has one circle only."""

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
    return len(POTENTIAL_MAPS.get(repr(manifold.cover), ()))


def potential_map(
    manifold: Manifold, chosen: Architecture, seed: int
) -> tuple[PotentialMap, int, str]:
    """A potential map before its fit, the nodes per dimension to fit it with, and its name."""
    if chosen.size is None or chosen.size >= n_potential_maps(manifold):
        raise InputError("manifold", "one with potential maps", repr(manifold))
    *size, nodes = POTENTIAL_MAPS[repr(manifold.cover)][chosen.size]
    potential: LinearPotential
    if manifold.n_angles:
        potential = FourierPotential(manifold.dim, *size)
        name = f"implicit potential map, {len(potential.coefficients)} Fourier coefficients"
        return TorusPotentialMap(potential, manifold.dim), int(nodes), name
    n, generator = int(size[0]), stream(seed, f"centres {chosen.size}")
    potential = RadialPotential(spread_points(Sphere(manifold.dim), n, generator), size[1])
    name = f"implicit potential map, {n} centres"
    if chosen.even:
        one = torch.eye(manifold.n_coordinates, dtype=torch.float64)
        potential = SymmetrisedPotential(potential, torch.stack((one, -one)))
        name += ", even"
    return SpherePotentialMap(potential, manifold.dim), int(nodes), name


def untrained(manifold: Manifold, chosen: Architecture, seed: int) -> tuple[Flow, str]:
    """A flow that is trained, before that, and its name."""
    generator = stream(seed, "network")
    base = UniformAndNormal(manifold)
    centres = CENTRES if manifold.n_angles or len(manifold.factors) > 1 else MORE_CENTRES
    circle = Composed([CircularSpline(12), Rotation()]) if chosen.splines else circle_map(centres)
    kind = "splines" if chosen.splines else "Moebius mixtures"
    if manifold.n_angles:
        width = [32, 32] if chosen.splines else [16]
        chain = _torus_layers(manifold.dim, circle, width, chosen, generator)
        given = chosen.angles if chosen.seen is None else "given those they depend on"
        return Flow(base, Chain(chain)), f"autoregressive {kind}, angles {given}"
    chain = []
    places = list(range(len(manifold.factors)))
    for order in (places, places[::-1]):
        chain += _rotations(manifold, generator)
        chain.append(
            ProductAutoregressive(manifold, circle, [24], order=order, generator=generator)
        )
    return Flow(base, Chain(chain)), f"autoregressive {kind}, factor by factor, 2 layers"


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
            hidden,
            order=order,
            relative=chosen.angles == "relative",
            seen=chosen.seen,
            generator=generator,
        )
        for order in ([forwards] if one_layer else [forwards, forwards[::-1]])
    ]
    if chosen.angles == "sums":
        layers.append(TorusFrame(torch.eye(dim) - torch.eye(dim).roll(-1, 1).tril()))
    return layers


def _rotations(manifold: Manifold, generator: torch.Generator) -> list[Bijector]:
    """A learned rotation of every sphere among the factors."""
    places = torch.arange(manifold.n_coordinates).split(manifold.sizes)
    return [
        Part(SphereRotation(factor.dim, generator), place)
        for factor, place in zip(manifold.factors, places, strict=True)
        if factor.cover.letter == "S"
    ]


def symmetries(manifold: Manifold, u: ReducedPotential, seed: int) -> Architecture:
    """What the energy shows of itself at a few points: even, or turning with all its angles."""
    if not manifold.n_angles and manifold.letter != "S":
        return Architecture(even=manifold.cover is not manifold)
    x = manifold.uniform(32, stream(seed, "symmetries"))
    with torch.no_grad():
        value = u(x)
        if not manifold.n_angles:
            return Architecture(even=_alike(value, u(-x)))
        turns = manifold.n_angles > 2 and _alike(value, u(manifold.exp(x, torch.ones_like(x))))
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
