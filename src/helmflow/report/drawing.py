"""One figure of the report: how it looks, and the numbers in it."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by every kind of colour vision
FORWARD = "#0072B2"
REVERSE = "#D55E00"
ESTIMATE = "#009E73"
NEUTRAL = "#6b7280"

STYLE: dict[Any, Any] = {
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.0,
    "legend.fontsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": "#111827",
    "xtick.color": "#374151",
    "ytick.color": "#374151",
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "helmflow",
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 5),
}

Work = Mapping[str, np.ndarray]
"""The arrays of ``work.npz`` by name; any may be absent."""


@dataclass(frozen=True)
class Drawing:
    """A finished figure: file-like name, title, caption for a person, and its data."""

    name: str
    title: str
    caption: str
    figure: Figure
    data: Mapping[str, Sequence[float] | Sequence[Sequence[float]] | float]

    def svg(self) -> bytes:
        """The figure; identical bytes for identical data."""
        buffer = BytesIO()
        with rc_context(STYLE):
            self.figure.savefig(buffer, format="svg", metadata={"Date": None}, dpi=130)
        return buffer.getvalue()

    def svg_source(self) -> str:
        """The figure as an address an ``<img>`` can show without another file."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg()).decode()

    def json(self) -> str:
        """The data as strict JSON; numbers that are not finite become null."""
        return json.dumps(
            {name: finite(values) for name, values in self.data.items()}, allow_nan=False
        )


def canvas(
    width: float, height: float, columns: int = 1, rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure (inches) with a grid of axes, without touching matplotlib's global state."""
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.ravel())


def settle(figure: Figure) -> None:
    """Fix the layout, which would otherwise move a little every time it is drawn."""
    figure.draw_without_rendering()
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def has(work: Work, *names: str) -> bool:
    """Whether all of these arrays are there and not empty."""
    return all(name in work and np.size(work[name]) for name in names)


def finite(values: object) -> object:
    """Numbers and nested lists for JSON, seven digits, null for NaN and infinities."""
    array = np.asarray(values, dtype=float)
    if array.ndim == 0:
        return float(f"{float(array):.7g}") if np.isfinite(array) else None
    return [finite(item) for item in array]


def thinned(values: np.ndarray, n: int = 200) -> np.ndarray:
    """At most ``n`` evenly spaced entries along the first axis, both ends included."""
    if len(values) <= n:
        return values
    return values[np.linspace(0, len(values) - 1, n).round().astype(int)]
