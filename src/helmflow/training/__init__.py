"""Fitting of flows and bases, and the files that let an interrupted run go on."""
