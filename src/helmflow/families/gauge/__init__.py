"""Gauge theories on a lattice: from a base over a flow to weights, charges and ln Z."""
