"""alchemlyb's frames: ``u_nk`` with a column per state, ``dHdl`` with a column per lambda."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from helmflow.data.potentials import SampledPotentials, Slopes
from helmflow.errors import InputError
from helmflow.units import BOLTZMANN

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray
State = tuple[float, ...]

TIME = "time"


def from_frames(
    u_nk: "pd.DataFrame", dHdl: "pd.DataFrame | None" = None, *, field: str = "u_nk"
) -> SampledPotentials:
    """Potentials, and slopes if there are any, of frames indexed by time and lambdas.

    Rows that are there twice, as restarts write them, count once. One lambda is put in order;
    states of several keep the order of the columns. ``attrs`` may name the temperature (K) and
    the energy unit, kT unless said otherwise. Raises InputError for a frame without states in its
    index, for samples of a state that is no column, and for another unit without a temperature.
    """
    if not hasattr(u_nk, "columns") or not hasattr(u_nk, "index"):
        raise InputError(field, "a frame of pandas, or SampledPotentials", type(u_nk).__name__)
    states = _ordered([_state(field, column) for column in u_nk.columns])
    columns = {_state(field, column): k for k, column in enumerate(u_nk.columns)}
    temperature, kT = _scale(u_nk, field)
    rows_of = _rows_of_states(u_nk, field)
    foreign = sorted(set(rows_of) - set(states))
    if foreign:
        expected = f"samples of states that are columns ({_names(states)})"
        raise InputError(field, expected, f"samples at {_name(foreign[0])}")
    rows = _numbers(u_nk, field)[:, [columns[state] for state in states]] / kT
    none = np.empty(0, dtype=int)
    potentials = tuple(rows[rows_of.get(state, none)] for state in states)
    slopes = None if dHdl is None else _slopes(dHdl, states)
    labels = tuple(_name(state) for state in states)
    return SampledPotentials(potentials, labels, temperature, slopes)


def _slopes(frame: "pd.DataFrame", states: Sequence[State]) -> Slopes:
    _, kT = _scale(frame, "dHdl")
    rows_of, none = _rows_of_states(frame, "dHdl"), np.empty(0, dtype=int)
    rows = _numbers(frame, "dHdl") / kT
    values = tuple(rows[rows_of.get(state, none)] for state in states)
    return Slopes(np.array(states, dtype=np.float64), values)


def _state(field: str, column: object) -> State:
    """A column or an index as lambdas; raises InputError for anything else."""
    numbers = column if isinstance(column, tuple) else (column,)
    try:
        return tuple(float(number) for number in numbers)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        expected = "columns named by lambdas, one per state"
        raise InputError(field, expected, repr(column)) from error


def _rows_of_states(frame: "pd.DataFrame", field: str) -> dict[State, Array]:
    """Rows of every state in time order, equal ones of one time only once, empty ones not."""
    import pandas as pd

    names = list(frame.index.names)
    if len(names) < 2 or names[0] != TIME:
        expected = f"an index of {TIME} and lambdas, a row per sample"
        got = f"an index of {', '.join(map(str, names))} and shape {frame.shape}"
        raise InputError(field, expected, got)
    codes, states = pd.factorize(frame.index.droplevel(TIME))
    try:
        times = np.asarray(frame.index.get_level_values(TIME), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(field, f"numbers as {TIME}", str(error)) from error
    fresh = ~(frame.reset_index().duplicated() | frame.isna().all(axis=1).to_numpy()).to_numpy()
    found = {}
    for k, state in enumerate(states):
        rows = np.flatnonzero((codes == k) & fresh)
        found[_state(field, state)] = rows[np.argsort(times[rows], kind="stable")]
    return found


def _numbers(frame: "pd.DataFrame", field: str) -> Array:
    try:
        return frame.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(field, "real numbers", " ".join(str(error).split())) from error


def _ordered(states: Sequence[State]) -> list[State]:
    return sorted(states) if states and len(states[0]) == 1 else list(states)


def _scale(frame: "pd.DataFrame", field: str) -> tuple[float | None, float]:
    """Temperature in kelvin, and k_B T in the frame's unit of energy."""
    given = frame.attrs.get("temperature")
    temperature = None if given is None else float(given)
    if temperature is not None and not 0.0 < temperature < np.inf:
        raise InputError(f"{field}, temperature", "kelvin", given)
    unit = frame.attrs.get("energy_unit", "kT")
    if unit == "kT":
        return temperature, 1.0
    if unit not in BOLTZMANN or unit == "epsilon" or temperature is None:
        expected = "energies in kT, or a known unit and attrs['temperature']"
        raise InputError(f"{field}, energy_unit", expected, unit)
    return temperature, BOLTZMANN[unit] * temperature


def _name(state: State) -> str:
    return ", ".join(f"{x:g}" for x in state)


def _names(states: Sequence[State]) -> str:
    return "; ".join(_name(s) for s in states[:4]) + ("; ..." if len(states) > 4 else "")
