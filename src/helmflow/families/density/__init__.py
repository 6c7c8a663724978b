"""Densities on tori and spheres."""
