"""Figures of several states: their free energies, and the steps between them."""

import numpy as np

from helmflow.report.drawing import ESTIMATE, FORWARD, Drawing, Work, canvas, has
from helmflow.results import Result


def free_energies_of_states(result: Result, work: Work) -> Drawing | None:
    """f of every state relative to the first, and of every state relative to the one before."""
    if not has(work, "f_k", "stderr_ij") or len(work["f_k"]) < 3:
        return None
    f, stderr = work["f_k"], work["stderr_ij"]
    k = np.arange(len(f))
    steps, errors = np.diff(f), np.diagonal(stderr, 1)
    figure, (profile, each) = canvas(7.6, 3.0, 2, 1)
    profile.errorbar(k, f, yerr=stderr[0], fmt="o-", color=ESTIMATE, capsize=3)
    profile.set(xlabel="state", ylabel="f - f of the first (kT)")
    each.bar(k[1:], steps, yerr=errors, color=FORWARD, width=0.6, capsize=3)
    each.set(xlabel="state", ylabel="f - f of the one before (kT)")
    ticks = k[:: 1 + len(f) // 13]
    for axis in (profile, each):
        axis.set_xticks(ticks)
    return Drawing(
        "free_energies_of_states",
        "Free energies of the states",
        "Left: f of every state, with its standard error, relative to the first; the last is the "
        "result. Right: from each state to the next. Errors of neighbouring steps are correlated, "
        "as both rest on the samples of the state between them.",
        figure,
        {"f_k": f.tolist(), "stderr_k": stderr[0].tolist(), "step_stderr": errors.tolist()},
    )
