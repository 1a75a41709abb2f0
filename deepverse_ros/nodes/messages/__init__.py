"""Messages read and written: what a message says in numpy, and numpy as a message. No node, no topic."""
