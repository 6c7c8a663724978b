"""Trained coupling flows on disk."""

import math
from importlib import metadata
from pathlib import Path

import torch

from helmflow.bijectors.base import Bijector
from helmflow.bijectors.local_coupling import LocalCouplings
from helmflow.densities.base import Density
from helmflow.errors import InputError
from helmflow.recipes.flow.coupling import graph_of, neighbour_couplings, published_couplings
from helmflow.recipes.path.crystal import Crystal
from helmflow.settings import NetworkSettings
from helmflow.training.checkpoint import load, save

_SAME_ENERGY = 1e-6  # kT per particle of the perfect lattice


def save_bijector(
    path: Path, bijector: Bijector, problem: Crystal, network: NetworkSettings
) -> None:
    """Write a trained map with what is needed to build it again and to refuse wrong uses."""
    header = {
        "flow": _kind(bijector),
        "network": network.model_dump_json(),
        "version": metadata.version("helmflow"),
        "system": problem.system.name,
        "system_digest": problem.system.digest,
        "lattice_energy": repr(_lattice_energy(problem)),
    }
    save(path, bijector.state_dict(), header)


def load_bijector(path: Path, problem: Crystal, base: Density) -> Bijector:
    """Read a trained map back, for its own crystal or, if it is local, for another size of it.

    Raises ``InputError`` for a file that is not a flow or not whole, a flow of another version of
    the package, and a crystal or state other than the one it was trained for.
    """
    tensors, header = load(path, {"version": metadata.version("helmflow")})
    if header.get("flow") not in ("coupling", "local"):
        raise InputError("flow", "a coupling or local flow", f"{header.get('flow')!r} in {path}")
    network = NetworkSettings.model_validate_json(header["network"])
    _require_same_crystal(path, problem, header)
    if header["flow"] == "coupling":
        bijector = published_couplings(problem, network)
        bijector.load_state_dict(tensors)
        return bijector
    local = neighbour_couplings(problem, base, network)
    if not _alike(local.offsets, tensors["offsets"]):
        raise InputError("flow", "the crystal it was trained for", f"other surroundings in {path}")
    local.load_state_dict(tensors)
    return LocalCouplings(graph_of(problem, network), list(local.networks), tensors["scale"])


def _require_same_crystal(path: Path, problem: Crystal, header: dict[str, str]) -> None:
    same_file = header["system_digest"] == problem.system.digest
    if header["flow"] == "coupling" and not same_file:
        raise InputError(
            "flow", f"one trained on {problem.system.name}", f"{header['system']!r} in {path}"
        )
    trained = float(header["lattice_energy"])
    if not math.isclose(trained, _lattice_energy(problem), rel_tol=0, abs_tol=_SAME_ENERGY):
        raise InputError(
            "flow",
            f"a flow of this crystal, density and temperature ({_lattice_energy(problem):.6f} kT "
            "per particle at the sites)",
            f"{trained:.6f} kT, {header['system']!r} in {path}",
        )


def _lattice_energy(problem: Crystal) -> float:
    n = problem.system.n_particles
    zero = torch.zeros(1, n, 3, dtype=torch.float64)
    return problem.system.beta * problem.system.energy.displaced(zero)[0].item() / n


def _kind(bijector: Bijector) -> str:
    return "local" if isinstance(bijector, LocalCouplings) else "coupling"


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() < 1e-3 * b.norm(dim=1).min())
