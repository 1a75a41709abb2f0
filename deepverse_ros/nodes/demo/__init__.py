"""The demo: six goals for the simulated arm, and one that it must refuse."""
