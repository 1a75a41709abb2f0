"""Which halts are sent: a controller that others use as well is not told the same thing at every tick."""

import numpy as np

from deepverse_ros.safety.clock import Now
from deepverse_ros.safety.commands import Command, Layout

_SAME = 1e-9  # in each value's unit


class Halts:
    """Keeps what was sent last, if that was a halt.

    A robot that stays where it is needs a halt once, and again now and then, for a message may have been lost. Drivers
    of rates need a stream of them.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._last: tuple[np.ndarray, float] | None = None

    def due(self, halt: Command, rate: float, now: Now) -> bool:
        """Whether to send it now; if so, it counts as sent. Args: rate: repeats per second, 0 for none."""
        values = halt.values[-1]
        if self._layout.stays and self._last is not None:
            before, at = self._last
            repeats = rate > 0 and now.steady - at >= 1 / rate
            if not repeats and np.allclose(values, before, rtol=0, atol=_SAME):
                return False
        self._last = values, now.steady
        return True

    def over(self) -> None:
        """Something else was sent: the next halt is a new one."""
        self._last = None
