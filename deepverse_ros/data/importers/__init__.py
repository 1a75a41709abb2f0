"""Recordings of others as episodes."""
