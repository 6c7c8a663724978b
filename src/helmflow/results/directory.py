"""The directory of a run: atomic files, so that a run killed at any moment can be resumed."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from helmflow.errors import InputError
from helmflow.results.lock import LOCK
from helmflow.results.result import SCHEMA, Result, own_version, plain
from helmflow.training.atomic import remove_temporaries, write_atomically

FLOW = "flow.safetensors"
"""The flow of a run, which other runs can reuse and samples are drawn from."""

STAGES = "checkpoint"
"""Folder of all other stages of a run."""


@dataclass(frozen=True)
class Event:
    """One step of progress: ``completed`` of ``total`` in ``stage``, and the estimate so far.

    ``value`` and ``stderr`` are in the unit of the final result; ``detail`` is what a person wants
    to see beside them, for example ``lambda 0.25``; ``values`` are numbers for ``metrics.jsonl``
    alone, such as the loss of a training step.
    """

    stage: str
    completed: float
    total: float
    detail: str = ""
    value: float | None = None
    stderr: float | None = None
    energy_evaluations: int = 0
    values: Mapping[str, float | int | None] = field(default_factory=dict)


class RunDirectory:
    """The files of one run; every write is atomic, so a killed run can always be resumed.

    ``run.json`` (identity), ``settings.toml``, ``metrics.jsonl``, ``checkpoint/``, ``work.npz``,
    ``result.json`` (its presence means: finished) and ``report.html``.
    """

    def __init__(self, path: Path, digest: str, system: str = "") -> None:
        self.path = path
        self.digest = digest
        self.system = system

    @classmethod
    def create(
        cls,
        path: Path,
        settings_text: str,
        digest: str,
        *,
        system: str = "",
        resumable: bool = True,
    ) -> "RunDirectory":
        """Start a run in a new or empty directory; ``digest`` identifies the system.

        ``system`` is the name or path that loads it, for the report. The message offers to
        resume where the run is ``resumable``; see `in_one_go` for what happens to others. Raises
        ``InputError("out", ...)`` when ``path`` already holds something.
        """
        cls.refuse_used(path, resumable=resumable)
        identity = {
            "schema": SCHEMA,
            "helmflow": own_version(),
            "digest": digest,
            "settings": _digest_of(settings_text),
            "system": system,
            "resumable": resumable,
        }
        try:
            write_atomically(path / "run.json", json.dumps(identity, indent=2).encode())
            # the last of the two: a directory without it has not started, see `started`
            write_atomically(path / "settings.toml", settings_text.encode())
        except OSError as error:
            raise InputError("out", "a directory that can be written", error) from error
        return cls(path, digest, system)

    @staticmethod
    def refuse_used(path: Path, *, resumable: bool) -> None:
        """Raise ``InputError("out", ...)`` when ``path`` already holds something."""
        if path.is_file() or (path.is_dir() and any(map(_belongs_to_a_run, path.iterdir()))):
            expected = "a new or empty directory" + (", or --resume" if resumable else "")
            raise InputError("out", expected, f"{path}, in use")

    @staticmethod
    def started(path: Path) -> bool:
        """Whether ``path`` holds a run that can be resumed."""
        return (path / "run.json").is_file() and (path / "settings.toml").is_file()

    @classmethod
    def resume(cls, path: Path, digest: str) -> "RunDirectory":
        """Open an unfinished (or finished) run of the same system and settings and version.

        Raises ``InputError("resume", ...)`` otherwise.
        """
        run = cls.open(path)
        identity = json.loads((path / "run.json").read_text())
        if identity.get("helmflow") != own_version():
            expected = f"helmflow {identity.get('helmflow')}, which started {path}"
            raise InputError("resume", expected, f"helmflow {own_version()}")
        if run.digest != digest:
            raise InputError("resume", f"the system {path} was started with", "a changed system")
        if identity.get("settings") != _digest_of(run.read_settings()):
            expected = f"the settings.toml {path} was started with"
            raise InputError("resume", expected, "a changed one")
        remove_temporaries(path)
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Open a run for reading. Raises ``InputError("run", ...)`` for any other directory."""
        try:
            identity = json.loads((path / "run.json").read_text())
            return cls(path, str(identity["digest"]), str(identity.get("system", "")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError("run", "a directory written by `helmflow run`", path) from error

    @property
    def resumable(self) -> bool:
        """Whether the run has kept anything that a later process can go on from."""
        return (self.path / FLOW).is_file() or bool(self._stages())

    def discard(self) -> None:
        """Remove a run that has no result, so that a corrected one can take its place."""
        if self.finished:
            return
        shutil.rmtree(self.path / STAGES, ignore_errors=True)
        for name in (FLOW, "metrics.jsonl", "work.npz", "settings.toml", "run.json"):
            (self.path / name).unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    @property
    def report(self) -> Path:
        """Where the page is, or will be."""
        return self.path / "report.html"

    @property
    def finished(self) -> bool:
        """Whether the run has a result."""
        return (self.path / "result.json").is_file()

    def read_settings(self) -> str:
        """The text of ``settings.toml``."""
        file = self.path / "settings.toml"
        try:
            return file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("run", "a readable settings.toml", f"{file}") from error

    def write_result(self, result: Result) -> None:
        """Write ``result.json``, which marks the run as finished: write ``work.npz`` before it."""
        write_atomically(self.path / "result.json", result.to_json().encode() + b"\n")

    def read_result(self) -> Result:
        """Read ``result.json``; raises ``InputError`` when the run has not finished."""
        if not self.finished:
            raise InputError("run", "a finished run", f"{self.path}, which has no result yet")
        return Result.from_json((self.path / "result.json").read_bytes())

    def write_work(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write ``work.npz``: plain arrays by name, never pickled objects."""
        buffer = BytesIO()
        np.savez(buffer, allow_pickle=False, **{k: np.asarray(v) for k, v in arrays.items()})
        write_atomically(self.path / "work.npz", buffer.getvalue())

    def read_work(self) -> dict[str, np.ndarray]:
        """The arrays of ``work.npz``; empty when there is none yet."""
        file = self.path / "work.npz"
        if not file.is_file():
            return {}
        try:
            with open(file, "rb") as contents, np.load(contents, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (
            OSError,
            ValueError,
            TypeError,
            EOFError,
            BadZipFile,
            NotImplementedError,
        ) as error:
            raise InputError("run", "a readable work.npz", f"{file} ({error})") from error

    def write_report(self, html: str) -> Path:
        """Write ``report.html`` and return its path."""
        write_atomically(self.report, html.encode())
        return self.report

    def record(self, event: Event) -> None:
        """Append ``event`` as one line to ``metrics.jsonl``."""
        table = asdict(event)
        table |= table.pop("values")
        line = json.dumps(plain(table), ensure_ascii=False, allow_nan=False)
        with open(self._metrics, "ab") as file:
            file.write(line.encode() + b"\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``; a last line cut short by a crash is left out."""
        if not self._metrics.is_file():
            return []
        whole = self._metrics.read_bytes().rpartition(b"\n")[0]
        try:
            return [dict(json.loads(line)) for line in whole.splitlines()]
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError("run", "a readable metrics.jsonl", f"{self._metrics}") from error

    def file_of_stage(self, name: str) -> Path:
        """Where a stage of the run is kept; that of the flow is for people, too."""
        if name == "flow":
            return self.path / FLOW
        return self.path / STAGES / f"{name.replace(' ', '_')}.safetensors"

    def bytes_of_metrics(self) -> int:
        """Length of ``metrics.jsonl``, once it is on the disk: a stage remembers it."""
        with open(self._metrics, "ab") as metrics:
            os.fsync(metrics.fileno())
            return metrics.tell()

    def rewind(self) -> None:
        """Cut ``metrics.jsonl`` back to what the stages know: no line is repeated on resuming."""
        from helmflow.training.checkpoint import read_header

        files = [file for file in (self.path / FLOW, *self._stages()) if file.is_file()]
        sizes = [int(read_header(file).get("metrics_bytes", "0")) for file in files]
        size = max(sizes, default=0)
        if self._metrics.exists() and self._metrics.stat().st_size > size:
            os.truncate(self._metrics, size)

    def _stages(self) -> list[Path]:
        return sorted((self.path / STAGES).glob("*.safetensors"))

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"


def _digest_of(settings_text: str) -> str:
    return hashlib.sha256(settings_text.encode()).hexdigest()


def _belongs_to_a_run(entry: Path) -> bool:
    """Not what a process leaves that was killed while it created the directory."""
    return entry.name not in ("run.json", LOCK) and not entry.name.endswith(".tmp")
