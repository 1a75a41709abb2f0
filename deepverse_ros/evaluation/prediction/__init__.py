"""How well a world model predicts what it has not seen, and how far it knows its errors."""
