"""Bounds that learn from what is executed: wider after a miss, slowly narrower while they hold.

Quantile tracking after Angelopoulos, Candès and Tibshirani, "Conformal PID Control for Time Series Prediction", 2023
(arXiv 2307.16895), on the logarithm of one factor for all bounds. As long as the factor is not at its end, the share of
misses over a long run is 1 - level, whatever the world does; exchangeability with the calibration plans is not needed.
"""

import math
from dataclasses import replace

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.verdict import Calibration


class Recalibration:
    """The factor by which bounds are widened.

    Args: calibration: of the checkpoint; rate: of the logarithm of the factor per executed plan; least, most: the
    factor stays between these, so that no run of luck makes the bounds vanish.
    Raises: ShapeError where these mean nothing.
    """

    def __init__(self, calibration: Calibration, rate: float = 0.1, least: float = 0.75, most: float = 3.0) -> None:
        if not (rate >= 0 and 0 < least <= 1 <= most):
            raise ShapeError(f"recalibration: expected rate >= 0 and least <= 1 <= most, got {rate}, {least}, {most}")
        self._calibration, self._rate = calibration, rate
        self._least, self._most = math.log(least), math.log(most)
        self._log_factor = 0.0
        self.executed = self.missed = 0

    @property
    def calibration(self) -> Calibration:
        """The checkpoint's, with the bounds as wide as they are now."""
        return replace(self._calibration, widened=math.exp(self._log_factor))

    def observe(self, error: float, bound: float) -> Calibration:
        """Take an executed plan into account, and return the calibration for the next.

        Args: error: metres between what was imagined and what was seen; bound: what had been promised for it.
        """
        missed = not error <= bound
        self.executed, self.missed = self.executed + 1, self.missed + missed
        change = self._rate * (missed - (1 - self._calibration.level))
        self._log_factor = min(max(self._log_factor + change, self._least), self._most)
        return self.calibration
