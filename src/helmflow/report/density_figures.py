"""The picture of a density: the surface itself beside the samples that were drawn from it."""

import itertools

import numpy as np
from matplotlib.axes import Axes

from helmflow.report.drawing import FORWARD, NEUTRAL, REVERSE, Drawing, Work, canvas, has
from helmflow.results import Result

SHOWN, DEPTH = 4000, 12.0
"""Samples in the picture, and nats below the mode at which its colours end."""


def density_map(result: Result, work: Work) -> Drawing | None:
    """ln p on a torus or sphere of two dimensions, and exact samples beside it."""
    if not has(work, "map_log_p", "map_first", "map_second", "samples"):
        return None
    first, second, log_p = work["map_first"], work["map_second"], work["map_log_p"] - result.value
    x = work["samples"]
    x = x[np.linspace(0, len(x) - 1, min(SHOWN, len(x))).round().astype(int)]
    torus = x.shape[1] == 2
    if torus:
        across, up, a, b = first, second, *x.T
        names, shown = ("first angle", "second angle"), log_p.T
    else:
        # equal areas: the sine of the latitude is the third coordinate
        across, up = second, np.sin(first)
        a, b = np.arctan2(x[:, 1], x[:, 0]), x[:, 2]
        names, shown = ("longitude, atan2(x₂, x₁)", "x₃"), log_p
    figure, (left, right) = canvas(9.4, 4.4, 2)
    finite = shown[np.isfinite(shown)]
    top = float(finite.max())
    bottom = max(top - DEPTH, float(finite.min()))
    colours = left.pcolormesh(
        across, up, shown, vmin=bottom, vmax=top, cmap="viridis", rasterized=True
    )
    figure.colorbar(colours, ax=left, label="ln p")
    right.plot(a, b, ".", markersize=2.0, alpha=0.4, color=FORWARD, rasterized=True)
    for axis in (left, right):
        axis.set(
            xlabel=names[0],
            ylabel=names[1],
            xlim=(across[0], across[-1]),
            ylim=(up[0], up[-1]),
        )
        axis.grid(visible=False)
    return Drawing(
        "density",
        "The density and exact samples",
        "Left: ln p, its normalisation the ln Z above, down to at most 12 nats below the mode. "
        "Right: samples of the Metropolis chain, which are distributed like p.",
        figure,
        {"first": first.tolist(), "second": second.tolist(), "log_p": log_p.tolist()},
    )


def torsion_map(result: Result, work: Work) -> Drawing | None:
    """Free-energy surface of samples on a torus: the fitted flow beside the histogram."""
    if not has(work, "surface_flow", "surface_histogram", "surface_edges"):
        return None
    # from -180 to 180 degrees, as torsions are drawn
    edges = np.degrees(work["surface_edges"]) - 180.0
    half = (len(edges) - 1) // 2
    lowest = float(np.nanmin(work["surface_flow"]))
    figure, axes = canvas(9.4, 4.4, 2)
    for axis, name in zip(axes, ("flow", "histogram"), strict=True):
        shown = np.roll(work[f"surface_{name}"], (half, half), (0, 1)) - lowest
        colours = axis.pcolormesh(
            edges, edges, shown.T, vmin=0.0, vmax=DEPTH, cmap="viridis_r", rasterized=True
        )
        for box in np.degrees(work.get("basins", np.empty((0, 4)))):
            _outline(axis, *box)
        axis.set(
            xlabel="first angle (degrees)",
            ylabel="second angle (degrees)",
            title=name,
            xlim=(-180.0, 180.0),
            ylim=(-180.0, 180.0),
            xticks=range(-180, 181, 90),
            yticks=range(-180, 181, 90),
        )
        axis.grid(visible=False)
        axis.set_facecolor(NEUTRAL + "22")
    figure.colorbar(colours, ax=axes, label="−ln p (kT above the lowest)")
    return Drawing(
        "surface",
        "The surface by the flow and by the histogram",
        "Minus the logarithm of the density of the fitted flow, and of the weighted histogram of "
        "the same samples; grey cells hold none. Lines surround the basins of the table.",
        figure,
        {
            "edges": work["surface_edges"].tolist(),
            "flow": work["surface_flow"].tolist(),
            "histogram": work["surface_histogram"].tolist(),
        },
    )


def _outline(axis: Axes, low: float, high: float, bottom: float, top: float) -> None:
    """A box of angles (degrees) with all its images."""
    right = low + ((high - low) % 360.0 or 360.0)
    ceiling = bottom + ((top - bottom) % 360.0 or 360.0)
    for across, up in itertools.product((-360.0, 0.0, 360.0), repeat=2):
        axis.plot(
            np.array([low, right, right, low, low]) + across,
            np.array([bottom, bottom, ceiling, ceiling, bottom]) + up,
            color=REVERSE,
            linewidth=1.0,
        )
