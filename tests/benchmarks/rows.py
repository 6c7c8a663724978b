"""The published rows: absolute free energies of ice and Lennard-Jones crystals."""

ROWS = (
    "ice/mw_cubic_64",
    "ice/mw_cubic_216",
    "ice/mw_cubic_512",
    "ice/mw_hexagonal_64",
    "ice/mw_hexagonal_216",
    "ice/mw_hexagonal_512",
    "lennard_jones/fcc_256",
    "lennard_jones/fcc_500",
)
