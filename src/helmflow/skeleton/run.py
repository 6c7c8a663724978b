"""``Run``: everything a family needs besides the physics."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, TypeVar

from torch import Generator, Tensor

from helmflow.estimators.estimate import Estimate
from helmflow.results import Check, Cost, Event, Result, RunDirectory
from helmflow.settings import Settings
from helmflow.shapes import Values
from helmflow.skeleton.budget import Budget
from helmflow.skeleton.conclude import conclude
from helmflow.skeleton.energy_trial import EnergyTrial
from helmflow.skeleton.kept import Form, Kept, read_kept, write_kept
from helmflow.skeleton.quantity import Finding, Quantity
from helmflow.streams import stream
from helmflow.tables import parse_table

T = TypeVar("T")
Listen = Callable[[Event], None]


def silent(_: Event) -> None:
    """Listens to nothing."""


class Run:
    """One computation: settings, random streams, budget, progress, and what it keeps.

    Without a ``directory`` nothing is written and nothing can be resumed. ``quantity``, once it is
    known, turns free energies into the numbers that progress shows.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        directory: RunDirectory | None = None,
        listen: Listen = silent,
    ) -> None:
        self.name, self.settings, self.directory = name, settings, directory
        self.budget = Budget(settings.max_evaluations)
        self.quantity: Quantity | None = None
        self._listen = listen
        self._trials: list[tuple[EnergyTrial, Values]] = []
        if directory is not None:
            directory.rewind()

    @classmethod
    def in_memory(cls, name: str, seed: int) -> "Run":
        """A computation of a library function, which keeps nothing; the settings are its own."""
        return cls(name, parse_table(Settings, {"seed": int(seed)}))

    def stream(self, purpose: str) -> Generator:
        """Random numbers for one purpose; those of different purposes are independent."""
        return stream(self.settings.seed, purpose)

    def tell(
        self,
        stage: str,
        completed: float = 1.0,
        total: float = 1.0,
        detail: str = "",
        estimate: Estimate | None = None,
        values: Mapping[str, float | int | None] | None = None,
    ) -> None:
        """Report progress, with the free energy in kT so far; see `Event` for the rest."""
        value = stderr = None
        if estimate is not None and self.quantity is not None:
            value = self.quantity.value(estimate.value)
            stderr = self.quantity.stderr(estimate.stderr)
        n = self.budget.evaluations
        self._listen(Event(stage, completed, total, detail, value, stderr, n, values or {}))

    def once(self, name: str, make: "Callable[[Stage], T]", form: Form[T]) -> T:
        """The value of a stage: read if it is kept already, otherwise made and kept at once.

        ``make`` gets the stage, in which a long computation saves its state now and then. A run
        that is resumed finds the budget as it was when the stage was kept.
        """
        stage = Stage(self, name)
        kept = stage.finished()
        if kept is not None:
            return form.unpack(kept)
        value = make(stage)
        kept = form.pack(value)
        stage.finish(kept)
        # Not the value itself: this process and one that resumes must go on from the same bits.
        return form.unpack(kept)

    def try_energy(self, trial: EnergyTrial, name: str = "trial") -> EnergyTrial:
        """Put an energy on trial, here and once more when the run is concluded.

        Raises InputError for one that cannot be sampled.
        """
        form = Form[Values](lambda u: Kept({"u": u}), lambda kept: kept.tensors["u"])
        opening = self.once(name, lambda _: trial.open(self.budget.left), form)
        self.budget.set_aside += trial.n_evaluations
        self._trials.append((trial, opening))
        return trial

    def conclude(self, quantity: Quantity, finding: Finding) -> Result:
        """The result; with a directory it and the arrays of the report are written."""
        finding = replace(finding, checks=(*finding.checks, *self._close_trials(finding)))
        if self.directory is not None:
            self.directory.write_work(finding.arrays)
        cost = self.budget.cost()
        result = conclude(self.name, self.settings, cost, quantity, finding)
        if self.directory is not None:
            self.directory.write_result(result)
        return result

    @property
    def trial(self) -> EnergyTrial | None:
        """The last energy that was put on trial."""
        return self._trials[-1][0] if self._trials else None

    def _close_trials(self, finding: Finding) -> list[Check]:
        checks = []
        for trial, opening in self._trials:
            self.budget.set_aside -= trial.n_evaluations
            checks += trial.close(opening, finding.headline.stderr, self.budget.left)
        return checks


class Stage:
    """A part of a run that is kept when it is finished, and whose state may be saved on the way.

    Also where a training keeps its state (`helmflow.training.checkpoint.Store`).
    """

    def __init__(self, run: Run, name: str) -> None:
        self._run, self._name = run, name
        directory = run.directory
        self._file = None if directory is None else directory.file_of_stage(name)
        self._last: tuple[Kept, dict[str, str]] | None = None
        if directory is not None and self._file is not None and self._file.is_file():
            self._last = read_kept(self._file, {"digest": directory.digest})

    def __str__(self) -> str:
        return f"{self._file}"

    def finished(self) -> Kept | None:
        """What is kept of the stage, if it was finished by an earlier process."""
        if self._last is None or self._last[1]["finished"] != "yes":
            return None
        self._restore_budget()
        return self._last[0]

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and facts that an earlier process has saved last."""
        if self._last is None or self._last[1]["finished"] == "yes":
            return None
        self._restore_budget()
        kept = self._last[0]
        return dict(kept.tensors), dict(kept.facts)

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Keep the state of a stage that goes on."""
        self._write(Kept(tensors, facts), finished=False)

    def finish(self, kept: Kept) -> None:
        """Keep the stage."""
        self._write(kept, finished=True)

    def _restore_budget(self) -> None:
        if self._last is not None:
            self._run.budget.restore(Cost(**json.loads(self._last[1]["cost"])))

    def _write(self, kept: Kept, *, finished: bool) -> None:
        directory = self._run.directory
        if self._file is None or directory is None:
            return
        header = {
            "stage": self._name,
            "digest": directory.digest,
            "cost": json.dumps(asdict(self._run.budget.cost())),
            "finished": "yes" if finished else "no",
            "metrics_bytes": str(directory.bytes_of_metrics()),
        }
        write_kept(self._file, kept, header)
        self._last = kept, header
