"""What a search returns: a plan with its verdict, and the candidates that it came from."""

from dataclasses import dataclass

import numpy as np

from deepverse_ros.planning.objectives.base import Future
from deepverse_ros.planning.verdicts.verdict import Verdict


@dataclass(frozen=True)
class Candidates:
    """The last plans that were imagined in a search: plans (N, H, A), costs (N,), tool paths (N, H, 3) metres."""

    plans: np.ndarray
    costs: np.ndarray
    tool_paths: np.ndarray


@dataclass(frozen=True)
class PlanResult:
    """A plan with its verdict; where it is rejected, the robot must hold.

    plan (H, A), future of that plan alone; both None when the deadline left no time to imagine anything.
    searches: how many searches were made; rejected: verdicts of the best plans of the searches that failed.
    """

    plan: np.ndarray | None
    verdict: Verdict
    future: Future | None
    candidates: Candidates | None
    iterations: int
    searches: int
    latency_ms: float
    rejected: tuple[Verdict, ...] = ()

    @property
    def tool_path(self) -> np.ndarray:
        """(H, 3) metres: where the tool is imagined after each step. Only where there is a future."""
        assert self.future is not None
        return self.future.readout["tool_position"][0].detach().float().cpu().numpy()

    @property
    def tool_std(self) -> np.ndarray:
        """(H,) metres: predicted standard deviation of `tool_path`."""
        assert self.future is not None
        return self.future.uncertainty[0].detach().float().cpu().numpy()
