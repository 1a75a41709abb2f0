"""A recording of a real robot through the topics that the robot would have, on simulated time."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header

from deepverse_ros.data.importers.droid import EMBODIMENT, JOINTS, STATES_PER_FRAME, Recording, read_recording
from deepverse_ros.nodes.messages import action_layout
from deepverse_ros.nodes.messages.action_layout import JointLayout, joint_state
from deepverse_ros.nodes.messages.image import image_from_array
from deepverse_ros.nodes.messages.time import stamp_from_seconds
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.diagnostics import RateMeter
from deepverse_ros.nodes.runtime.lifecycle import RobotNode, run
from deepverse_ros.nodes.runtime.parameters import Parameter, ParameterError
from deepverse_ros.robot.embodiment import Embodiment

PARAMETERS = (
    Parameter("recording", "", "DROID episode: annotation file, folder of its videos, or a name such as val/899."),
    Parameter(
        "embodiment", EMBODIMENT, "The robot whose joints the recorded ones are: a name or file of config/embodiments."
    ),
    Parameter("camera", 0, "Which of the episode's cameras (0 and 1 look at the scene, 2 is at the wrist).", 0, 2),
    Parameter("rate", 1.0, "Recorded seconds per second.", 0.1, 20.0, dynamic=True),
    Parameter("loop", False, "Begin again at the end; the clock goes on.", dynamic=True),
    Parameter("camera_frame", "camera_optical_frame", "frame_id of the images."),
    *action_layout.NAMES,
)
FIRST_STAMP = 1.0
CLOCK_PERIOD = 0.02


class ReplayNode(RobotNode):
    """Publishes /clock, camera images and joint states of a recording; its own thread keeps the time."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("replay", PARAMETERS, **kwargs)
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def configure(self) -> None:
        p = self.parameters.values()
        if not p.recording:
            raise ParameterError("parameter 'recording' is empty; give an annotation file or a name such as val/899")
        self._recording = read_recording(p.recording, p.camera)
        embodiment = Embodiment.load(p.embodiment)
        if len(embodiment.joint_names) != JOINTS:
            raise ParameterError(
                f"parameter 'embodiment' is '{p.embodiment}', which has {len(embodiment.joint_names)} joints; the "
                f"recording has {JOINTS}"
            )
        self._names = JointLayout.of(embodiment, p).names()
        self._base_frame = embodiment.base_frame
        self._frames = RateMeter()
        self._finished = False
        self._clock_out = self.own(self.advertise(Clock, "/clock", qos.command()))
        self._image = self.own(self.advertise(Image, "camera/image_raw", qos.sensor_output()))
        self._joints = self.own(self.advertise(JointState, "joint_states", qos.sensor_output()))
        height, width = self._recording.rgb.shape[1:3]
        self.get_logger().info(
            f"recording {self._recording.name}: {len(self._recording.rgb)} frames {width}x{height}, "
            f"{1 / self._recording.dt:g} Hz, '{self._recording.text}'"
        )
        self.diagnostics.add_check("recording", self._check)

    def activate(self) -> None:
        self._stop.clear()
        self._finished = False
        self._thread = threading.Thread(target=self._play, name="replay", daemon=True)
        self._thread.start()

    def deactivate(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5.0)
        self._thread = None

    def _play(self) -> None:
        """Publish every event when its time on the recording's clock has come."""
        now, last = 0.0, time.monotonic()
        for due, publish in self._events(self._recording):
            while now < due:
                if self._stop.wait(min(CLOCK_PERIOD, (due - now) / self.parameters["rate"])):
                    return
                present = time.monotonic()
                now = min(due, now + (present - last) * self.parameters["rate"])
                last = present
                self._clock_out.publish(Clock(clock=stamp_from_seconds(FIRST_STAMP + now)))
            publish(stamp_from_seconds(FIRST_STAMP + due))
        self._finished = True
        self.get_logger().info(f"recording {self._recording.name}: the end")

    def _events(self, recording: Recording) -> Iterator[tuple[float, Callable[[Time], None]]]:
        """(seconds since the begin, what to publish), in order; joint states before the frame of the same time."""
        begin = 0.0
        while True:
            for state in range(len(recording.joints)):
                at = begin + state * recording.state_dt
                yield at, partial(self._publish_joints, state)
                if state % STATES_PER_FRAME == 0 and state // STATES_PER_FRAME < len(recording.rgb):
                    yield at, partial(self._publish_image, state // STATES_PER_FRAME)
            begin += len(recording.rgb) * recording.dt
            if not self.parameters["loop"]:
                return

    def _publish_joints(self, state: int, stamp: Time) -> None:
        positions = [*self._recording.joints[state], self._recording.gripper[state]]
        header = Header(stamp=stamp, frame_id=self._base_frame)
        self._joints.publish(joint_state(self._names, positions[: len(self._names)], header))

    def _publish_image(self, frame: int, stamp: Time) -> None:
        header = Header(stamp=stamp, frame_id=self.parameters["camera_frame"])
        self._image.publish(image_from_array(self._recording.rgb[frame], "rgb8", header))
        self._frames.tick()

    def _check(self) -> tuple[bytes, str, dict[str, object]]:
        values = {"recording": self._recording.name, "image_rate_hz": self._frames.rate()}
        return DiagnosticStatus.OK, "end of the recording" if self._finished else "", values


def main() -> None:
    """Run the replay node until it is shut down."""
    sys.exit(run(ReplayNode, threads=2))


if __name__ == "__main__":
    main()
