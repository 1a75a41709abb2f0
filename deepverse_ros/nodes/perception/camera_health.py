"""Why a camera shows nothing, or nothing of use: one sentence for logs, verdicts, results and /diagnostics."""

import math
import time

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CompressedImage, Image

from deepverse_ros.nodes.runtime import graph
from deepverse_ros.nodes.runtime.lifecycle import RobotNode

CLOCK_TOLERANCE = 5.0
"""Seconds from this node's clock at which a stamp is of another one: no camera takes so long."""
CAUSE_PERIOD = 0.5
"""Seconds for which a cause that was looked for in the graph is good."""
GRACE = 2.0
"""Seconds in which what comes with a camera, its calibration and its place in tf, may come after its first images."""


class CameraHealth:
    """Keeps when an image came last, and what was wrong with those that were of no use.

    reads: the types and topics that are subscribed to, the colour images first.
    """

    def __init__(self, node: RobotNode) -> None:
        self.reads: list[tuple[type, str]] = []
        self._node = node
        self.clear()
        node.diagnostics.add_check("camera", self._check)

    def clear(self) -> None:
        """Forget what was seen so far."""
        self.clock_problem = ""
        """Says so where the newest image was stamped by another clock than this node's; empty otherwise."""
        self._conditions: dict[str, str] = {}
        self._began: dict[str, float] = {}
        self._arrived = -math.inf
        self._refused: tuple[float, str] = (-math.inf, "")
        self._cause: tuple[float, str] = (-math.inf, "")

    def saw(self, received: float, stamp: float) -> None:
        """An image of `stamp` came. Args: received: time.monotonic()."""
        self._arrived = received
        self._cause = (-math.inf, "")
        now = self._node.now()
        if abs(stamp - now) <= CLOCK_TOLERANCE:
            self.clock_problem = ""
            self.condition("clock", "")
            return
        if now == 0.0:
            self.clock_problem = "this node's clock stands at 0: use_sim_time is true and nothing comes on /clock"
        else:
            side = "ahead of" if stamp > now else "behind"
            self.clock_problem = (
                f"images are stamped {_span(abs(stamp - now))} {side} this node's clock: use_sim_time must be the same "
                "for both, and the clocks of two machines must agree"
            )
        self.condition("clock", f"{self._topic}: {self.clock_problem}")

    def condition(self, name: str, text: str, grace: float = 0.0) -> None:
        """What is wrong as long as it lasts: logged when it begins, and on /diagnostics until `text` is empty.

        A warning would be the last one again and again, and hide the others.

        Args: grace: seconds that it has to last before it is logged; what ends sooner was a beginning.
        """
        if not text:
            self._conditions.pop(name, None)
            self._began.pop(name, None)
            return
        self._conditions[name] = text
        now = time.monotonic()
        if now - self._began.setdefault(name, now) >= grace:
            self._began[name] = math.inf  # it is logged
            self._node.get_logger().warning(text)

    def refuse(self, problem: str) -> None:
        """An image came that cannot be used."""
        self._refused = (time.monotonic(), problem)
        self._cause = (-math.inf, "")
        self._node.warn("image", f"{self._topic}: {problem}; the image was ignored")

    @property
    def _topic(self) -> str:
        return self._node.parameters["image_topic"]

    def age(self) -> float:
        """Seconds since the newest image arrived; infinite where none has since `start`."""
        return time.monotonic() - self._arrived

    def age_text(self) -> str:
        """For /diagnostics."""
        age = self.age()
        return "never" if math.isinf(age) else f"{age:.4g}"

    def stale(self) -> str:
        """Why what is seen is no basis any more, as one sentence with its cause; empty while images are fresh."""
        age, limit = self.age(), self._node.parameters["stale_timeout"]
        if age <= limit:
            return ""
        if math.isinf(age):
            text = f"no image has arrived on '{self._topic}'"
        else:
            text = f"the newest image is {age:.2f} s old; stale_timeout is {limit} s"
        return f"{text}: {self.cause()}"

    def cause(self) -> str:
        """What keeps images away, or makes them useless: refused, published as another type, by nobody."""
        now = time.monotonic()
        at, cause = self._cause
        if now - at > CAUSE_PERIOD:
            cause = self._find_cause()
            self._cause = (now, cause)
        return cause

    def _find_cause(self) -> str:
        if self._refused[0] > self._arrived:
            return self._refused[1]
        if not self.reads:
            return "this node is not active"
        kind, topic = self.reads[0]
        if mismatch := self._node.diagnostics.mismatch(topic):
            return mismatch
        alike = (CompressedImage,) if kind is Image else (Image,)
        return graph.unheard(self._node, topic, kind, alike) + _hint(self._node, topic, kind)

    def _check(self) -> tuple[bytes, str, dict[str, object]]:
        """For /diagnostics: also topics that are there, but of another type. That one is not published may be meant."""
        wrong = [
            f"'{topic}': {problem}{_hint(self._node, topic, kind)}"
            for kind, topic in self.reads
            if (problem := graph.wrong_type(self._node, topic, kind))
        ]
        wrong += list(self._conditions.values())
        return DiagnosticStatus.WARN if wrong else DiagnosticStatus.OK, "; ".join(wrong), {}


def _hint(node: RobotNode, topic: str, kind: type) -> str:
    """What to set where a topic is published as the other of the two types of pictures."""
    other = CompressedImage if kind is Image else Image
    if (
        kind not in (Image, CompressedImage)
        or graph.wrong_type(node, topic, other)
        or not graph.wrong_type(node, topic, kind)
    ):
        return ""
    which = "raw" if other is Image else "compressed"
    return f" (image_transport or depth_transport: {which} reads it)"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 3600:.1f} h" if seconds < 1e6 else f"{seconds / 86400:.0f} days"
