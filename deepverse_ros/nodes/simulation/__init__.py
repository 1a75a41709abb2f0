"""A simulated robot behind the topics that a real one would have."""
