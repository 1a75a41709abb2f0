"""Who keeps a plan from going on, and why: what the prefilter between planner and robot says of itself."""

import threading
import time
from dataclasses import dataclass

from deepverse_ros.msg import PrefilterStatus
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.runtime.parameters import Parameter

PARAMETERS = (
    Parameter(
        "prefilter_status_topic",
        "",
        "What the prefilter that stands between planner and robot says of itself (PrefilterStatus), so that a result "
        "says why a plan was kept; empty: nobody does.",
    ),
)
STALE = 2.0
"""Seconds after which a status says nothing of now; it comes ten times a second."""
_KEEPS = {
    PrefilterStatus.STOP: "STOP",
    PrefilterStatus.FALLBACK: "FALLBACK",
    PrefilterStatus.RECOVER: "RECOVER, where only what leads out of a stop passes",
}


@dataclass(frozen=True)
class Kept:
    """text: who keeps the plan and why, as a sentence. cause: the same where another plan is kept for the same."""

    text: str
    cause: tuple[str, ...]


class Keeper:
    """The newest status that forbade something since the plan was sent, one with a failed check before all others."""

    def __init__(self, node: RobotNode) -> None:
        self._node, self._lock = node, threading.Lock()
        self._heard = -float("inf")
        self._forbids: PrefilterStatus | None = None
        topic = self._topic = node.parameters["prefilter_status_topic"]
        self._subscription = (
            node.subscribe(PrefilterStatus, topic, self._on_status, qos.debug_output()) if topic else None
        )

    def destroy(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)

    def begin(self) -> None:
        """A plan is about to be sent."""
        with self._lock:
            self._forbids = None

    def why(self) -> Kept:
        """Why nothing of the plan has gone on."""
        passed = self._node.parameters["passed_command_topic"]
        with self._lock:
            silent, status = time.monotonic() - self._heard, self._forbids
        if not self._topic:
            text = f"nothing of it came out on '{passed}'; why is not known, as prefilter_status_topic is empty"
            return Kept(text, ("unknown",))
        if silent > STALE:
            how = "nothing" if silent == float("inf") else f"nothing for {silent:.1f} s"
            return Kept(f"the prefilter says {how} on '{self._topic}': does it run, and is it active?", ("silent",))
        if status is None:
            text = (
                f"the prefilter is open, but nothing of it came out on '{passed}': does it get the planner's commands?"
            )
            return Kept(text, ("open",))
        failed = (check.name for check in status.checks if not check.ok)
        text = f"the prefilter is in {_KEEPS[status.state]}"
        reason = status.text or "it gives no reason"
        return Kept(f"{text}: {reason}", (text, status.zone, *sorted(failed)))

    def _on_status(self, message: PrefilterStatus) -> None:
        with self._lock:
            self._heard = time.monotonic()
            if message.state not in _KEEPS or message.mode != PrefilterStatus.ENFORCE:
                return
            # A stop lasts longer than its cause, and a command that has waited for too long is judged no more.
            if self._forbids is None or _faulty(message) or not _faulty(self._forbids):
                self._forbids = message


def _faulty(status: PrefilterStatus) -> bool:
    return not all(check.ok for check in status.checks)
