"""What every stage runs on: steps, states, processes, precision, curves."""
