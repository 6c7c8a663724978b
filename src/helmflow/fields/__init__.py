"""Local functions of displacements that generate control variates and transport fields."""
