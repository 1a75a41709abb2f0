"""Bounds that learn from what is executed: wider after a miss, slowly back to the calibrated ones while they hold.

Adaptive conformal inference (Gibbs and Candès 2021, arXiv 2106.00455) as quantile tracking (Angelopoulos, Candès and
Tibshirani 2023, arXiv 2307.16895), on the logarithm of one factor for the bounds of the goal distance. Whatever the
world does, as long as the factor is below its limit the share of misses in n executed plans is at most
(1 - level) + log(limit) / (rate * n); exchangeability with the calibration plans is not needed.
"""

import math

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.verdicts.calibration import Calibration


class Recalibration:
    """The factor by which goal bounds are widened: from 1, as they were calibrated, to `limit`.

    executed, missed: plans that were taken into account, and how many of these ended beyond their bound.
    """

    def __init__(self, calibration: Calibration | None, rate: float = 0.1, limit: float = 3.0) -> None:
        """Args: calibration: of the checkpoint; rate: of the factor's logarithm per plan, 0: the factor stays 1.

        Raises: ShapeError where rate or limit mean nothing.
        """
        if not (0 <= rate < math.inf and 1 <= limit < math.inf):
            raise ShapeError(f"recalibration: expected rate >= 0 and limit >= 1, got {rate} and {limit}")
        self._calibrated = calibration
        self._rate = rate
        self._most = math.log(limit)
        self._log_factor = 0.0
        self.executed = self.missed = 0

    @property
    def factor(self) -> float:
        return math.exp(self._log_factor)

    @property
    def calibration(self) -> Calibration | None:
        """The checkpoint's, with the bounds as wide as they are now; None where there is none."""
        return None if self._calibrated is None else self._calibrated.scaled(self.factor)

    def observe(self, error: float, step: int, tool_std: float, goal_std: float) -> bool:
        """Take an executed plan into account. Nothing is learned at a step for which no bound was calibrated.

        Args: error: metres between the imagined and the observed tool at the last executed `step`, not a number: a
        miss; tool_std, goal_std: as for Calibration.bound.
        Returns: whether the factor changed.
        """
        bound = math.inf if self.calibration is None else self.calibration.bound(step, tool_std, goal_std)
        if self._calibrated is None or bound == math.inf:
            return False
        missed = not error <= bound
        self.executed, self.missed = self.executed + 1, self.missed + missed
        before = self._log_factor
        change = self._rate * (missed - (1 - self._calibrated.level))
        self._log_factor = min(max(before + change, 0.0), self._most)
        return self._log_factor != before
