"""Energies of any OpenMM System."""

import bz2
import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import torch

from helmflow.energies.base import Energy
from helmflow.energies.bridge import differentiable_once
from helmflow.energies.openmm_boxes import has_volume, reduced_box
from helmflow.energies.openmm_context import Contexts, potential_of
from helmflow.errors import InputError
from helmflow.shapes import Particles, Values

if TYPE_CHECKING:
    import openmm

Array = np.ndarray

PROPERTIES: Mapping[str, Mapping[str, str]] = {
    "CPU": {"Threads": "1"},
    "CUDA": {"Precision": "double"},
    "OpenCL": {"Precision": "double"},
    "HIP": {"Precision": "double"},
}
"""Platform properties unless the user says otherwise: parallelism is ours, over configurations."""


class OpenMMEnergy(Energy):
    """The potential energy of an OpenMM System in kJ/mol, positions in nm; differentiable once.

    Energy and forces come from one evaluation. ``platform`` "Reference" is double precision
    throughout; "CPU" (the default) computes nonbonded forces in single precision, which leaves
    about 1e-6 of their energy as noise. With an ``executor`` (threads, processes, dask, anything
    of ``concurrent.futures``) configurations are evaluated ``chunk`` at a time in parallel, each
    thread with a context of its own. Barostats, thermostats and the like are left out
    (``ignored`` names them), virtual sites are recomputed from their parents. With constraints
    the energy is one of Cartesian coordinates all the same; its Boltzmann density lives on their
    surface, where two Systems with the same ``constraints`` can be compared without a map.

    A configuration without a finite energy (particles on top of each other, NaN, a box that is
    NaN or flat) has energy +inf and gradient zero and adds one to ``n_infinite``;
    ``n_evaluations`` counts all.

    Raises:
        InputError: the platform does not exist or refuses the System; later, positions of another
            number of particles, or boxes that do not fit.
        EnergyError: OpenMM failed for another reason.
    """

    costly = True

    def __init__(
        self,
        system: "openmm.System",
        *,
        platform: str = "CPU",
        properties: Mapping[str, str] | None = None,
        executor: Executor | None = None,
        chunk: int = 32,
    ) -> None:
        super().__init__()
        if chunk < 1:
            raise InputError("chunk", "at least 1 configuration", chunk)
        self.system, self.ignored = potential_of(system)
        self.platform = platform
        self.properties = dict(PROPERTIES.get(platform, {}) if properties is None else properties)
        self.executor = executor
        self.chunk = chunk
        self.n_infinite = 0
        self.n_evaluations = 0
        self.contexts = Contexts(self.system, platform, self.properties)

    @property
    def n_particles(self) -> int:
        """Number of particles, virtual sites included."""
        return self.system.getNumParticles()

    @property
    def is_periodic(self) -> bool:
        """Whether a box matters."""
        return self.system.usesPeriodicBoundaryConditions()

    @property
    def box(self) -> Array:
        """Box vectors (3, 3) of the System, in nm, one per row."""
        vectors = self.system.getDefaultPeriodicBoxVectors()
        return np.array([[c for c in v._value] for v in vectors])

    @property
    def masses(self) -> Array:
        """Masses (n,) in dalton; zero for virtual sites and frozen particles."""
        return np.array(
            [self.system.getParticleMass(i)._value for i in range(self.n_particles)], dtype=float
        )

    @property
    def constraints(self) -> Array:
        """Pairs of particles i < j and the distance in nm that each is held at, (n, 3), sorted."""
        n = self.system.getNumConstraints()
        found = (self.system.getConstraintParameters(k) for k in range(n))
        rows = sorted((min(i, j), max(i, j), r._value) for i, j, r in found)
        return np.array(rows, dtype=float).reshape(n, 3)

    @property
    def parameters(self) -> Mapping[str, float]:
        """Global parameters of the forces with their values: what a Context can be told."""
        return self.contexts.mine().parameters

    def forward(self, x: Particles, boxes: Array | None = None) -> Values:
        """Energies (batch,) in kJ/mol of positions (batch, n, 3) in nm.

        boxes: (batch, 3, 3) or one (3, 3), in nm; None for the System's own.
        """
        if torch.is_grad_enabled() and x.requires_grad:
            return differentiable_once(x, lambda y: self._both(y, boxes))
        return self.evaluate(x, boxes, gradient=False)[0]

    def energy_and_gradient(
        self, x: Particles, boxes: Array | None = None
    ) -> tuple[Values, Particles]:
        """Energies (batch,) in kJ/mol and gradients +dU/dx (batch, n, 3), without a graph."""
        return self._both(x, boxes)

    def _both(self, x: Particles, boxes: Array | None) -> tuple[Values, Particles]:
        values, gradient = self.evaluate(x, boxes, gradient=True)
        if gradient is None:
            raise TypeError("no gradient came with the energies")
        return values, gradient

    def evaluate(
        self, x: Particles, boxes: Array | None = None, *, gradient: bool = True
    ) -> tuple[Values, Particles | None]:
        """Energies and, with ``gradient``, gradients, as ``energy_and_gradient``."""
        rows = np.ascontiguousarray(x.detach().cpu().numpy(), dtype=np.float64)
        if rows.ndim != 3 or rows.shape[1:] != (self.n_particles, 3):
            raise InputError("x", f"shape (batch, {self.n_particles}, 3)", tuple(rows.shape))
        chunks = list(self._map(rows, self._boxes(boxes, len(rows)), gradient))
        values = np.concatenate([value for value, _ in chunks]) if chunks else np.empty(0)
        self.n_evaluations += len(rows)
        self.n_infinite += int(np.isinf(values).sum())
        energies = torch.from_numpy(values).to(x.device)
        if not gradient:
            return energies, None
        parts = [part for _, part in chunks if part is not None]
        gradients = np.empty_like(rows) if not parts else parts[0]
        if len(parts) > 1:
            gradients = np.concatenate(parts)
        return energies, torch.from_numpy(gradients).to(x.device)

    def _map(
        self, rows: Array, boxes: Array | None, gradient: bool
    ) -> Iterator[tuple[Array, Array | None]]:
        width = max(len(rows), 1) if self.executor is None else self.chunk
        pieces = [
            (rows[k : k + width], None if boxes is None else boxes[k : k + width], gradient)
            for k in range(0, len(rows), width)
        ]
        if self.executor is None:
            return (self.evaluate_rows(*piece) for piece in pieces)
        futures = [self.executor.submit(self.evaluate_rows, *piece) for piece in pieces]
        return (future.result() for future in futures)

    def evaluate_rows(
        self, rows: Array, boxes: Array | None, gradient: bool
    ) -> tuple[Array, Array | None]:
        """Energies (batch,) and gradients of checked arrays, one after the other, in this thread.

        What an executor is given to do.
        """
        context = self.contexts.mine()
        values = np.full(len(rows), np.inf)
        forces = np.zeros_like(rows) if gradient else None
        # Not left to OpenMM: its Reference platform returns a finite energy for a NaN position.
        able = np.isfinite(rows).all((1, 2))
        if boxes is not None:
            able &= has_volume(boxes)
        for k in np.flatnonzero(able):
            box = None if boxes is None else boxes[k]
            values[k] = context.evaluate(rows[k], box, None if forces is None else forces[k])
        if forces is None:
            return np.where(np.isfinite(values), values, np.inf), None
        possible = np.isfinite(values) & np.isfinite(forces).all((1, 2))
        # In place: fresh pages for a batch can take the kernel longer than OpenMM its energies.
        slopes = np.negative(forces, out=forces)
        slopes[~possible] = 0.0
        slopes[:, context.sites] = 0.0  # some methods leave there what they gave to the parents
        return np.where(possible, values, np.inf), slopes

    def _boxes(self, boxes: Array | None, n: int) -> Array | None:
        if boxes is None:
            return None
        given = np.asarray(boxes, dtype=np.float64)
        if given.shape not in ((3, 3), (n, 3, 3)):
            raise InputError("boxes", f"shape ({n}, 3, 3) or (3, 3)", given.shape)
        return np.broadcast_to(reduced_box(given), (n, 3, 3))

    def __reduce__(self) -> tuple[Callable[..., "OpenMMEnergy"], tuple[Any, ...]]:
        """As XML: another process makes contexts of its own."""
        from openmm import XmlSerializer

        text = XmlSerializer.serialize(self.system)
        return _from_xml, (text, self.platform, self.properties, self.chunk)


def _from_xml(text: str, platform: str, properties: dict[str, str], chunk: int) -> OpenMMEnergy:
    from openmm import XmlSerializer

    system = XmlSerializer.deserialize(text)
    return OpenMMEnergy(system, platform=platform, properties=properties, chunk=chunk)


def read_openmm_system(path: Path, field: str = "system") -> "openmm.System":
    """The System in a file written by ``openmm.XmlSerializer``, also as .gz or .bz2.

    Raises ``InputError(field, ...)`` when there is none, and for one with a force in Python, which
    a file holds as a pickle: reading it would run what the file says.
    """
    from openmm import OpenMMException, System, XmlSerializer

    try:
        text = _text(path)
        if _holds_python(text):
            raise InputError(field, "an OpenMM System without PythonForce, a pickle", f"{path}")
        system = XmlSerializer.deserialize(text)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(field, "a readable XML file", f"{path} ({error})") from error
    except (OpenMMException, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else "damaged"
        raise InputError(field, "an OpenMM System as XML", f"{path} ({first})") from error
    if not isinstance(system, System):
        raise InputError(field, "an OpenMM System as XML", f"{path}, a {type(system).__name__}")
    return system


def _text(path: Path) -> str:
    opener = {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix.lower(), open)
    with opener(path, "rt", encoding="utf-8") as file:
        return file.read()


def _holds_python(text: str) -> bool:
    """Whether OpenMM would unpickle a function; in doubt (XML that is none) it is not asked."""
    if "PythonForce" in text:
        return True
    try:
        nodes = ElementTree.fromstring(text).iter()
    except ElementTree.ParseError as error:
        raise ValueError(f"no XML: {error}") from error
    return any(node.get("type") == "PythonForce" for node in nodes)
