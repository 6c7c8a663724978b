"""Which flow a manifold gets, and how to build it again from a few words."""

from collections.abc import Sequence
from dataclasses import dataclass

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
from helmflow.bijectors.sphere_flows import SphereRotation
from helmflow.bijectors.splines import CircularSpline
from helmflow.bijectors.torus_flows import TorusAutoregressive, TorusFrame, circle_map
from helmflow.densities.flow import Flow
from helmflow.densities.uniform import UniformAndNormal
from helmflow.errors import InputError
from helmflow.families.density.plan import DensityPlan
from helmflow.generalised_work import ReducedPotential
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.sphere import Sphere, spread_points
from helmflow.nets.mlp import Conditioner
from helmflow.streams import stream

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
    ``plain``: the base alone, for local densities to be mixed with.
    """

    size: int | None = None
    even: bool = False
    angles: str = "given"
    splines: bool = False
    order: Sequence[int] | None = None
    seen: Sequence[Sequence[int]] | None = None
    plain: bool = False


def potential_map(
    manifold: Manifold, architecture: Architecture, seed: int, plan: DensityPlan
) -> tuple[PotentialMap, str]:
    """A potential map before its fit, and its name."""
    sizes = plan.sizes(manifold)
    if architecture.size is None or architecture.size >= len(sizes):
        raise InputError("manifold", "one with potential maps", repr(manifold))
    *size, _ = sizes[architecture.size]
    potential: LinearPotential
    if manifold.n_angles:
        potential = FourierPotential(manifold.dim, *size)
        name = f"implicit potential map, {len(potential.coefficients)} Fourier coefficients"
        return TorusPotentialMap(potential, manifold.dim), name
    n, generator = int(size[0]), stream(seed, f"centres {architecture.size}")
    potential = RadialPotential(spread_points(Sphere(manifold.dim), n, generator), size[1])
    name = f"implicit potential map, {n} centres"
    if architecture.even:
        one = torch.eye(manifold.n_coordinates, dtype=torch.float64)
        potential = SymmetrisedPotential(potential, torch.stack((one, -one)))
        name += ", even"
    return SpherePotentialMap(potential, manifold.dim), name


def untrained(manifold: Manifold, architecture: Architecture, seed: int) -> tuple[Flow, str]:
    """A flow that is trained, before that, and its name."""
    generator = stream(seed, "network")
    base = UniformAndNormal(manifold)
    centres = CENTRES if manifold.n_angles or len(manifold.factors) > 1 else MORE_CENTRES
    circle = (
        Composed([CircularSpline(12), Rotation()]) if architecture.splines else circle_map(centres)
    )
    kind = "splines" if architecture.splines else "Moebius mixtures"
    if manifold.n_angles:
        width = [32, 32] if architecture.splines else [16]
        chain = _torus_layers(manifold.dim, circle, width, architecture, generator)
        given = architecture.angles if architecture.seen is None else "given those they depend on"
        return Flow(base, Chain(chain)), f"autoregressive {kind}, angles {given}"
    chain = []
    places = list(range(len(manifold.factors)))
    for order in (places, places[::-1]):
        chain += _rotations(manifold, generator)
        chain.append(
            ProductAutoregressive(manifold, circle, Conditioner([24], generator), order=order)
        )
    return Flow(base, Chain(chain)), f"autoregressive {kind}, factor by factor, 2 layers"


def _torus_layers(
    dim: int,
    circle: Elementwise,
    hidden: list[int],
    architecture: Architecture,
    generator: torch.Generator,
) -> list[Bijector]:
    forwards = list(range(dim)) if architecture.order is None else list(architecture.order)
    one_layer = architecture.splines or architecture.angles != "given"
    layers: list[Bijector] = [
        TorusAutoregressive(
            dim,
            circle,
            Conditioner(hidden, generator),
            order=order,
            relative=architecture.angles == "relative",
            seen=architecture.seen,
        )
        for order in ([forwards] if one_layer else [forwards, forwards[::-1]])
    ]
    if architecture.angles == "sums":
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


def empty_flow(
    manifold: Manifold, architecture: Architecture, seed: int, plan: DensityPlan
) -> tuple[Flow, str]:
    """The flow of an architecture before it is fitted, and its name."""
    if architecture.plain:
        return Flow(UniformAndNormal(manifold), Chain([])), "no flow"
    if architecture.size is None:
        return untrained(manifold, architecture, seed)
    bijector, name = potential_map(manifold, architecture, seed, plan)
    return Flow(UniformAndNormal(manifold), Inverse(bijector)), name
