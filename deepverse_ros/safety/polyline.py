"""Values on straight lines between way points, all of them at once: commands are looked up at every one of them."""

import numpy as np

_SHORTEST = 1e-300  # seconds; where two way points are one, there is no way to divide


def interpolate(at: np.ndarray | float, times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where `at` (...) is on the way.

    Args: times (K,) rising seconds; values (K, A). Returns: (..., A); before the first way point the first, after the
    last one the last, and at each exactly its values.
    """
    at = np.asarray(at, float)
    before = np.maximum(np.searchsorted(times, at, side="right") - 1, 0)
    after = np.minimum(before + 1, len(times) - 1)
    begin, start = times[before], values[before]
    share = np.minimum(np.maximum(at - begin, 0.0) / np.maximum(times[after] - begin, _SHORTEST), 1.0)
    return start + share[..., None] * (values[after] - start)
