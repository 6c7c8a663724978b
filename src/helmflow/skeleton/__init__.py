"""What every run does, once: stages, budget, clock, checks, and the result at its end."""
