"""A plan held against its imagined outcome: verdicts, their calibrated bounds, and what watches the execution."""
