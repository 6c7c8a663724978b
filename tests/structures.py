"""The perfect lattices in `systems/`; run as a script to write them again.

Ice and Lennard-Jones follow the boxes of doi:10.1088/2632-2153/ac6b16 (number density fixed, edges
from it), silicon and copper their lattice constants.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

FCC = np.array([(0, 0, 0), (0, 2, 2), (2, 0, 2), (2, 2, 0)]) / 4
DIAMOND = np.concatenate([FCC, np.array([(3, 3, 3), (3, 1, 1), (1, 3, 1), (1, 1, 3)]) / 4])
A = 0.375
HEXAGONAL = (
    np.array(
        [
            (3, 5, 3 + A),
            (0, 4, A),
            (0, 2, 3 + A),
            (3, 1, A),
            (0, 2, 6 - A),
            (3, 1, 3 - A),
            (3, 5, 6 - A),
            (0, 4, 3 - A),
        ]
    )
    / 6
)
CUBE = np.ones(3)
ORTHOHEXAGONAL = np.array([1.0, np.sqrt(3.0), np.sqrt(8.0 / 3.0)])

ICE_DENSITY = 0.033567184
WATER_MASS = 18.01528


@dataclass(frozen=True)
class Lattice:
    symbol: str
    sites: np.ndarray  # fractions of one unit cell
    repeats: int
    edges: np.ndarray  # (3,) of the whole box
    mass: float | None = None

    def positions(self) -> np.ndarray:
        cells = np.array(list(product(range(self.repeats), repeat=3)))
        fractions = (cells[:, None] + self.sites[None]).reshape(-1, 3) / self.repeats
        return fractions * self.edges

    def text(self) -> str:
        lattice = " ".join(f"{value:.17g}" for value in np.diag(self.edges).ravel())
        properties = "species:S:1:pos:R:3" + (":masses:R:1" if self.mass else "")
        tail = f" {self.mass}" if self.mass else ""
        rows = [
            f"{self.symbol} " + " ".join(f"{value:.17g}" for value in row) + tail
            for row in self.positions()
        ]
        header = f'Lattice="{lattice}" Properties={properties} pbc="T T T"'
        return "\n".join([str(len(rows)), header, *rows]) + "\n"


def at_density(
    symbol: str,
    sites: np.ndarray,
    repeats: int,
    density: float,
    aspect: np.ndarray,
    mass: float | None = None,
) -> Lattice:
    n = len(sites) * repeats**3
    edges = (n / (density * aspect.prod())) ** (1.0 / 3.0) * aspect
    return Lattice(symbol, sites, repeats, edges, mass)


def structures() -> dict[str, Lattice]:
    made = {}
    for repeats in (1, 2, 3, 4):
        made[f"ice/mw_cubic_{8 * repeats**3}"] = at_density(
            "O", DIAMOND, repeats, ICE_DENSITY, CUBE, WATER_MASS
        )
        made[f"ice/mw_hexagonal_{8 * repeats**3}"] = at_density(
            "O", HEXAGONAL, repeats, ICE_DENSITY, ORTHOHEXAGONAL, WATER_MASS
        )
    for repeats in (2, 3, 4, 5):
        made[f"lennard_jones/fcc_{4 * repeats**3}"] = at_density("X", FCC, repeats, 1.28, CUBE)
    for repeats in (2, 3):
        made[f"silicon/diamond_{8 * repeats**3}"] = Lattice(
            "Si", DIAMOND, repeats, 5.43095 * repeats * CUBE
        )
    made["metals/cu_emt_108"] = Lattice("Cu", FCC, 3, 3.6 * 3 * CUBE)
    return made


if __name__ == "__main__":
    folder = Path(__file__).parents[1] / "systems"
    for name, lattice in structures().items():
        (folder / f"{name}.extxyz").write_text(lattice.text(), encoding="utf-8")
