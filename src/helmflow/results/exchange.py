"""Works in the shapes that other packages of the field take."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray


def as_pymbar(estimate: Estimate, w_F: Array, w_R: Array) -> dict[str, object]:
    """What ``pymbar.bar(w_F, w_R)`` returns, and the works: ``Delta_f``, ``dDelta_f`` in kT."""
    return {
        "Delta_f": estimate.value,
        "dDelta_f": estimate.stderr,
        "w_F": np.asarray(w_F),
        "w_R": np.asarray(w_R),
    }


def u_nk(potentials: Sequence[Array], temperature: float | None) -> "pd.DataFrame":
    """Reduced potentials as alchemlyb reads them; needs pandas.

    potentials: for each state k the matrix (n_k, K) of its samples in all states, in kT. The
    frame has the index (time, fep-lambda), a column per state, and ``attrs`` temperature (K) and
    energy unit. States are named by their number.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise InputError("u_nk", "pandas to be installed", "it is not") from error
    states = [float(k) for k in range(len(potentials))]
    frames = [
        pd.DataFrame(
            np.asarray(rows, dtype=np.float64),
            columns=states,
            index=pd.MultiIndex.from_product(
                [np.arange(len(rows), dtype=np.float64), [state]], names=["time", "fep-lambda"]
            ),
        )
        for state, rows in zip(states, potentials, strict=True)
    ]
    frame = pd.concat(frames)
    frame.attrs = {"temperature": temperature, "energy_unit": "kT"}
    return frame


def works_as_potentials(w_F: Array, w_R: Array) -> list[Array]:
    """Two states from works: each sample has potential 0 in its own state and w in the other."""
    w_F, w_R = np.asarray(w_F), np.asarray(w_R)
    return [
        np.stack([np.zeros_like(w_F), w_F], axis=1),
        np.stack([w_R, np.zeros_like(w_R)], axis=1),
    ]
