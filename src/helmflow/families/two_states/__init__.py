"""Free-energy differences between sampled states, without and with maps."""
