"""What a node sends to controllers: trajectories and grippers, by topic or action."""
