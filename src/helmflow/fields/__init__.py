"""Local functions of displacements that generate control variates."""
