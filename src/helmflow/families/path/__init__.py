"""Free energies along the path from a Gaussian base: crystals and lattice fields."""
