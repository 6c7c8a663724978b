"""Lattice flows with weights that are not zero, for several test files."""

import torch

from helmflow.bijectors.checkerboard import checkerboard_couplings
from helmflow.bijectors.sine_flow import SineFlow
from helmflow.densities.free_field import FreeField
from helmflow.manifolds.lattice_orbits import KernelOrbits
from helmflow.streams import stream


def jolt(module, size, seed=0):
    """Random changes of all parameters."""
    generator = stream(seed, "jolt")
    with torch.no_grad():
        for p in module.parameters():
            p += size * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return module


def sine_flow(shape, reach=2, *, n_steps=8, isotropic=True, size=0.03):
    flow = SineFlow(shape, KernelOrbits(reach, isotropic=isotropic), scale=0.4, n_steps=n_steps)
    return jolt(flow, size).requires_grad_(False)


def couplings(shape, reach=2, *, n_layers=4, isotropic=True, size=0.2):
    flow = checkerboard_couplings(
        shape, reach, stream(1, "couplings"), n_layers=n_layers, isotropic=isotropic
    )
    return jolt(flow, size).requires_grad_(False)


def free_field(shape, reach=2):
    return jolt(FreeField(shape, KernelOrbits(reach)), 0.3).requires_grad_(False)


def fields(shape, batch=5, seed=2):
    size = (batch, shape[0] * shape[1])
    return torch.randn(size, generator=stream(seed, "fields"), dtype=torch.float64)


def images(x, shape, step=1, *, rotated=True):
    """Fields (batch, V) translated by ``step``, reflected, rotated, with the other sign."""
    phi = x.view(-1, *shape)
    moved = [phi.roll((step, 0), (1, 2)), phi.roll((2 * step, step + step % 2), (1, 2))]
    moved += [phi.flip(1).roll(1, 1), phi.flip(2).roll(1, 2), -phi]
    if rotated and shape[0] == shape[1]:
        moved.append(phi.transpose(1, 2))
    return [m.flatten(1) for m in moved]
