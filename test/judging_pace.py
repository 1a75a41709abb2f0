"""Whether this machine judges commands so slowly that a robot behind the prefilter has to stand still."""

from collections.abc import Sequence

import numpy as np
import pytest

from deepverse_ros.msg import CommandVerdict
from deepverse_ros.nodes.messages.time import stamp_seconds

LATE = (
    "no verdict answers for this command", "waits for a verdict of its own", "better again",
    "seconds since that verdict's image", "seconds since the newest verdict", "has sent no verdict yet",
)  # fmt: skip
"""Part of every reason that a prefilter has for waiting because verdicts come late."""


def too_slow(latencies_ms: Sequence[float], horizon: float) -> bool:
    """Whether the future that a verdict has imagined is about over when the next verdict comes.

    Args: latencies_ms: from an image, or a command, to its verdict. horizon: seconds that are imagined.
    """
    assert len(latencies_ms) >= 2, "hardly anything was judged, and that is no question of pace"
    return bool(2e-3 * np.quantile(latencies_ms, 0.95) > 0.8 * horizon)


def oldest_used(verdicts: Sequence[CommandVerdict]) -> float:
    """Seconds that what a verdict rests on is old, at most, when the next one comes."""
    stamps = np.array([stamp_seconds(v.header.stamp) for v in verdicts])
    latency = 1e-3 * np.array([v.latency_ms for v in verdicts])
    return float((stamps[1:] + latency[1:] - stamps[:-1]).max())


def late(reasons: Sequence[str]) -> bool:
    """Whether a prefilter that gives these reasons waits for verdicts, and for nothing else."""
    return all(any(word in text for word in LATE) for text in reasons)


def skip_rest(latencies_ms: Sequence[float], reasons: Sequence[str], unharmed: bool) -> None:
    """End a test on such a machine: what was commanded waited for verdicts, for nothing else, and nothing came of it.

    Args: reasons: the prefilter's, while nothing passed. unharmed: whether the robot came to no harm.
    """
    assert late(reasons), set(reasons)
    assert unharmed
    pytest.skip(
        f"a judgement takes up to {1e-3 * np.quantile(latencies_ms, 0.95):.1f} s here, too long for a robot to move: "
        "only that it holds was tested"
    )
