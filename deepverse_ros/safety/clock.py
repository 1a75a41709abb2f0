"""Two clocks at once: the one that stamps are in, and one that never jumps."""

import math
from dataclasses import dataclass

from deepverse_ros.safety.check import Check


@dataclass(frozen=True)
class Now:
    """The present moment by two clocks.

    steady: seconds of a clock that only runs on (time.monotonic).
    ros: seconds of the ROS clock.
    """

    steady: float
    ros: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.steady) and math.isfinite(self.ros)

    def age(self, stamp: float, then: "Now") -> float:
        """Seconds since `stamp` (ROS), of which was known at `then` how old it was.

        The larger of what both clocks say: a ROS clock that stands or went back does not keep anything young.
        """
        return max(self.ros - stamp, then.ros - stamp + self.steady - then.steady)


class ClockWatch:
    """Finds jumps of the ROS clock, back and forth, and a ROS clock that stands.

    A simulation's clock may run faster or slower than the steady one; only a step is a jump.
    """

    def __init__(self) -> None:
        self._last: Now | None = None
        self._moved = 0.0

    def look(self, now: Now, jump: float, freeze: float) -> Check:
        """To be called with every event. Not fine, once: at a jump; as long as it lasts: while the clock stands.

        Args: jump: seconds by which the ROS clock may run ahead of the steady one between two looks. freeze: seconds
        of the steady clock for which it may stand.
        """
        if not now.finite:
            return Check("clock", False, text=f"the clock says {now.ros} (ROS), {now.steady} (steady)")
        last = self._last
        self._last = now
        if last is None:
            self._moved = now.steady
            return Check("clock", True, 0.0, jump)
        ran, ticked = now.ros - last.ros, now.steady - last.steady
        if ran != 0:
            self._moved = now.steady
        if ran < 0 or ticked < 0:
            return Check("clock", False, min(ran, ticked), 0.0, f"the clock went back by {-min(ran, ticked):.3g} s")
        if ran - ticked > jump:
            text = f"the ROS clock jumped ahead by {ran - ticked:.3g} s, at most {jump:.3g} s"
            return Check("clock", False, ran - ticked, jump, text)
        stands = now.steady - self._moved
        if stands > freeze:
            return Check("clock", False, stands, freeze, f"the ROS clock has stood for {stands:.3g} s")
        return Check("clock", True, max(ran - ticked, 0.0), jump)
