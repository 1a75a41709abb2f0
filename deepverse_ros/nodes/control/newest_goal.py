"""A client of an action of which only the newest goal counts, as for the actions of controllers."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient

from deepverse_ros.nodes.messages.controller_status import ControllerStatus, State
from deepverse_ros.nodes.runtime.lifecycle import RobotNode

_ENDS = {
    GoalStatus.STATUS_SUCCEEDED: State.SUCCEEDED,
    GoalStatus.STATUS_CANCELED: State.CANCELED,
    GoalStatus.STATUS_ABORTED: State.ABORTED,
}
DISCOVERY = 5.0
"""Seconds in which the server may be found before its absence is told."""


class _Client(ActionClient):
    """Goals may be sent beside the thread that spins the node.

    rclpy notes a request after it was sent: an answer that another thread takes meanwhile would be dropped.
    """

    def __init__(self, lock: threading.RLock, *args: Any, **kwargs: Any) -> None:
        self._mine = lock
        super().__init__(*args, **kwargs)

    async def execute(self, taken_data: Any) -> None:
        with self._mine:
            await super().execute(taken_data)


class NewestGoal:
    """Sends goals without ever waiting; what becomes of the newest one is its status. Thread-safe.

    A new goal replaces the one before it: the server is expected to end that one (as ros2_control's do), and what it
    says of it is not listened to.

    Args: kind: the action. outcome: error code and text of the action's result. on_change: called with the status after
    each change. timeout: seconds in which a server has to take or reject a goal.
    """

    def __init__(
        self,
        node: RobotNode,
        kind: Any,
        name: str,
        outcome: Callable[[Any], tuple[int, str]],
        on_change: Callable[[ControllerStatus], None],
        timeout: float,
    ) -> None:
        self._node, self._outcome, self._on_change, self._timeout = node, outcome, on_change, timeout
        self.name = name
        self._lock = threading.RLock()
        self._client = _Client(self._lock, node, kind, name)
        self._status = ControllerStatus(name)
        self._number = 0
        """Of the newest goal."""
        self._handle: Any = None
        self._unwanted: set[int] = set()
        """Goals to cancel as soon as they are accepted."""
        self._asked = self._made = time.monotonic()
        self._told = False

    def destroy(self) -> None:
        self._client.destroy()

    def reachable(self) -> bool:
        return bool(self._client.server_is_ready())

    def send(self, goal: Any) -> None:
        with self._lock:
            self._number += 1
            self._handle, self._asked = None, time.monotonic()
            status = ControllerStatus(self.name, State.SENT, sent=self._node.now())
            if not self.reachable():  # such a request would be lost, and never be answered
                self._change(replace(status, state=State.NO_SERVER))
                return
            self._change(status)
            number = self._number
            self._client.send_goal_async(goal).add_done_callback(lambda sent: self._on_answer(number, sent))

    def cancel(self) -> bool:
        """Have the newest goal canceled. Returns: whether there is one to cancel."""
        with self._lock:
            if not self._status.pending:
                return False
            if self._handle is None:
                self._unwanted.add(self._number)
            else:
                self._handle.cancel_goal_async()
            self._number += 1  # what becomes of it is no news
            self._change(ControllerStatus(self.name))
            return True

    def status(self) -> ControllerStatus:
        """Of the newest goal. To be asked again and again: a server that does not answer is noticed here."""
        with self._lock:
            if self._status.state == State.SENT and time.monotonic() - self._asked > self._timeout:
                text = f"neither took nor rejected it within {self._timeout:g} s"
                self._unwanted.add(self._number)  # who takes it later must not move the robot then
                self._number += 1
                self._change(replace(self._status, state=State.UNANSWERED, text=text))
            elif self._status.state == State.EXECUTING and not self.reachable():
                self._number += 1
                self._change(replace(self._status, state=State.UNANSWERED, text="went away while it executed it"))
            return self._status

    def problem(self) -> str:
        """What is wrong with the connection, empty where nothing is; told in the log once."""
        if self.reachable():
            self._told = False
            return ""
        if time.monotonic() - self._made < DISCOVERY:
            return ""
        text = f"there is no action server '{self.name}'; is the controller active, and is the name right?"
        if not self._told:
            self._told = True
            self._node.get_logger().warning(text)
        return text

    def _on_answer(self, number: int, sent: Any) -> None:
        with self._lock:
            handle = sent.result()
            unwanted = number in self._unwanted
            self._unwanted.discard(number)
            if not handle.accepted:
                if number == self._number:
                    self._change(replace(self._status, state=State.REJECTED))
                return
            if unwanted:
                handle.cancel_goal_async()
            if number != self._number:
                return
            self._handle = handle
            self._change(replace(self._status, state=State.EXECUTING))
            handle.get_result_async().add_done_callback(lambda ended: self._on_result(number, ended))

    def _on_result(self, number: int, ended: Any) -> None:
        with self._lock:
            if number != self._number:
                return
            answer = ended.result()
            code, text = self._outcome(answer.result)
            state = _ENDS.get(answer.status, State.ABORTED)
            self._change(replace(self._status, state=state, error_code=code, text=text))

    def _change(self, status: ControllerStatus) -> None:
        self._status = status
        self._on_change(status)
