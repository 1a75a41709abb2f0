"""A process in the place of the world model: heartbeats, and verdicts on one command.

Numbers on the command line are the seconds at which an obstacle appears and leaves, in turn; --rate is in Hz, and
--valid-for the seconds for which a verdict may be used.
"""

import argparse
import bisect
import signal
import time

import numpy as np
import rclpy
from rclpy.node import Node
from std_msgs.msg import Header

from deepverse_ros.embodiment import Embodiment
from deepverse_ros.msg import CommandVerdict
from deepverse_ros.nodes import qos
from deepverse_ros.nodes.command_verdicts import command_verdict_to_msg
from deepverse_ros.safety.commands import Layout
from deepverse_ros.safety.finding import Action, Finding
from deepverse_ros.safety.verdict import Envelope, Verdict

CENTER = np.array([0.4, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0])
HALF_WIDTH = 0.1


OBSTACLE = Finding(Action.STOP, "person", 3, 40, 15, 0.0, text="zone 'person': 40 points at step 3, 15 count")


class VerdictSource(Node):
    def __init__(self, obstacle: list[float], rate: float, valid_for: float) -> None:
        super().__init__("world_model")
        self._obstacle, self._valid_for, self._began = obstacle, valid_for, time.monotonic()
        self._names = Layout.of(Embodiment.load("arm")).names
        self._heartbeat = self.create_publisher(Header, "~/heartbeat", qos.command())
        self._verdict = self.create_publisher(CommandVerdict, "~/command_verdict", qos.command())
        self.create_timer(1.0 / rate, self._say)

    def _say(self) -> None:
        stamp = self.get_clock().now()
        now = stamp.nanoseconds * 1e-9
        self._heartbeat.publish(Header(stamp=stamp.to_msg(), frame_id="base_link"))
        envelope = Envelope(now, np.array([self._valid_for + 0.6]), CENTER[None], np.full(8, HALF_WIDTH))
        there = bisect.bisect(self._obstacle, time.monotonic() - self._began) % 2 == 1
        verdict = Verdict(now, now - 0.03, self._valid_for, envelope, OBSTACLE if there else Finding(Action.CLEAR))
        self._verdict.publish(command_verdict_to_msg(verdict, self._names, "base_link"))


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parser = argparse.ArgumentParser()
    parser.add_argument("obstacle", type=float, nargs="*")
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--valid-for", type=float, default=1.0)
    given = parser.parse_args()
    rclpy.init()
    rclpy.spin(VerdictSource(given.obstacle, given.rate, given.valid_for))


if __name__ == "__main__":
    main()
