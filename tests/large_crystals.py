"""Crystals larger than the shipped ones, written where a test wants them."""

from pathlib import Path

from ase.io import read, write

from helmflow.system import System, load_system


def larger_ice(folder: Path, repeats: int) -> System:
    """Cubic ice of 8 repeats^3 molecules at the published state point."""
    unit, shipped = (load_system(f"ice/mw_cubic_{n}") for n in (8, 512))
    name = f"mw_cubic_{8 * repeats**3}"
    atoms = read(unit.path.with_suffix(".extxyz")).repeat((repeats, repeats, repeats))
    write(folder / f"{name}.extxyz", atoms)
    text = shipped.path.read_text().replace("mw_cubic_512", name)
    target = folder / f"{name}.toml"
    target.write_text(text)
    return load_system(str(target))
