"""The planner as a node: goals in, judged plans out."""
