"""Potentials and works in files of arrays: npz, CSV, parquet, netCDF of replica exchange."""

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from helmflow.data.frames import TIME, from_frames
from helmflow.data.potentials import SampledPotentials
from helmflow.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray

WORKS = ("w_F", "w_R")
LONGEST = 4096
"""Characters of the comment in front of a CSV file."""


def from_npz(path: Path) -> SampledPotentials:
    """pymbar's ``u_kn`` (K, N) with ``N_k`` (K,), or works ``w_F`` (n,) and ``w_R`` (m,), kT."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = {name.lower(): name for name in archive.files}
            arrays = {low: np.asarray(archive[name]) for low, name in names.items()}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(str(path), "a readable .npz", " ".join(str(error).split())) from error
    if {"u_kn", "n_k"} <= set(arrays):
        return from_u_kn(arrays["u_kn"], arrays["n_k"], field=str(path))
    if {"w_f", "w_r"} <= set(arrays):
        return from_works(arrays["w_f"], arrays["w_r"], field=str(path))
    expected = "u_kn and N_k, or w_F and w_R"
    raise InputError(str(path), expected, ", ".join(names.values()) or "nothing")


def from_u_kn(u_kn: Array, n_k: Array, *, field: str = "u_kn") -> SampledPotentials:
    """Potentials (K, N) of all samples, ordered by the state they are from, n_k (K,) of each."""
    u, counts = _numbers(field, u_kn), _numbers(field, n_k)
    if u.ndim != 2 or counts.shape != u.shape[:1] or (counts != np.floor(counts)).any():
        expected = "u_kn (K, N) and N_k (K,), whole numbers"
        raise InputError(field, expected, f"shapes {u.shape} and {counts.shape}")
    if not counts.size or counts.min() < 0 or counts.sum() != u.shape[1]:
        got = f"N_k of {counts.sum():g} in all for {u.shape[1]} samples"
        hint = "; transposed?" if counts.sum() == u.shape[0] else ""
        raise InputError(field, "N_k that add up to the number of columns", got + hint)
    cuts = np.cumsum(counts.astype(int))[:-1]
    labels = tuple(str(k) for k in range(len(counts)))
    return SampledPotentials(tuple(np.split(u.T, cuts)), labels)


def from_works(w_F: Array, w_R: Array, *, field: str = "works") -> SampledPotentials:
    """Works of A to B (n,) and of B to A (m,), kT: potentials but for an offset per sample."""
    forward, reverse = _numbers(field, w_F), _numbers(field, w_R)
    if forward.ndim != 1 or reverse.ndim != 1:
        raise InputError(field, "works (n,) and (m,)", f"{forward.shape} and {reverse.shape}")
    tables = (
        np.stack([np.zeros_like(forward), forward], 1),
        np.stack([reverse, np.zeros_like(reverse)], 1),
    )
    return SampledPotentials(tables, ("A", "B"))


def from_table(path: Path) -> SampledPotentials:
    """A CSV or parquet file: alchemlyb's u_nk, or columns ``w_F`` and ``w_R``; needs pandas.

    A CSV may begin with a line such as ``# temperature = 300``.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise InputError(str(path), "pandas to be installed", "it is not") from error
    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, comment="#")
            frame.attrs |= _comment(path)
    except (OSError, ValueError, ImportError, UnicodeError) as error:
        expected = f"a readable {path.suffix} file"
        raise InputError(str(path), expected, " ".join(str(error).split())[:200]) from error
    if set(WORKS) <= set(frame.columns):
        sides = (frame[name].dropna().to_numpy() for name in WORKS)
        return from_works(*sides, field=str(path))
    return from_frames(_indexed(frame, path), field=str(path))


def _indexed(frame: "pd.DataFrame", path: Path) -> "pd.DataFrame":
    """The frame with time and lambdas as its index, which CSV files have as columns."""
    import pandas as pd

    if TIME in frame.index.names:
        return frame
    index = [c for c in frame.columns if c == TIME or str(c).endswith("lambda") or c == "state"]
    if TIME not in index or len(index) < 2:
        expected = "columns w_F and w_R, or time, a lambda or state, and one for each state"
        raise InputError(str(path), expected, ", ".join(map(str, frame.columns[:6])))
    rest = [c for c in frame.columns if c not in index and c != "volume"]
    found = pd.DataFrame(
        frame[rest].to_numpy(),
        index=pd.MultiIndex.from_arrays([frame[c] for c in index], names=index),
        columns=[_tuple(c) if len(index) > 2 else c for c in rest],
    )
    found.attrs = frame.attrs
    return found


def _tuple(name: object) -> object:
    """Lambdas of a state that pandas wrote as "(0.0, 0.5)"."""
    numbers = re.findall(r"[-+0-9.eE]+", str(name))
    return tuple(numbers) if len(numbers) > 1 else name


def _comment(path: Path) -> dict[str, object]:
    with open(path, encoding="utf-8") as file:
        line = file.readline(LONGEST)
    found = re.match(r"#\s*temperature\s*=\s*([-+0-9.eE]+)", line)
    return {"temperature": float(found[1])} if found else {}


def _numbers(field: str, values: Array) -> Array:
    array = np.asarray(values)
    try:
        if array.dtype.kind not in "fiu":
            array = array.astype(object).astype(np.float64)
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(field, "real numbers", str(array.dtype)) from error
