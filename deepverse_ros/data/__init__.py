"""Episodes: how they are stored, collected and imported."""
