"""The prefilter as a node: a process of its own, without torch and MuJoCo."""
