"""Progress of a run on stderr: a live line on a terminal, now and then a plain line elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from helmflow.estimators.estimate import format_uncertainty
from helmflow.results import Event

PLAIN_INTERVAL = 15.0
"""Seconds between two plain lines of one stage."""


class ProgressDisplay:
    """A listener for ``Event``, used as a context manager around a run.

    On a terminal every stage is one live line: bar, detail (such as lambda), estimate with error,
    energy evaluations, time left. Elsewhere (a log file, a batch job) a plain line is written when
    a stage begins and ends and every ``PLAIN_INTERVAL`` seconds.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._last_line = -PLAIN_INTERVAL
        self._bars = Progress(
            TextColumn("{task.description}", justify="right"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("[cyan]{task.fields[detail]}"),
            TextColumn("[bold]{task.fields[estimate]}"),
            TextColumn("{task.fields[energies]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Show ``event``."""
        if self._console.is_terminal:
            self._draw(event)
        else:
            self._write(event)

    def _draw(self, event: Event) -> None:
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bars.add_task(
                event.stage, detail="", estimate="", energies=""
            )
        self._bars.update(
            self._tasks[event.stage],
            total=event.total,
            completed=event.completed,
            detail=event.detail,
            estimate=estimate_text(event),
            energies=_energies(event),
        )

    def _write(self, event: Event) -> None:
        now = time.monotonic()
        new = event.stage not in self._tasks
        ended = event.completed >= event.total
        if not (new or ended or now - self._last_line >= PLAIN_INTERVAL):
            return
        self._tasks[event.stage] = TaskID(0)
        self._last_line = now
        share = 100.0 * event.completed / event.total if event.total > 0 else 100.0
        stage = f"{event.stage} {share:.0f}%"
        parts = [stage, event.detail, estimate_text(event), _energies(event)]
        self._console.print(Text("  ".join(part for part in parts if part)), soft_wrap=True)


def estimate_text(event: Event) -> str:
    """The estimate of an event as ``-25.163(2)``, empty when there is none yet."""
    if event.value is None:
        return ""
    if event.stderr is None:
        return f"{event.value:.6g}"
    return format_uncertainty(event.value, event.stderr)


def _energies(event: Event) -> str:
    return f"{event.energy_evaluations:,} energies" if event.energy_evaluations else ""
