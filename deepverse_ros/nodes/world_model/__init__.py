"""The world model as a node: the running command's future, and verdicts on commands for the prefilter."""
