"""The one format of what a run keeps: stages and flows, as safetensors that say what they are."""

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor

from helmflow.errors import InputError
from helmflow.results import FLOW, own_version
from helmflow.training.checkpoint import load, save

T = TypeVar("T")
SAME = {"rel_tol": 1e-6, "abs_tol": 1e-9}
"""How closely the numbers must agree by which an energy is recognised on other machines."""


@dataclass(frozen=True)
class Kept:
    """Tensors, facts that JSON can hold, and of a flow its kind and the energy it belongs to.

    ``energy``: numbers and words that differ between energies and not between sizes of a system.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "stage"
    energy: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Form(Generic[T]):
    """How a value is kept: ``unpack(pack(value))`` is the value, bit for bit."""

    pack: Callable[[T], Kept]
    unpack: Callable[[Kept], T]


def write_kept(path: Path, kept: Kept, header: Mapping[str, str]) -> None:
    """Write a file, whole or not at all; ``header``: what else its header says."""
    described = {
        "kind": kept.kind,
        "helmflow": own_version(),
        "facts": json.dumps(dict(kept.facts)),
        "energy": json.dumps(dict(kept.energy)),
    }
    save(path, kept.tensors, {**header, **described})


def read_kept(path: Path, expected: Mapping[str, str]) -> tuple[Kept, dict[str, str]]:
    """What `write_kept` wrote, and its header, of which ``expected`` must be part.

    Raises InputError for a file that is damaged, foreign, or of another version.
    """
    tensors, header = load(path, {"helmflow": own_version(), **expected})
    try:
        facts, energy = json.loads(header["facts"]), json.loads(header["energy"])
        return Kept(tensors, facts, header["kind"], energy), header
    except (KeyError, ValueError) as error:
        raise InputError("checkpoint", "a file that a run has kept", path) from error


def read_flow(path: Path, kinds: Collection[str], energy: Mapping[str, float | str]) -> Kept:
    """The flow of a run directory or file, also of another size, if it belongs to an energy.

    Raises InputError("flow", ...) for another kind, energy or version of helmflow, for weights
    that are not finite, and for a file that is damaged or no flow.
    """
    file = path / FLOW if path.is_dir() else path
    if not file.is_file():
        raise InputError("flow", f"a run that keeps a flow, or its {FLOW}", path)
    try:
        kept, _ = read_kept(file, {})
    except InputError as error:
        raise InputError("flow", f"a flow of helmflow {own_version()}", f"{file}: {error}") from (
            error
        )
    if kept.kind not in kinds:
        raise InputError("flow", f"one of kind {' or '.join(kinds)}", f"{kept.kind!r} in {file}")
    for name in sorted({*kept.energy, *energy}):
        there, here = kept.energy.get(name), energy.get(name)
        if not _same(there, here):
            expected = f"a flow of this energy ({name} = {_text(here)})"
            raise InputError("flow", expected, f"{_text(there)} in {file}")
    for name, tensor in kept.tensors.items():
        if not bool(tensor.isfinite().all()):
            raise InputError("flow", "finite weights", f"NaN or infinity in {name} of {file}")
    return kept


def _same(a: float | str | None, b: float | str | None) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, **SAME)
    return a == b


def _text(value: float | str | None) -> str:
    return f"{value:.8g}" if isinstance(value, float) else str(value)
