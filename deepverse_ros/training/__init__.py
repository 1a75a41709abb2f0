"""Training of a world model: its stages, their losses and batches, the engine below them, and the calibration."""
