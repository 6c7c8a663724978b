"""The file ``metrics.jsonl``: one line of JSON per training step."""

import json
from pathlib import Path
from typing import final

from helmflow.training.atomic import write_atomically
from helmflow.training.plan import StepReport


@final
class MetricsFile:
    """A ``report`` of ``train`` that writes every step to a file.

    A resumed run repeats the steps after its checkpoint; the first report removes from the file
    what it is about to write again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fresh = True

    def __call__(self, report: StepReport) -> None:
        if self._fresh:
            self._forget_from(report.step)
            self._fresh = False
        with open(self.path, "a") as file:
            file.write(json.dumps(report.as_json(), allow_nan=False) + "\n")

    def _forget_from(self, step: int) -> None:
        lines = []
        if self.path.is_file():
            for line in self.path.read_text().splitlines():
                # A line cut short by a crash belongs to a step that is done again.
                if line.endswith("}") and json.loads(line)["step"] < step:
                    lines.append(line + "\n")
        write_atomically(self.path, "".join(lines).encode())
