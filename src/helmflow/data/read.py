"""From any mixture of names of files to sampled potentials."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from helmflow.data.archives import from_npz, from_table
from helmflow.data.engines import PACKED, SUFFIXES, engine_of, read_engine
from helmflow.data.potentials import SampledPotentials
from helmflow.data.replica_exchange import from_netcdf
from helmflow.errors import InputError

SINGLE = {".npz": from_npz, ".csv": from_table, ".parquet": from_table, ".nc": from_netcdf}


def read_potentials(
    paths: Sequence[str | Path], temperature: float | None = None
) -> SampledPotentials:
    """What one calculation has left in its files: those of one program, or one file of arrays.

    GROMACS .xvg, AMBER .out, NAMD .fepout and GOMC .dat, also packed, one or more for every state;
    alchemlyb's u_nk as .parquet or .csv, pymbar's u_kn or works as .npz or .csv, openmmtools' .nc.
    ``temperature`` in kelvin, where the files do not know it. Raises InputError that names what
    cannot be read.
    """
    files = [Path(path) for path in paths]
    for path in files:
        if not path.is_file():
            raise InputError("files", "files that are there", str(path))
    engines = {engine_of(path) for path in files}
    if len(engines) == 1 and (engine := engines.pop()) is not None:
        return read_engine(engine, files, temperature)
    if len(files) != 1 or files[0].suffix.lower() not in SINGLE:
        packed = f", also with {' or '.join(PACKED)}"
        expected = (
            f"files of one program ({', '.join(SUFFIXES)}{packed}), or one of {', '.join(SINGLE)}"
        )
        raise InputError("files", expected, ", ".join(path.name for path in files[:4]) or "none")
    found = SINGLE[files[0].suffix.lower()](files[0])
    known = found.temperature
    if known is not None and temperature is not None and abs(known - temperature) > 0.01 * known:
        raise InputError("temperature", f"{known:g} K, as {files[0].name} says", temperature)
    return replace(found, temperature=temperature if known is None else known)
