"""What the planner and its parts achieve in simulated tasks."""
