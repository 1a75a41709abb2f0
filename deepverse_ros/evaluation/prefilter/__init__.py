"""What the prefilter prevents and costs, in simulation and in recordings."""
