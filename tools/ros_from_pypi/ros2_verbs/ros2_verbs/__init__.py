"""Verbs for `ros2` that no wheel on PyPI brings. Used as the originals are."""
