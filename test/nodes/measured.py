"""Where a robot is, as a node hears it."""

import time

import numpy as np

from deepverse_ros.nodes.perception.robot_state import StateInput


def measured(source: StateInput, timeout: float = 30.0) -> np.ndarray:
    """(A,); on a busy machine joints are too old for a moment, and then nobody knows."""
    end = time.monotonic() + timeout
    while (state := source.now()) is None:
        assert time.monotonic() < end, source.problem()
        time.sleep(0.01)
    return state.values
