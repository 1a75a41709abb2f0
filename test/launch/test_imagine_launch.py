"""imagine.launch.py as real processes, once with the simulated arm and once with a recording.

Started by launch_testing under plain pytest, with the shipped checkpoint, which must be told where its camera stands.
"""

import json
import tempfile
import time
import unittest
from collections.abc import Callable
from pathlib import Path

import av
import launch
import launch_testing
import launch_testing.actions
import launch_testing.asserts
import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from lifecycle_msgs.srv import GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from deepverse_ros import resources
from deepverse_ros.data.importers import droid
from deepverse_ros.errors import DeepverseError
from deepverse_ros.msg import PredictedFrames

FOLDER = Path(tempfile.mkdtemp(prefix="imagine_launch_"))


def recording(frames: int = 300) -> str:
    """A real Franka where the recordings are at hand; else a minute of noise in the layout of DROID."""
    try:
        return str(droid.find_annotation("val/899"))
    except DeepverseError:
        pass
    video = FOLDER / "videos" / "val" / "1" / "0.mp4"
    video.parent.mkdir(parents=True)
    with av.open(str(video), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        picture = np.random.default_rng(0).integers(0, 255, (192, 320, 3), np.uint8)
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    annotation = FOLDER / "annotation" / "val" / "1.json"
    annotation.parent.mkdir(parents=True)
    values = {
        "videos": [{"video_path": "videos/val/1/0.mp4"}],
        "observation.state.joint_position": [[0.0, -0.6, 0.0, -2.5, 0.1, 1.9, 0.2]] * (3 * frames),
        "observation.state.gripper_position": [0.0] * (3 * frames),
    }
    annotation.write_text(json.dumps(values))
    return str(annotation)


def description(source: str) -> launch.LaunchDescription:
    """imagine.launch.py on the simulated arm ("sim") or on a recording ("replay")."""
    given = {"sim": "true"} if source == "sim" else {"replay": recording(), "loop": "true"}
    path = resources.find("launch/imagine.launch.py")
    arguments = {"checkpoint": "models/arm", "device": "cpu", **given}.items()
    return launch.LaunchDescription(
        [IncludeLaunchDescription(PythonLaunchDescriptionSource(str(path)), launch_arguments=arguments)]
    )


class Observer:
    """Sees the launched processes only through ROS."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node("observer", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def until(self, condition: Callable[[], object], what: str, timeout: float = 120.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"{what}: not within {timeout} s"
            self.executor.spin_once(timeout_sec=0.1)

    def is_imagined_where_the_camera_is_known(self, source: str) -> None:
        """The simulation tells where its camera stands, a recording does not."""
        frames: list[PredictedFrames] = []
        conditions: dict[str, DiagnosticStatus] = {}
        self.node.create_subscription(PredictedFrames, "world_model/predicted_frames", frames.append, 1)
        self.node.create_subscription(
            DiagnosticArray, "/diagnostics", lambda m: conditions.update({s.name: s for s in m.status}), 10
        )
        self.until(lambda: {"world_model", source} <= set(conditions), "diagnostics of both nodes")
        if source == "sim":
            self.until(lambda: len(frames) >= 8, "predicted frames")
            assert (len(frames[-1].rgb), len(frames[-1].depth)) == (8, 8)
            self.until(lambda: not frames[-1].out_of_distribution, "the right judgement of the input")
            assert frames[-1].header.stamp.sec > 1000  # ours
        else:
            untold = "the model must be told of its camera"
            self.until(lambda: untold in conditions["world_model"].message, "why nothing is imagined")
            assert not frames
        for name in ("world_model", source):
            client = self.node.create_client(GetState, f"{name}/get_state")
            assert client.wait_for_service(10.0)
            answer = client.call_async(GetState.Request())
            self.until(answer.done, f"the state of {name}")
            assert answer.result().current_state.label == "active"


@pytest.mark.launch_test
@launch_testing.parametrize("source", ["sim", "replay"])
def generate_test_description(source: str) -> launch.LaunchDescription:
    launched = description(source)
    launched.add_action(launch_testing.actions.ReadyToTest())
    return launched


class TestWhileItRuns(unittest.TestCase):
    def test_what_is_imagined(self, source: str) -> None:
        observer = Observer()
        try:
            observer.is_imagined_where_the_camera_is_known(source)
        finally:
            observer.close()


@launch_testing.post_shutdown_test()
class TestAfterItEnded(unittest.TestCase):
    """Launch has sent SIGINT to everything, as Ctrl-C does."""

    def test_every_process_ended_by_itself(self, proc_info) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
        assert len(list(proc_info)) == 2

    def test_nothing_failed_on_the_way(self, proc_output) -> None:
        said = "".join(event.text.decode() for event in proc_output)
        assert "Traceback" not in said
        assert "[ERROR]" not in said
