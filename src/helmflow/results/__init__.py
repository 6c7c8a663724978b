"""What a run reports (``Result``), where (``RunDirectory``), and its progress (``Event``)."""

from helmflow.results.directory import FLOW, Event, RunDirectory
from helmflow.results.lock import working_in
from helmflow.results.one_go import in_one_go
from helmflow.results.result import (
    Bounds,
    Check,
    Cost,
    EstimateRow,
    Observable,
    OtherUnit,
    ReferenceDeviation,
    Result,
    grade,
    installed_versions,
    own_version,
)

__all__ = [
    "FLOW",
    "Bounds",
    "Check",
    "Cost",
    "EstimateRow",
    "Event",
    "Observable",
    "OtherUnit",
    "ReferenceDeviation",
    "Result",
    "RunDirectory",
    "grade",
    "in_one_go",
    "installed_versions",
    "own_version",
    "working_in",
]
