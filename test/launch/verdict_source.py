"""A process in the place of the world model: heartbeats, and verdicts on one command.

Numbers on the command line are the seconds at which an obstacle appears and leaves, in turn.
"""

import argparse
import bisect
import signal
import time

import numpy as np
import rclpy
from rclpy.node import Node
from std_msgs.msg import Header

from deepverse_ros.msg import CommandVerdict
from deepverse_ros.nodes.messages.command_verdict import command_verdict_to_msg
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.commands import Layout
from deepverse_ros.safety.finding import Finding
from deepverse_ros.safety.verdict import Envelope, Verdict

CENTER = np.array([0.4, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0])
HALF_WIDTH = 0.1


OBSTACLE = Finding(Action.STOP, "person", 3, 40, 15, 0.0, text="zone 'person': 40 points at step 3, 15 count")


class VerdictSource(Node):
    def __init__(self, obstacle: list[float]) -> None:
        super().__init__("world_model")
        self._obstacle, self._began = obstacle, time.monotonic()
        self._names = Layout.of(Embodiment.load("arm")).names
        self._heartbeat = self.create_publisher(Header, "~/heartbeat", qos.command())
        self._verdict = self.create_publisher(CommandVerdict, "~/command_verdict", qos.command())
        self.create_timer(0.1, self._say)

    def _say(self) -> None:
        stamp = self.get_clock().now()
        now = stamp.nanoseconds * 1e-9
        self._heartbeat.publish(Header(stamp=stamp.to_msg(), frame_id="base_link"))
        envelope = Envelope(now, np.array([1.6]), CENTER[None], np.full(8, HALF_WIDTH))
        there = bisect.bisect(self._obstacle, time.monotonic() - self._began) % 2 == 1
        verdict = Verdict(now, now - 0.03, 1.0, envelope, OBSTACLE if there else Finding(Action.CLEAR))
        self._verdict.publish(command_verdict_to_msg(verdict, self._names, "base_link", "arm"))


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parser = argparse.ArgumentParser()
    parser.add_argument("obstacle", type=float, nargs="*")
    given = parser.parse_args()
    rclpy.init()
    rclpy.spin(VerdictSource(given.obstacle))


if __name__ == "__main__":
    main()
