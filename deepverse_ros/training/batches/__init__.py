"""Episodes in memory, and the windows that batches are made of."""
