"""Tensors and their provenance in one safetensors file: no pickle, written atomically."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, contiguous_format, uint8

from helmflow.errors import InputError
from helmflow.training.atomic import write_atomically

FORMAT = "helmflow_checkpoint"
VERSION = "1"
DIGEST = "sha256"


class Store(Protocol):
    """Where a training keeps its state; its text says where that is."""

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
        """Replace what is kept."""

    def load(self) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """What was kept last; None if there is nothing."""


@dataclass(frozen=True)
class CheckpointFile:
    """A file as a `Store`; ``identity`` is written into it and must be the same on loading."""

    path: Path
    identity: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return str(self.path)

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
        """Replace the file."""
        save(self.path, tensors, {**facts, **self.identity})

    def load(self) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """Its content, None if there is no file; InputError for one of something else."""
        return load(self.path, self.identity) if self.path.is_file() else None


def read_header(path: Path) -> dict[str, str]:
    """The header of a file, without its tensors; raises InputError as `load` does."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise InputError("checkpoint", "a whole safetensors file", f"{path} ({error})") from error


def save(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write ``tensors`` and ``header`` to ``path``; a crash leaves the previous file untouched.

    Every dtype is kept bit for bit, so the state of a ``torch.Generator`` (a uint8 tensor from
    ``get_state``) belongs here too. Raises ``InputError`` when ``header`` uses the reserved key
    ``helmflow_checkpoint``.
    """
    if FORMAT in header:
        raise InputError("checkpoint", f"a header without {FORMAT!r}", "that reserved key")
    detached = {
        name: tensor.detach().cpu().clone(memory_format=contiguous_format)
        for name, tensor in tensors.items()
    }
    content = {FORMAT: VERSION, **header}
    content[DIGEST] = _digest_of(detached, content)
    write_atomically(path, serialize(detached, metadata=content))


def load(path: Path, expected: Mapping[str, str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read ``(tensors, header)`` back, on the CPU.

    ``expected`` holds header entries that must be equal (a digest, a package version): weights of
    another system are never loaded silently. Raises ``InputError`` with one line for a missing,
    truncated or foreign file, another format version, or an entry that differs.
    """
    if not path.is_file():
        raise InputError("checkpoint", "a checkpoint file", f"none at {path}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = dict(file.metadata() or {})
            _require(path, header, {FORMAT: VERSION, **expected})
            # clones: the views of a memory map would die with the file they are read from
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    except SafetensorError as error:
        raise InputError("checkpoint", "a whole safetensors file", f"{path} ({error})") from error
    if header.pop(DIGEST, "") != _digest_of(tensors, header):
        raise InputError("checkpoint", "the contents that were written", f"{path}, damaged")
    del header[FORMAT]
    return tensors, header


def _digest_of(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    """Of everything in a file: its format has no checksum, and a flipped bit is still a number."""
    digest = hashlib.sha256(json.dumps(sorted(header.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(uint8).numpy().tobytes())
    return digest.hexdigest()


def _require(path: Path, header: Mapping[str, str], expected: Mapping[str, str]) -> None:
    if FORMAT not in header:
        raise InputError("checkpoint", "a file written by helmflow", f"{path}, which is not")
    for key, value in expected.items():
        if header.get(key) != value:
            raise InputError("checkpoint", f"{key} {value!r}", f"{header.get(key)!r} in {path}")
