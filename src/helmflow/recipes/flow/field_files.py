"""Trained flows of lattice fields on disk, for lattices of any extent."""

import json
import math
from pathlib import Path

import torch

from helmflow.bijectors.scored_flow import ScoredFlow
from helmflow.densities.flow import Flow
from helmflow.errors import InputError
from helmflow.recipes.flow.field_flow import build_field_flow, stepped
from helmflow.recipes.path.lattice import LatticeField
from helmflow.results.result import own_version
from helmflow.settings import NetworkSettings
from helmflow.training.checkpoint import load, save

FILE = "field_flow.safetensors"
KINDS = ("continuous", "coupling")


def save_field_flow(
    path: Path,
    flow: Flow,
    problem: LatticeField,
    kind: str,
    network: NetworkSettings,
    *,
    n_evaluations: int = 0,
) -> None:
    """Write the weights and what tells whether another lattice has the same action.

    ``n_evaluations``: of the action, that training took.
    """
    orbits = flow.base.orbits
    header = {
        "flow": kind,
        "version": own_version(),
        "system": problem.system.name,
        "fingerprint": json.dumps(problem.fingerprint()),
        "network": network.model_dump_json(),
        "reach": str(orbits.reach),
        "isotropic": str(orbits.isotropic),
    }
    tensors = dict(flow.state_dict())
    tensors["n_evaluations"] = torch.tensor(n_evaluations)
    if isinstance(flow.bijector, ScoredFlow):
        tensors["n_steps"] = torch.tensor(flow.bijector.n_steps)
    save(path, tensors, header)


def load_field_flow(path: Path, problem: LatticeField, kind: str) -> Flow:
    """Read a flow trained on a lattice of this or any other extent with the same couplings.

    ``path`` is the file or the run directory that holds it. Raises InputError("flow", ...) for
    another action, kind or version, weights that are not finite, and a damaged file.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError("flow", f"a run of --method flow, or its {FILE}", path)
    try:
        tensors, header = load(file, {"version": own_version()})
    except InputError as error:
        raise InputError("flow", "a field flow of this version", error) from error
    if header.get("flow") not in KINDS:
        raise InputError("flow", "the flow of a lattice field", f"{header.get('flow')!r}")
    if header["flow"] != kind:
        raise InputError("flow.kind", f"{header['flow']!r}, as in {path}", repr(kind))
    _require_same(json.loads(header["fingerprint"]), problem.fingerprint(), header["system"])
    flow = build_field_flow(
        problem.shape,
        kind,
        NetworkSettings.model_validate_json(header["network"]),
        reach=int(header["reach"]),
        isotropic=header["isotropic"] == "True",
    )
    n_steps = tensors.pop("n_steps", None)
    tensors.pop("n_evaluations", None)
    if not all(bool(torch.isfinite(weights).all()) for weights in tensors.values()):
        raise InputError("flow", "finite weights", f"NaN or infinity in {file}")
    flow.load_state_dict(tensors)
    flow.requires_grad_(False)
    return flow if n_steps is None else stepped(flow, int(n_steps))


def training_evaluations(path: Path) -> int:
    """Evaluations of the action that training the flow of a run took."""
    return int(load(path / FILE, {})[0]["n_evaluations"])


def _require_same(trained: dict[str, float], own: dict[str, float], name: str) -> None:
    for key in sorted({*trained, *own}):
        there, here = trained.get(key, math.nan), own.get(key, math.nan)
        if not math.isclose(there, here, rel_tol=1e-9, abs_tol=1e-12):
            raise InputError(
                "flow", f"a flow of this action ({key} = {here:.8g})", f"{name} with {there:.8g}"
            )
