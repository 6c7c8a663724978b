"""openmmtools' netCDF files of replica exchange: replicas are sorted into states."""

from pathlib import Path

import numpy as np

from helmflow.data.potentials import SampledPotentials
from helmflow.errors import InputError


def from_netcdf(path: Path) -> SampledPotentials:
    """Reduced potentials (iteration, replica, state) with the state of every replica; kT.

    Iteration 0 is the start, which nobody sampled. States that were not sampled come first and
    last, as openmmtools has them. Raises InputError without netCDF4, and for other files.
    """
    try:
        import netCDF4
    except ImportError as error:
        expected = f"netCDF4 to be installed, to read {path.name}"
        raise InputError("files", expected, "it is not") from error
    try:
        with netCDF4.Dataset(str(path)) as file:
            last = int(np.asarray(file.variables["last_iteration"][:]).max())
            rows = slice(1, last + 1)
            energies = _array(file.variables["energies"][rows])
            states = _array(file.variables["states"][rows]).astype(int)
            more = file.variables.get("unsampled_energies")
            unsampled = None if more is None else _array(more[rows])
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        expected = "a netCDF file of openmmtools' multistate samplers"
        raise InputError(str(path), expected, " ".join(str(error).split())) from error
    k = energies.shape[2] if energies.ndim == 3 else 0
    if not k or states.shape != energies.shape[:2] or states.min() < 0 or states.max() >= k:
        expected = "energies (iteration, replica, state) and states (iteration, replica)"
        raise InputError(str(path), expected, f"{energies.shape} and {states.shape}")
    if unsampled is not None and unsampled.shape[2] == 2:
        energies = np.concatenate([unsampled[:, :, :1], energies, unsampled[:, :, 1:]], 2)
        states, k = states + 1, k + 2
    # in time order, also where several replicas share a state
    tables = tuple(energies[states == state] for state in range(k))
    return SampledPotentials(tables, tuple(str(state) for state in range(k)))


def _array(values: object) -> np.ndarray:
    """Missing entries as NaN."""
    return np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan)
