"""Finding plans by imagination, and judging them by their imagined outcome."""
