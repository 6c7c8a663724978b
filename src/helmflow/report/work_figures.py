"""Figures of the work values: crossing distributions, weights, overlap of neighbours."""

from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes

from helmflow.estimators.diagnostics import pareto_k
from helmflow.estimators.reweighting import kish_ess
from helmflow.report.drawing import (
    ESTIMATE,
    FORWARD,
    NEUTRAL,
    REVERSE,
    Drawing,
    Work,
    canvas,
    has,
    thinned,
)
from helmflow.results import Result
from helmflow.skeleton.limits import OVERLAP

MAX_STAGES = 6


def work_distributions(result: Result, work: Work) -> Drawing | None:
    """P_F(w) and P_R(-w) of neighbouring states; they cross at the free-energy difference."""
    if not has(work, "lam", "node", "work"):
        return None
    lam, node, w = work["lam"], work["node"], work["work"]
    sampled = np.flatnonzero(np.bincount(node.astype(int), minlength=len(lam)))
    if len(sampled) < 2:
        return None
    if has(work, "plain_w_F", "plain_w_R", "w_F", "w_R"):
        return _with_and_without_map(result, work)
    pairs = list(pairwise(sampled))
    shown = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, MAX_STAGES).astype(int))]
    columns = {1: 1, 2: 2, 4: 2}.get(len(shown), 3)
    rows = -(-len(shown) // columns)
    figure, axes = canvas(max(6.4, 3.2 * columns), 0.6 + 2.4 * rows, columns, rows)
    data: dict[str, list[float]] = {}
    for axis, (i, j) in zip(axes, shown, strict=False):
        step = float(lam[j] - lam[i])
        crossing = float(work["f_k"][j] - work["f_k"][i]) if has(work, "f_k") else None
        data |= _stage(axis, step * w[node == i], step * w[node == j], crossing, f"{i}-{j}")
        axis.set_title(f"λ {lam[i]:.3g} → {lam[j]:.3g}")
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    for index, axis in enumerate(axes[: len(shown)]):
        if index % columns == 0:
            axis.set_ylabel("density (1/kT)")
        if index + columns >= len(shown):
            axis.set_xlabel("work w (kT, whole system)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    some = "" if len(shown) == len(pairs) else f" {len(shown)} of {len(pairs)} stages are shown."
    return Drawing(
        "work_distributions",
        "Work distributions",
        "Forward work and negated reverse work of neighbouring states. The curves cross at the "
        f"free-energy difference; the more they overlap, the smaller the error.{some}",
        figure,
        data,
    )


def _with_and_without_map(result: Result, work: Work) -> Drawing:
    """Works between two states through the map that was used, and without it."""
    both = [("as used", work["w_F"], work["w_R"])]
    if not np.array_equal(work["w_F"], work["plain_w_F"]):
        both = [
            ("through the map", work["w_F"], work["w_R"]),
            ("without a map", work["plain_w_F"], work["plain_w_R"]),
        ]
    figure, axes = canvas(max(6.4, 4.2 * len(both)), 3.0, len(both))
    crossing = float(work["f_k"][1]) if has(work, "f_k") else None
    data: dict[str, list[float]] = {}
    for axis, (name, forward, reverse) in zip(axes, both, strict=True):
        data |= _stage(axis, forward, -reverse, crossing, name)
        axis.set(title=f"A → B, {name}", xlabel="work w (kT, whole system)")
    axes[0].set_ylabel("density (1/kT)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return Drawing(
        "work_distributions",
        "Work distributions",
        "Forward work and negated reverse work of both states. The curves cross at the "
        "free-energy difference; the more they overlap, the smaller the error.",
        figure,
        data,
    )


def _stage(
    axis: Axes, forward: np.ndarray, reverse: np.ndarray, crossing: float | None, name: str
) -> dict[str, list[float]]:
    both = np.concatenate([forward, reverse])
    both = both[np.isfinite(both)]
    low, high = np.quantile(both, [0.0005, 0.9995])
    pad = 0.04 * (high - low) or 0.5
    bins = int(np.clip(3.0 * len(both) ** (1.0 / 3.0), 12, 60))
    edges = np.linspace(low - pad, high + pad, bins + 1)
    counts = [
        np.histogram(side, edges)[0] / max(len(side), 1) / np.diff(edges)
        for side in (forward, reverse)
    ]
    for density, colour, label in zip(
        counts, (FORWARD, REVERSE), ("forward, P(w)", "reverse, P(−w)"), strict=True
    ):
        axis.stairs(density, edges, color=colour, label=label, linewidth=1.4)
        axis.stairs(density, edges, color=colour, alpha=0.18, fill=True)
    if crossing is not None:
        axis.axvline(crossing, color=ESTIMATE, linestyle="--", label="free-energy difference")
    axis.set_ylim(bottom=0)
    axis.locator_params(axis="x", nbins=5)
    return {
        f"edges {name}": edges.tolist(),
        f"forward {name}": counts[0].tolist(),
        f"reverse {name}": counts[1].tolist(),
        f"difference {name}": [] if crossing is None else [crossing],
    }


def weights(result: Result, work: Work) -> Drawing | None:
    """Share of the total weight carried by the heaviest samples, from both ends."""
    if not has(work, "lam", "node", "work"):
        return None
    at = work["lam"][work["node"].astype(int)]
    ends = ("A", "B") if has(work, "plain_w_F") else ("base", "target")
    sides = {
        f"{ends[0]} → {ends[1]}": -work["work"][at == 0.0],
        f"{ends[1]} → {ends[0]}": work["work"][at == 1.0],
    }
    # an infinite work is a weight of zero; the opposite, or NaN, cannot be drawn
    sides = {name: log_w[log_w < np.inf] for name, log_w in sides.items()}
    sides = {name: log_w for name, log_w in sides.items() if np.isfinite(log_w).sum() > 1}
    if not sides:
        return None
    figure, (axis,) = canvas(5.4, 3.8)
    data: dict[str, list[float]] = {}
    shapes = []
    for (name, log_w), colour in zip(sides.items(), (FORWARD, REVERSE), strict=False):
        weight = np.sort(np.exp(log_w - np.max(log_w)))[::-1]
        share = np.concatenate([[0.0], np.cumsum(weight) / weight.sum()])
        fraction = np.linspace(0.0, 1.0, len(share))
        efficiency = kish_ess(log_w) / len(log_w)
        axis.plot(100 * fraction, 100 * share, color=colour, label=f"{name}, ESS {efficiency:.2g}")
        shapes.append(f"{pareto_k(log_w):.2f}")
        data |= {
            f"fraction {name}": thinned(fraction).tolist(),
            f"share {name}": thinned(share).tolist(),
        }
    axis.plot([0, 100], [0, 100], color=NEUTRAL, linestyle=":", label="equal weights")
    axis.set(
        xlabel="heaviest samples (%)",
        ylabel="share of the weight (%)",
        title=f"tail shape k-hat = {' and '.join(shapes)}",
        xlim=(0, 100),
        ylim=(0, 102),
    )
    axis.legend(loc="lower right")
    return Drawing(
        "weights",
        "Importance weights",
        "Weights of the samples when one end is reweighted to the other in a single step. Near "
        "the dotted line all samples count; k-hat above 0.7 means that such one-step estimates "
        "cannot be trusted (BAR, which uses both ends, and stages in between do not need them).",
        figure,
        data,
    )


def overlap_matrix(result: Result, work: Work) -> Drawing | None:
    """Overlap matrix of all states: neighbours need at least 0.03."""
    if not has(work, "overlap"):
        return None
    overlap = work["overlap"]
    size = len(overlap)
    figure, (axis,) = canvas(5.4, 4.4)
    image = axis.imshow(overlap, cmap="Blues", vmin=0.0, vmax=max(1.0 / size, overlap.max()))
    figure.colorbar(image, ax=axis, label="probability", shrink=0.85)
    if size <= 10:
        for (i, j), value in np.ndenumerate(overlap):
            weak = abs(i - j) == 1 and value < OVERLAP.soft
            light = "white" if value > 0.6 * overlap.max() else "#111827"
            axis.text(
                j,
                i,
                f"{value:.2f}",
                ha="center",
                va="center",
                fontsize=8,
                color=REVERSE if weak else light,
                fontweight="bold" if weak else "normal",
            )
    ticks = np.arange(0, size, 1 + size // 13)
    axis.set(xlabel="state", ylabel="state", xticks=ticks, yticks=ticks)
    axis.grid(visible=False)
    worst = np.diagonal(overlap, 1).min() if size > 1 else np.nan
    return Drawing(
        "overlap_matrix",
        "Overlap of states",
        "Probability that a sample of one state (row) belongs to another (column), all states "
        f"taken together; {worst:.2g} for the worst neighbours. The check on overlap takes "
        "neighbours two by two.",
        figure,
        {"overlap": overlap.tolist()},
    )
