"""``helmflow doctor``: does this installation compute what it should, in under half a minute."""

import importlib
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from helmflow.energies.base import Energy, ParticleEnergy
from helmflow.errors import InputError
from helmflow.results import Check, installed_versions
from helmflow.shapes import Configs
from helmflow.system import load_system, shipped_systems

IMPORTED = (
    "numpy",
    "scipy",
    "torch",
    "numba",
    "arviz_stats",
    "safetensors",
    "pydantic",
    "matplotlib",
    "ase",
    "spglib",
    "vesin",
    "rich",
)


def check_energy(energy: Energy, x: Configs, *, step: float = 1e-5) -> tuple[Check, ...]:
    """Is an energy fit for sampling? ``x`` (batch, ...) are a few typical configurations.

    Checks that energies are finite, equal when repeated and when evaluated one at a time, that
    ``energy_and_gradient`` agrees with ``energy(x)`` and its gradient with central differences of
    half-width ``step``, and for particles that whole-crystal translations and cell vectors change
    nothing. Errors are relative to the largest energy or gradient. Raises ``InputError`` for a
    batch that is empty.
    """
    if len(x) == 0:
        raise InputError("x", "at least one configuration", "none")
    with torch.no_grad():
        value = energy(x)
    paired, gradient = energy.energy_and_gradient(x)
    scale = float(value.abs().max().clamp_min(1e-300))
    singles = torch.cat([energy(row[None]).detach() for row in x])
    checks = [
        Check(
            "energies are finite",
            float((~torch.isfinite(value)).sum()),
            0.0,
            bool(torch.isfinite(value).all()),
            "hard",
        ),
        _small("energy repeats", energy(x).detach() - value, scale, 1e-12),
        _small("batch equals one at a time", singles - value, scale, 1e-10),
        _small("energy with and without gradient", paired - value, scale, 1e-10),
        _small(
            "gradient against finite differences", *_slope_errors(energy, x, gradient, step), 1e-5
        ),
    ]
    if isinstance(energy, ParticleEnergy):
        checks.append(_small("translations and images", _moved(energy, x) - value, scale, 1e-9))
    return tuple(checks)


def diagnose() -> list[Check]:
    """All checks of this installation; one that cannot even run is a failed check."""
    return [
        check for part in (_packages, _crystals, _free_energy, _files) for check in _attempt(part)
    ]


def _attempt(part: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from part()
    except (
        ImportError,
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
    ) as error:
        name = part.__name__.strip("_").replace("_", " ")
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        yield Check(f"{name} can be checked", 0.0, 1.0, False, "hard", reason)


def _small(name: str, error: torch.Tensor, scale: float, limit: float) -> Check:
    """A check that ``max |error| / scale`` stays within ``limit``; NaN fails."""
    value = float(error.abs().max()) / scale
    return Check(name, value, limit, value <= limit, "hard")


def _slope_errors(
    energy: Energy, x: Configs, gradient: Configs, step: float
) -> tuple[torch.Tensor, float]:
    """Errors of the slope along one random direction per configuration, and their scale."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    direction /= direction.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.ndim - 1))
    with torch.no_grad():
        difference = energy(x + step * direction) - energy(x - step * direction)
    slope = (gradient * direction).flatten(1).sum(1)
    norm = gradient.flatten(1).norm(dim=1).max()
    return difference / (2.0 * step) - slope, float(norm.clamp_min(1e-300))


def _moved(energy: ParticleEnergy, x: Configs) -> torch.Tensor:
    """Energies with the crystal shifted and its first particle carried over by a cell vector."""
    moved = x + 0.01 * energy.cell.matrix.sum(0).to(x)
    moved[:, 0] += energy.cell.matrix[0].to(x)
    with torch.no_grad():
        return energy(moved)


def _packages() -> Iterator[Check]:
    for name in IMPORTED:
        importlib.import_module(name)
    versions = installed_versions() | {"python": platform.python_version()}
    yield Check(
        "packages import",
        len(IMPORTED),
        len(IMPORTED),
        True,
        "hard",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
    )


def _crystals() -> Iterator[Check]:
    """Compiled kernels against torch, and all of ``check_energy``, on thermal displacements."""
    for name, width in (("lennard_jones/fcc_32", 0.05), ("ice/mw_cubic_8", 0.15)):
        system = load_system(name)
        sites, _ = system.sites_and_cell
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn((6, *sites.shape), generator=generator, dtype=torch.float64)
        x = sites + width * noise
        compiled = system.energy(x).detach()
        traced = system.energy(x.clone().requires_grad_()).detach()
        scale = float(traced.abs().max())
        yield _small(f"{name}: compiled equals torch", compiled - traced, scale, 1e-10)
        checks = check_energy(system.energy, x)
        failed = [check.name for check in checks if not check.passed]
        yield Check(
            f"{name}: energy, gradient, images",
            len(failed),
            0,
            not failed,
            "hard",
            ", ".join(failed),
        )


def _free_energy() -> Iterator[Check]:
    """FEP and BAR between two Gaussians whose free-energy difference is known."""
    from helmflow.energies.analytic import HarmonicOscillators
    from helmflow.estimators.bar import bar
    from helmflow.estimators.fep import fep
    from helmflow.generalised_work import work

    generator = torch.Generator().manual_seed(0)
    soft = HarmonicOscillators(torch.linspace(1.0, 2.0, 8, dtype=torch.float64))
    stiff = HarmonicOscillators(torch.linspace(1.3, 2.8, 8, dtype=torch.float64))
    x, y = (
        torch.randn((4000, 8), generator=generator, dtype=torch.float64) / energy.stiffness.sqrt()
        for energy in (soft, stiff)
    )
    w_F, w_R = work(x, soft, stiff), work(y, stiff, soft)
    exact = stiff.free_energy(1.0) - soft.free_energy(1.0)
    for estimate in (fep(w_F), bar(w_F, w_R)):
        z = abs(estimate.value - exact) / estimate.stderr
        yield Check(
            f"{estimate.method} of oscillators, sigmas off",
            z,
            5.0,
            z <= 5.0,
            "hard",
            f"{estimate} for {exact:.5f}",
        )


def _files() -> Iterator[Check]:
    """Shipped systems parse; a checkpoint comes back bit for bit."""
    from helmflow.training.checkpoint import load, save

    shipped = shipped_systems()
    yield Check(
        "shipped systems",
        len(shipped),
        1,
        len(shipped) >= 1,
        "hard",
        "their files are read and valid",
    )
    tensors = {
        "x": torch.linspace(0, 1, 7, dtype=torch.float64),
        "generator": torch.Generator().manual_seed(3).get_state(),
    }
    with TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        save(path, tensors, {"digest": "doctor"})
        loaded, _ = load(path, {"digest": "doctor"})
    equal = sum(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    yield Check(
        "checkpoint comes back bit for bit", equal, len(tensors), equal == len(tensors), "hard"
    )
