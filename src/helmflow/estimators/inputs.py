"""Checked conversion of what a user passes (torch or numpy, any float) to float64 arrays."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from helmflow.errors import InputError

FloatArray = np.ndarray
"""A numpy array of float64."""

_INFINITE_WORK = 1e100


def as_float_array(field: str, values: ArrayLike, ndim: int = 1) -> FloatArray:
    """A float64 array of the ``values``; single precision warns, NaN or wrong rank raises.

    A quantity of OpenMM or pint is taken if it has no unit, and refused otherwise.
    """
    values = _without_unit(field, values)
    detach = getattr(values, "detach", None)
    try:
        given = np.asarray(values if detach is None else detach().cpu())
        array = given.astype(np.float64, copy=False)
    except (TypeError, ValueError):
        raise InputError(field, "an array of numbers", type(values).__name__) from None
    if given.dtype in (np.float16, np.float32):
        warnings.warn(f"{field}: {given.dtype} values are rounded; use float64", stacklevel=4)
    if array.ndim != ndim:
        raise InputError(field, f"{ndim} dimension(s)", f"shape {array.shape}")
    n_nan = int(np.isnan(array).sum())
    if n_nan:
        raise InputError(field, "no NaN", f"{n_nan} NaN of {array.size}")
    return array


def _without_unit(field: str, values: Any) -> Any:
    first: Any = values[0] if isinstance(values, (list, tuple)) and values else values
    if hasattr(first, "value_in_unit"):  # OpenMM
        unit, plain = first.unit, lambda x: x.value_in_unit(x.unit)
        unitless = unit.is_dimensionless()
    elif hasattr(first, "magnitude") and hasattr(first, "units"):  # pint
        unit, plain = first.units, lambda x: x.to("").magnitude
        unitless = bool(first.dimensionless)
    else:
        return values
    if not unitless:
        raise InputError(field, "plain numbers (energies in kT)", f"a quantity in {unit}")
    return plain(values) if first is values else [plain(x) for x in values]


def as_work(field: str, values: ArrayLike) -> FloatArray:
    """Work values (n,) in kT, at least two: +inf allowed (weight zero), -inf and NaN not.

    Beyond 1e100 kT a work counts as infinite, so that squares of finite works are finite.
    """
    work = as_float_array(field, values)
    if work.size < 2:
        raise InputError(field, "at least 2 work values", work.size)
    if work.min() < -_INFINITE_WORK:
        raise InputError(field, f"works above {-_INFINITE_WORK:g} kT", float(work.min()))
    work = np.where(work > _INFINITE_WORK, np.inf, work)
    if not np.isfinite(work).any():
        raise InputError(field, "at least one finite work", f"{work.size} x inf")
    return work


def as_log_weights(field: str, values: ArrayLike) -> FloatArray:
    """Log weights (n,): -inf allowed (weight zero), +inf, NaN and no weight at all are not."""
    log_w = as_float_array(field, values)
    if log_w.size == 0:
        raise InputError(field, "at least one log weight", 0)
    if np.isposinf(log_w).any():
        raise InputError(field, "no +inf", f"{int(np.isposinf(log_w).sum())} of {log_w.size}")
    if not np.isfinite(log_w).any():
        raise InputError(field, "at least one finite log weight", f"{log_w.size} x -inf")
    return log_w


def as_inefficiency(field: str, g: float) -> float:
    """A statistical inefficiency ``g = 2 tau_int``, finite and at least 1."""
    if not 1.0 <= g < np.inf:
        raise InputError(field, "a statistical inefficiency >= 1", g)
    return float(g)
