"""Where a series begins to fluctuate about its mean, and what is lost by waiting for it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from helmflow.errors import InputError
from helmflow.estimators.autocorrelation import integrated_autocorrelation
from helmflow.estimators.inputs import as_float_array

_CANDIDATES = 50
"""Starts that are tried, evenly spread: more would resolve what one correlation time hides."""

_LATEST = 0.95
"""Part of a series beyond which nothing starts: a short rest looks settled by chance."""

_AS_GOOD = 0.95
"""Of the most effective samples: where all of the series has as many, nothing is left out, which
would be by chance."""

FEWEST = 20
"""Values that must be left for their correlation to be known."""


@dataclass(frozen=True)
class Equilibration:
    """A series from ``start`` on has ``n_eff`` effective samples; all of it, ``n_eff_all``."""

    start: int
    n_eff: float
    n_eff_all: float


def equilibration(series: ArrayLike) -> Equilibration:
    """The start that leaves most effective samples of a series (n,) in time order.

    ``max_t (n - t) / g(t)`` up to t = 0.95 n, or 0 where that has 95 % as many; g of the values
    from t on: a drift at the beginning is one long correlation, and leaving it out gains more than
    its values are worth. A series that has not equilibrated by its second half loses most of
    itself, and nothing here can save it.
    Raises InputError for fewer than 20 values, NaN or inf.
    Source: J. D. Chodera, doi:10.1021/acs.jctc.5b00784.
    """
    values = as_float_array("series", series, ndim=1)
    if values.size < FEWEST:
        raise InputError("series", f"at least {FEWEST} values", values.size)
    latest = min(values.size - FEWEST, _LATEST * values.size)
    starts = np.unique(np.linspace(0, latest, _CANDIDATES).astype(int))
    sizes = [integrated_autocorrelation(values[t:]).n_eff for t in starts]
    best = 0 if sizes[0] >= _AS_GOOD * max(sizes) else int(np.argmax(sizes))
    return Equilibration(int(starts[best]), sizes[best], sizes[0])
