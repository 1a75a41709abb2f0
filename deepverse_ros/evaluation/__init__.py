"""How good and how fast a world model is: metrics, evaluation on held-out episodes, benchmark, reports."""
