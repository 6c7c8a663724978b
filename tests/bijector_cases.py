"""All bijectors, with points of what they act on and tangent frames there: a line each.

A new bijector is a line of `CASES`; `tests/bijectors/test_properties.py` does the rest.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from field_flows import couplings, fields
from helmflow.bijectors.affine import Affine, DenseAffine, HarmonicScaling, VolumeScaling
from helmflow.bijectors.base import Bijector, Chain, Identity, Inverse
from helmflow.bijectors.checkerboard import CheckerboardCoupling
from helmflow.bijectors.circle_maps import ProjectionMixture, Rotation
from helmflow.bijectors.conjugated import InCell, Part, Pinned, conjugated
from helmflow.bijectors.elementwise import Composed, ShiftScale
from helmflow.bijectors.given_torsions import (
    GivenTorsions,
    Places,
    ShiftedByTorsions,
    TurnedTorsions,
)
from helmflow.bijectors.hamiltonian import HamiltonianFlow
from helmflow.bijectors.internal import InternalCoordinates, z_matrix
from helmflow.bijectors.local_coupling import local_couplings
from helmflow.bijectors.loop_couplings import LoopCouplings
from helmflow.bijectors.moved_molecules import MovedMolecules, Surroundings
from helmflow.bijectors.particle_coupling import particle_couplings
from helmflow.bijectors.potential_map import SpherePotentialMap, TorusPotentialMap
from helmflow.bijectors.potentials import FourierPotential, RadialPotential, SymmetrisedPotential
from helmflow.bijectors.product_flow import LineAutoregressive, ProductAutoregressive
from helmflow.bijectors.spectral import SpectralFlow
from helmflow.bijectors.sphere_flows import ProjectiveLinear, RecursiveSphere, SphereRotation
from helmflow.bijectors.splines import CircularSpline
from helmflow.bijectors.torus_flows import (
    TorusAutoregressive,
    TorusCoupling,
    TorusFrame,
    circle_map,
)
from helmflow.densities.phase_space import Cotangent
from helmflow.densities.uniform import UniformAndNormal
from helmflow.manifolds.product import Euclidean, Product, parse_manifold
from helmflow.manifolds.site_graph import site_graph
from helmflow.manifolds.special_unitary import exponential, haar_matrices
from helmflow.manifolds.sphere import Sphere
from helmflow.manifolds.symmetry import crystal_symmetry
from helmflow.manifolds.torus import Torus
from helmflow.nets.attention import Attention
from helmflow.nets.mlp import Conditioner
from helmflow.streams import stream
from helmflow.system import load_system

TWO_PI = 2.0 * math.pi
SPLINE = Composed([CircularSpline(5), Rotation()])
BONDS = [(0, 1), (1, 2), (1, 3), (1, 4), (4, 5), (4, 6), (6, 7), (6, 8), (8, 9)]
MOLECULES = [[0, 1, 2], [3, 4], [5]]
CELL = torch.tensor([[1.0, 0, 0], [0.3, 1.2, 0], [-0.2, 0.1, 0.9]], dtype=torch.float64)
BOX = torch.diag(torch.tensor([1.0, 1.3, 0.9], dtype=torch.float64))
SITES = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.9, 0.1], [0.7, 0.3, 0.8], [0.0, 0.0, 0.0]]).double()
REACH = 1.1


@dataclass(frozen=True)
class Case:
    """A map, points (n, *event) for it, and what it is good for.

    ``frame(x)`` holds the tangent vectors (n_event, dim) at a point and the covectors (dim,
    n_event) that measure them, orthonormal in pairs. Numbers are compared modulo ``period``.
    """

    make: Callable[[], Bijector]
    points: Callable[[int], torch.Tensor]
    frame: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]] | None = None
    period: float = math.inf
    back: float = 1e-10
    minus: float = 1e-9
    det: float = 1e-9


def shaken(module, size=0.3, seed=0, name="shake"):
    """Every learned parameter moved away from the identity."""
    generator = stream(seed, name)
    with torch.no_grad():
        for p in filter(lambda p: p.requires_grad, module.parameters()):
            p += size * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return module


def nets():
    """Small networks, the same every time."""
    return Conditioner([8], stream(0, "torus flow"))


def normal(*event, seed=1, size=1.0, name="x"):
    """Points whose coordinates are independent normal numbers."""

    def points(n):
        return size * torch.randn(n, *event, generator=stream(seed, name), dtype=torch.float64)

    return points


def uniform(*event, seed=1, size=1.0):
    def points(n):
        return size * torch.rand(n, *event, generator=stream(seed, "x"), dtype=torch.float64)

    return points


def on(manifold):
    return lambda n: UniformAndNormal(manifold).sample_and_log_prob(n, stream(7, "x"))[0]


def of_zero_mean(n_particles, size):
    def points(n):
        u = normal(n_particles, 3, size=size, name="u")(n)
        return (u - u.mean(1, keepdim=True)).flatten(1)

    return points


def zero_mean(x):
    shifts = torch.eye(3, dtype=x.dtype).repeat(x.numel() // 3, 1)
    frame = torch.linalg.qr(shifts, mode="complete").Q[:, 3:]
    return frame, frame.T


def tangent(manifold):
    """Block diagonal orthonormal bases of the factors."""
    factors = manifold.factors if isinstance(manifold, Product) else [manifold]

    def frame(x):
        blocks = []
        for factor, part in zip(factors, x.split([f.n_coordinates for f in factors]), strict=True):
            identity = torch.eye(factor.dim, dtype=x.dtype)
            sphere = isinstance(factor, Sphere)
            blocks.append(factor.tangent_basis(part[None])[0] if sphere else identity)
        basis = torch.block_diag(*blocks)
        return basis, basis.T

    return frame


def phase_space(sphere):
    """Turns of q that carry p along, and changes of p: the canonical volume."""

    def frame(x):
        q, p = x.chunk(2)
        e = sphere.tangent_basis(q[None])[0]
        turns = torch.cat((e, -torch.outer(q, p @ e)))
        return torch.cat((turns, torch.cat((0.0 * e, e))), 1), torch.block_diag(e.T, e.T)

    return frame


def su_generators(n):
    """Traceless Hermitian T_a (N^2 - 1, N, N) with ``tr T_a T_b = 2 delta_ab``."""
    matrices = []
    for i in range(n):
        for j in range(i + 1, n):
            for value in (1.0 + 0j, -1j):
                t = torch.zeros(n, n, dtype=torch.complex128)
                t[i, j], t[j, i] = value, value.conjugate()
                matrices.append(t)
    for k in range(1, n):
        diagonal = torch.tensor([1.0] * k + [-float(k)] + [0.0] * (n - k - 1)).double()
        matrices.append(torch.diag(math.sqrt(2.0 / (k * (k + 1))) * diagonal).to(torch.complex128))
    return torch.stack(matrices)


def group_log_det(f, x, y, colours):
    """ln|det| in the frames exp(i t T) U of both sides, by fourth-order differences."""
    t, eps = su_generators(colours), 2e-4
    n_links, n_t = x[0].numel() // colours**2, len(t)

    def at(step):
        """Every link moved along every generator, one at a time."""
        z = x.reshape(1, 1, n_links, colours, colours).repeat(n_links, n_t, 1, 1, 1)
        each = torch.arange(n_links)
        z[each, :, each] = exponential(step * eps * t) @ z[each, :, each]
        return f(z.reshape(-1, *x.shape[1:]))

    change = 8.0 * (at(1) - at(-1)) - (at(2) - at(-2))
    frame = (change / (12.0 * eps) @ y.mH) / 1j
    columns = torch.einsum("clij,aji->cla", frame.reshape(n_links * n_t, n_links, colours, -1), t)
    return torch.linalg.slogdet(columns.real.flatten(1) / 2.0).logabsdet


def gap(case, a, b):
    """The largest difference, modulo the period."""
    d = (a - b).detach()
    if case.period < math.inf:
        d = torch.remainder(d + 0.5 * case.period, case.period) - 0.5 * case.period
    return d.abs().max()


def jacobian_log_det(case, f, x):
    """ln|det| of one row between the tangent frames of x and its image."""
    if x.is_complex():
        colours = x.shape[-1]
        return group_log_det(lambda z: f.forward(z)[0].detach(), x, f.forward(x)[0], colours)
    jacobian = torch.autograd.functional.jacobian(
        lambda flat: f.forward(flat.view(x.shape))[0].flatten(), x.flatten()
    )
    if case.frame is not None:
        image = f.forward(x)[0].detach().flatten()
        jacobian = case.frame(image)[1] @ jacobian @ case.frame(x.flatten())[0]
    return torch.linalg.slogdet(jacobian).logabsdet


def affine():
    return Affine(normal(3, seed=2)(2), normal(3, seed=3)(2))


def dense():
    return DenseAffine(normal(6, seed=4)(6), normal(3, seed=5)(2))


def published(n_layers=3, size=0.1, dtype=torch.float64):
    """The couplings of particles on a torus."""
    network = Attention(8, dtype=dtype)
    flow = particle_couplings(n_layers=n_layers, n_bins=5, n_frequencies=2, network=network)
    return shaken(flow, size, seed=2)


def graph_of(name, reach=REACH):
    system = load_system(name)
    positions, cell = system.reference_positions.numpy(), system.cell.numpy()
    return site_graph(
        positions, cell, crystal_symmetry(positions, cell, system.species), reach=reach
    )


def local(name, n_sweeps=1):
    """Random weights, far from the identity."""
    return shaken(
        local_couplings(
            graph_of(name), scale=0.1, n_sweeps=n_sweeps, hidden=(6,), dtype=torch.float64
        ),
        0.2,
        seed=3,
        name="weights",
    )


def sphere_map(dim, strength=0.15, n=12):
    potential = RadialPotential(Sphere(dim).uniform(n, stream(0, "centres")), 2.0)
    draw = torch.randn(n, generator=stream(1, "a"), dtype=torch.float64)
    potential.coefficients.data = strength * draw
    return SpherePotentialMap(potential, dim)


def torus_map(dim, strength=0.1):
    potential = FourierPotential(dim, 2)
    draw = torch.randn(len(potential.coefficients), generator=stream(2, "a"), dtype=torch.float64)
    potential.coefficients.data = strength * draw / dim
    return TorusPotentialMap(potential, dim)


def even_map():
    one = torch.eye(4, dtype=torch.float64)
    potential = SymmetrisedPotential(sphere_map(3).potential, torch.stack((one, -one)))
    return SpherePotentialMap(potential, 3)


def given_torsions(moved, elementwise):
    return shaken(GivenTorsions(moved, torch.tensor([2, 4]), elementwise), 0.5)


def hamiltonian(manifold):
    def landscape(q):
        return torch.sin(q).sum(-1) + torch.cos(q[:, 0] - 2.0 * q[:, -1])

    return HamiltonianFlow(manifold, landscape, step=0.2, n_steps=5)


def recursive(dim, size=0.3):
    cylinders = RecursiveSphere(dim, circle_map(3), nets())
    return Chain([shaken(SphereRotation(dim), 0.7), shaken(cylinders, size)])


def product(name, size=0.3):
    manifold = parse_manifold(name)
    places = list(range(len(manifold.factors)))
    orders = (places, places[::-1])
    return Chain(
        [
            shaken(ProductAutoregressive(manifold, SPLINE, nets(), order=order), size)
            for order in orders
        ]
    )


def real(make, points=None, **limits):
    return Case(make, points or normal(2, 3), **limits)


def torus(dim, make, **limits):
    strict = {"back": 1e-11, "minus": 1e-9, "det": 1e-10} | limits
    return Case(make, lambda n: Torus(dim).uniform(n, stream(3, "x")), period=TWO_PI, **strict)


def sphere(dim, make, **limits):
    limits = {"minus": 1e-8} | limits
    return Case(make, on(Sphere(dim)), tangent(Sphere(dim)), **limits)


def fractions(make, **limits):
    return Case(make, uniform(4, 3), period=1.0, **limits)


def crystal(make, n, size=0.1, **limits):
    return Case(make, of_zero_mean(n, size), zero_mean, **limits)


def matrices(shape, colours, make, **limits):
    return Case(make, lambda n: haar_matrices((n, *shape), colours, stream(8, "x")), **limits)


PLACES = torch.tensor([1, 3])
AROUND = Surroundings(6, MOLECULES[:2], [5], 5.0 * torch.eye(3, dtype=torch.float64))
EXACT = {"back": 1e-12, "minus": 1e-11, "det": 1e-10}

CASES = {
    "identity": real(Identity),
    "affine": real(affine),
    "dense": real(dense),
    "inverse": real(lambda: Inverse(affine())),
    "chain": real(lambda: Chain([affine(), dense(), Inverse(affine())])),
    "part": real(
        lambda: Part(DenseAffine(normal(2)(2), normal()(2)), torch.tensor([3, 1])), normal(5)
    ),
    "conjugated": real(lambda: conjugated(dense(), affine())),
    "scaled volume": real(lambda: VolumeScaling(1.1, 6), normal(6, 3)),
    "scaled molecules": real(lambda: VolumeScaling(0.9, 6, MOLECULES), normal(6, 3)),
    "scaled temperature": real(lambda: HarmonicScaling(1.2, n_translations=0), normal(6, 3)),
    "internal coordinates": real(
        lambda: InternalCoordinates(z_matrix(10, BONDS)), normal(10, 3), det=1e-8
    ),
    "moved by torsions": real(
        lambda: given_torsions(Places.around(PLACES, torch.zeros(2)), CircularSpline(6)),
        uniform(5, size=math.pi),
    ),
    "scaled by torsions": real(
        lambda: given_torsions(Places(PLACES, scale=torch.full((2,), 0.1)), ShiftScale()),
        normal(5),
    ),
    "turned torsions": real(
        lambda: TurnedTorsions(
            Places.around(PLACES, torch.zeros(2)), CircularSpline(6), normal(18)(2)
        ),
        uniform(5, size=math.pi),
    ),
    "shifted by torsions": real(
        lambda: ShiftedByTorsions(PLACES, torch.tensor([2, 4]), normal(2)(8)), normal(5)
    ),
    "one colour": Case(
        lambda: shaken(CheckerboardCoupling((4, 4), 2, 1, stream(0, "layer"))),
        lambda n: fields((4, 4), n),
        det=1e-10,
    ),
    "checkerboard": Case(
        lambda: couplings((4, 6)), lambda n: 3.0 * fields((4, 6), n), minus=1e-10, det=1e-10
    ),
    "checkerboard, two directions": Case(
        lambda: couplings((4, 4), isotropic=False), lambda n: fields((4, 4), n), det=1e-10
    ),
    "one coordinate": fractions(lambda: published().bijectors[0]),
    "two coordinates": fractions(lambda: published().bijectors[1]),
    "shift": fractions(lambda: published().bijectors[2]),
    "particles": fractions(published),
    "in a cell": Case(lambda: InCell(published(), CELL), lambda n: uniform(4, 3)(n) @ CELL),
    "pinned": crystal(lambda: Pinned(published(size=0.05), SITES, BOX), 4, size=0.05, minus=1e-10),
    "neighbours in fcc": crystal(lambda: local("lennard_jones/fcc_32"), 32, det=1e-8),
    "neighbours in ice": crystal(lambda: local("ice/mw_cubic_8"), 8, det=1e-8),
    "molecules": Case(
        lambda: MovedMolecules(InCell(published(), AROUND.cell), AROUND),
        normal(6, 3),
        period=5.0,
        back=1e-9,
    ),
    "angles in turn": torus(
        3, lambda: shaken(TorusAutoregressive(3, SPLINE, nets(), order=[2, 0, 1]), 0.7)
    ),
    "few neighbours": torus(
        4,
        lambda: shaken(
            TorusAutoregressive(
                4, SPLINE, nets(), order=[1, 0, 3, 2], seen=[[1], [], [3, 0], [0]]
            ),
            0.7,
        ),
    ),
    "projections": torus(
        2, lambda: shaken(TorusAutoregressive(2, ProjectionMixture(3), nets()), 0.7)
    ),
    "relative angles": torus(
        4, lambda: shaken(TorusAutoregressive(4, circle_map(3), nets(), relative=True), 0.7)
    ),
    "angles given others": torus(
        3,
        lambda: Chain(
            [
                shaken(TorusCoupling([True, False, True], SPLINE, nets()), 0.7),
                shaken(TorusCoupling([False, True, False], circle_map(3), nets()), 0.7),
            ]
        ),
    ),
    "sums of angles": torus(4, lambda: TorusFrame(torch.ones(4, 4).tril())),
    **{f"recursive S{d}": sphere(d, lambda d=d: recursive(d)) for d in (2, 3, 4, 7)},
    "projective": sphere(3, lambda: shaken(ProjectiveLinear(3))),
    **{f"potential S{d}": sphere(d, lambda d=d: sphere_map(d), **EXACT) for d in (1, 2, 3, 5, 7)},
    **{f"potential T{d}": torus(d, lambda d=d: torus_map(d), **EXACT) for d in (1, 2, 3, 4)},
    "even potential": sphere(3, even_map, **EXACT),
    "numbers in turn": real(
        lambda: shaken(LineAutoregressive(3, nets())), normal(3), minus=1e-8, det=1e-8
    ),
    **{
        name: Case(
            lambda name=name: product(name),
            on(parse_manifold(name)),
            tangent(parse_manifold(name)),
            minus=1e-8,
            det=1e-8,
        )
        for name in ("T1 x S2 x R1", "R2 x S3 x T2", "S2 x S2", "T3 x R1")
    },
    **{
        f"Hamiltonian {manifold!r}": Case(
            lambda m=manifold: hamiltonian(m),
            lambda n, m=manifold: Cotangent(m).sample_and_log_prob(n, stream(2, "x"))[0],
            phase_space(manifold) if isinstance(manifold, Sphere) else None,
            period=TWO_PI if isinstance(manifold, Torus) else math.inf,
            back=1e-12,
        )
        for manifold in (Euclidean(2), Torus(2), Sphere(2), Sphere(3))
    },
    **{f"SU({n})": matrices((), n, lambda n=n: shaken(SpectralFlow(n)), det=1e-6) for n in (2, 3)},
    **{
        f"loops of SU({n})": matrices(
            (2, 4, 4),
            n,
            lambda n=n: shaken(LoopCouplings((4, 4), n, n_bins=4, width=8)),
            back=1e-9,
            det=1e-5,
        )
        for n in (2, 3)
    },
}
