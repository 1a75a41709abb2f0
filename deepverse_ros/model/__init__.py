"""The world model: observations encoded into a belief, futures imagined from it, and the networks in between."""
