"""The stages of a training, each a network and what it learns from."""
