"""Flows of crystals and lattice fields: fitted or trained, sampled, certified, kept."""
