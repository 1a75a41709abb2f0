"""Candidate plans: where they come from, and the search that ranks, imagines and chooses."""
