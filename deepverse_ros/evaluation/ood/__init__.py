"""Whether the model notices what it does not know."""
