"""The simulated arm: its model and scene, how it is commanded, and what planners are measured on there."""
