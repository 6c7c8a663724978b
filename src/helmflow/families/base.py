"""What the skeleton asks of a family: one kind of system, from its physics to a finding."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from helmflow.densities.base import Density
from helmflow.errors import InputError
from helmflow.generalised_work import ReducedPotential
from helmflow.settings import Settings
from helmflow.skeleton.quantity import Finding, Quantity
from helmflow.skeleton.run import Run
from helmflow.system import System, SystemTable
from helmflow.tables import ClosedTable


class Family(ABC):
    """Everything that is special about one kind of system.

    A family opens no file, reads no clock, types no limit and builds no result: `Run` counts
    energies, keeps stages and reports progress, `checks` judges, `conclude` writes the result.
    """

    noun: str
    """What messages call such a system, "a crystal"."""

    methods: ClassVar[tuple[str, ...]]
    """What ``method`` may be."""

    target_error: ClassVar[float]
    """Standard error to reach unless the settings say otherwise, in the unit of the result."""

    flow_kind: ClassVar[str] = "transport"
    """The kind of flow where the settings leave it open."""

    table: ClassVar[type[SystemTable]] = SystemTable
    """Schema of its files; of a family that is registered from outside."""

    def __init__(self, system: System) -> None:
        self.system = system

    @staticmethod
    def build(table: Any, path: Path, factory: Any) -> System:
        """The system in a file; of a family that is registered from outside."""
        raise InputError("kind", "a family that builds its systems", table.kind)

    @abstractmethod
    def reads(self, settings: Settings) -> Collection[str]:
        """Keys of tables, such as "flow.steps", that a run with these settings depends on."""

    @property
    @abstractmethod
    def quantity(self) -> Quantity:
        """What is computed."""

    @abstractmethod
    def estimate(self, run: Run) -> Finding:
        """Compute it."""

    def keeps_flow(self, settings: Settings) -> bool:
        """Whether a run with these settings leaves a flow that samples can be drawn from."""
        return settings.method == "flow"

    def flow(self, run: Run) -> tuple[Density, ReducedPotential]:
        """The flow that a finished run keeps, and the reduced potential of its samples."""
        raise InputError("run", "a run that keeps a flow", f"one of {self.noun}")

    def configurations(self, x: Tensor) -> Tensor:
        """Configurations as a user knows them, from samples of the flow."""
        return x

    def accept(self, settings: Settings) -> Settings:
        """The settings with the family's defaults where they leave something open.

        Raises InputError for a method that it does not have, and for the first setting that was
        changed and that a run would not read, because it would have no effect. A value equal to
        the default passes, because the ``settings.toml`` of a run repeats them all.
        """
        if settings.method not in self.methods:
            expected = f"{' or '.join(self.methods)} for {self.noun}"
            raise InputError("method", expected, settings.method)
        settings = self._with_defaults(settings)
        read = self.reads(settings)
        source = settings.flow.source
        if source is not None and settings.method != "flow" and "flow.source" not in read:
            raise InputError("flow", "--method flow with it", settings.method)
        for name, table in settings:
            if not isinstance(table, ClosedTable):
                continue
            for key in sorted(table.model_fields_set):
                value, default = getattr(table, key), type(table).model_fields[key].default
                usual = (
                    (default, self.flow_kind) if (name, key) == ("flow", "kind") else (default,)
                )
                if f"{name}.{key}" not in read and value not in usual:
                    unread = f"none: {self.noun} by method {settings.method} does not read it"
                    raise InputError(f"{name}.{key}", unread, repr(value))
        return settings

    def _with_defaults(self, settings: Settings) -> Settings:
        target_error, flow = settings.target_error, settings.flow
        if target_error is None:
            target_error = self.target_error
        if flow.kind is None:
            flow = flow.model_copy(update={"kind": self.flow_kind})
        return settings.model_copy(update={"target_error": target_error, "flow": flow})
