"""A simulated robot behind the topics that a real one would have."""

import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import closing
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Pose, PoseArray, PoseStamped, Quaternion
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float32, Float64MultiArray, Header
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from deepverse_ros.errors import MessageError
from deepverse_ros.geometry import Intrinsics
from deepverse_ros.nodes.messages import action_layout
from deepverse_ros.nodes.messages.action_layout import JointLayout, joint_state
from deepverse_ros.nodes.messages.camera import info_from_intrinsics
from deepverse_ros.nodes.messages.image import image_from_array, image_from_depth
from deepverse_ros.nodes.messages.plan import command_from_trajectory
from deepverse_ros.nodes.messages.pose import point, pose_from_matrix, transform_from_matrix
from deepverse_ros.nodes.messages.time import stamp_seconds
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.diagnostics import RateMeter
from deepverse_ros.nodes.runtime.lifecycle import RobotNode, named, run
from deepverse_ros.nodes.runtime.parameters import Parameter, ParameterError
from deepverse_ros.nodes.simulation import trajectory_action_server
from deepverse_ros.nodes.simulation.trajectory_action_server import ArmControllers
from deepverse_ros.nodes.simulation.trajectory_follower import TrajectoryFollower, velocities_from_data
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Command
from deepverse_ros.simulation import robots
from deepverse_ros.simulation.base import RobotSimulation, SimulatedRobot

PARAMETERS = (
    Parameter(
        "embodiment",
        robots.names()[0],
        f"The robot: a name or file of config/embodiments. Simulated by its name: {', '.join(robots.names())}.",
    ),
    Parameter("rate", 20.0, "Camera images and joint states per second (Hz).", 10.0, 30.0),
    Parameter("width", 128, "Width of the images (pixels).", 64, 640),
    Parameter("height", 128, "Height of the images (pixels).", 64, 480),
    Parameter(
        "seed", 0, "What stands in the scene and how it looks; ~/reset applies a new one.", 0, 2**31 - 1, dynamic=True
    ),
    Parameter("randomise", True, "Draw colours, light, camera jitter and the first pose from the seed."),
    Parameter("objects", 3, "Movable objects in the scene.", 0, 8),
    Parameter("obstacles", 1, "Obstacles that the robot should keep clear of.", 0, 4),
    Parameter("publish_clock", False, "Publish /clock; the other nodes then need use_sim_time."),
    Parameter("real_time_factor", 1.0, "Simulated seconds per second; other than 1 needs publish_clock.", 0.05, 20.0),
    Parameter("trajectory_topic", "joint_trajectory", "Commands (trajectory_msgs/JointTrajectory)."),
    Parameter(
        "velocity_topic",
        "velocity_command",
        "Commands (std_msgs/Float64MultiArray): rad/s of each joint, and the gripper's 1/s or not; empty: none.",
    ),
    *action_layout.NAMES,
    *trajectory_action_server.PARAMETERS,
)
PHYSICS_STEP = 0.005
CLOCK_STEPS = 4
"""Steps of physics from one /clock to the next: who goes by it must not take two moments between images for one."""
FIRST_STAMP = 1.0
"""Seconds on /clock when the simulation begins: a zero stamp would mean "not set"."""
START_TIMEOUT = 60.0
MAX_DELAY = 10.0
"""Seconds in the future that a trajectory may begin."""


class SimNode(RobotNode):
    """Steps a simulation on its own thread (the renderer belongs to it) and publishes what it sees."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("sim", PARAMETERS, **kwargs)
        self._thread: threading.Thread | None = None
        self._controllers: ArmControllers | None = None

    # Lifecycle ----------------------------------------------------------------------------------------------------
    def configure(self) -> None:
        p = self.parameters.values()
        if p.real_time_factor != 1.0 and not p.publish_clock:
            raise ParameterError(
                f"parameter 'real_time_factor' is {p.real_time_factor}; other than 1 needs publish_clock: true"
            )
        self._p = p
        self.embodiment = Embodiment.load(p.embodiment)
        simulated = robots.of(self.embodiment)
        self._layout = JointLayout.of(self.embodiment, p)
        self._commands = TrajectoryFollower(self.embodiment, np.asarray(self.embodiment.home, np.float32))
        self._joints = np.asarray(self.embodiment.home, np.float32)
        self._time = FIRST_STAMP
        self._frames, self._ticks = RateMeter(), RateMeter()
        self._jobs: queue.SimpleQueue[tuple[Future, Callable[[RobotSimulation], object]]] = queue.SimpleQueue()
        self._stop, self._running = threading.Event(), threading.Event()
        self._controllers = self.own(ArmControllers(self, _Arm(self), self._layout, self._running.is_set))
        self._connect()
        ready: Future[str] = Future()
        self._thread = threading.Thread(target=self._simulate, args=(simulated, ready), name="simulation", daemon=True)
        self._thread.start()
        self.own(self._end_simulation)
        backend = ready.result(START_TIMEOUT)
        self.get_logger().info(
            f"simulated {self.embodiment.name}, seed {p.seed}: {p.width}x{p.height} at {p.rate:g} Hz, "
            f"rendering by {backend}"
        )
        self.diagnostics.add_check("simulation", self._check)

    def _connect(self) -> None:
        assert self._controllers is not None
        p, camera = self._p, qos.sensor_output()
        publishers = self._topics = {
            "image": self.advertise(Image, "camera/image_raw", camera),
            "depth": self.advertise(Image, "camera/depth/image_raw", camera),
            "metric": self.advertise(Image, "camera/depth/image_metric", camera),
            "info": self.advertise(CameraInfo, "camera/camera_info", camera),
            "joints": self.advertise(JointState, "joint_states", camera),
            "tf": self.advertise(TFMessage, "/tf", qos.command()),
            "tf_static": self.advertise(TFMessage, "/tf_static", qos.latched()),
            "tool": self.advertise(PoseStamped, "~/ground_truth/tool_pose", qos.debug_output()),
            "objects": self.advertise(PoseArray, "~/ground_truth/objects", qos.debug_output()),
            "clearance": self.advertise(Float32, "~/ground_truth/clearance", qos.debug_output()),
        }
        if p.publish_clock:
            publishers["clock"] = self.advertise(Clock, "/clock", qos.command())
        subscriptions = [
            self.subscribe(kind, topic, heard, qos.command())
            for kind, topic, heard in (
                (JointTrajectory, p.trajectory_topic, self._on_trajectory),
                (Float64MultiArray, p.velocity_topic, self._on_velocity),
                (JointTrajectory, p.gripper_topic, self._controllers.on_gripper),
            )
            if topic
        ]
        group = MutuallyExclusiveCallbackGroup()
        reset = self.create_service(Trigger, "~/reset", self._reset, callback_group=group)
        for entity in (*publishers.values(), *subscriptions, reset):
            self.own(entity)

    def activate(self) -> None:
        self._commands.hold()
        self._running.set()

    def deactivate(self) -> None:
        self._running.clear()
        self._commands.hold()
        if self._controllers is not None:
            self._controllers.stop()

    def _end_simulation(self) -> None:
        """Before the topics that its thread publishes on go."""
        self._stop.set()
        self._running.set()
        if self._thread is not None:
            self._thread.join(10.0)
            if self._thread.is_alive():
                self.get_logger().error("the simulation's thread did not end within 10 s")

    def cleanup(self) -> None:
        self._thread = self._controllers = None

    # Commands -----------------------------------------------------------------------------------------------------
    def _on_trajectory(self, message: JointTrajectory) -> None:
        if self._controllers is not None:
            self._controllers.replace("a trajectory came on the topic")
        if self._layout.gripper_name in message.joint_names:
            self._commands.grip(None)
        try:
            self.follow(message, command_from_trajectory(message, self._layout, self._joints))
        except MessageError as error:
            self._commands.hold()
            self.warn("trajectory", f"{self._p.trajectory_topic}: {error}; the robot holds")

    def follow(self, message: JointTrajectory, command: Command | None) -> float:
        """Begin the message's command; None is a hold.

        Returns: when it begins, seconds of the simulation. Raises: MessageError for a stamp that is not near now.
        """
        begin = self._time + self._delay(message, command)
        if command is None:
            self._commands.hold()
        else:
            self._commands.follow(begin, command)
        return begin

    def _delay(self, message: JointTrajectory, command: Command | None) -> float:
        """Seconds until the trajectory begins, negative where it began already; a zero stamp means now."""
        begin = stamp_seconds(message.header.stamp)
        if not begin:
            return 0.0
        delay = begin - (self._time if self._p.publish_clock else self.now())
        if command is not None and delay + command.duration < 0:
            raise MessageError(f"trajectory ended {-delay - command.duration:.2f} s before it arrived")
        if delay > MAX_DELAY:
            raise MessageError(f"trajectory header.stamp is {delay:.1f} s in the future; allowed: {MAX_DELAY:g} s")
        return delay

    def _on_velocity(self, message: Float64MultiArray) -> None:
        try:
            velocities = velocities_from_data(np.asarray(message.data), self.embodiment)
        except MessageError as error:
            self._commands.hold()
            self.warn("velocity", f"{self._p.velocity_topic}: {error}; the robot holds")
            return
        if warning := self._commands.move(self._time, velocities):
            self.warn("velocity", f"{self._p.velocity_topic}: {warning}")

    def _reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        seed = self.parameters["seed"]
        job: Future = Future()
        self._jobs.put((job, lambda simulation: self._restart(simulation, seed)))
        try:
            job.result(10.0)
        except FutureTimeout:
            return Trigger.Response(success=False, message="the simulation did not answer within 10 s; is it active?")
        except Exception as error:  # a client must get an answer
            self.warn_unexpected("reset", "reset failed", error)
            return Trigger.Response(success=False, message=named(error))
        return Trigger.Response(success=True, message=f"reset to seed {seed}")

    # The simulation's thread --------------------------------------------------------------------------------------
    def _simulate(self, simulated: SimulatedRobot, ready: "Future[str]") -> None:
        p = self._p
        try:
            simulation = simulated.simulate(
                p.seed, p.width, p.height, p.randomise, objects=p.objects, obstacles=p.obstacles
            )
        except Exception as error:  # whatever kept it from starting is what configure reports
            ready.set_exception(error)
            return
        with closing(simulation):
            self._settle(simulation)
            ready.set_result(simulation.render_backend)
            try:
                self._loop(simulation)
            except Exception as error:  # said aloud: a dead simulation must not look like a quiet one
                self.warn_unexpected("simulation", "the simulation ended", error)

    def _loop(self, simulation: RobotSimulation) -> None:
        period = 1.0 / self._p.rate
        due, owed, announced = time.monotonic(), 0.0, False
        while not self._stop.is_set():
            if not self._running.is_set():
                announced = False
                self._running.wait(0.1)
                due = time.monotonic()
                continue
            self._do_jobs(simulation)
            if not announced:
                self._announce_camera(simulation)
                announced = True
            owed += period
            steps = round(owed / PHYSICS_STEP)
            owed -= steps * PHYSICS_STEP
            due = self._advance(simulation, steps, due)
            self._joints = simulation.joints.astype(np.float32)
            self._publish(simulation)
            self._until(due)
            if time.monotonic() > due + period:
                due = time.monotonic()  # too slow for real time: fall behind instead of hurrying later

    def _advance(self, simulation: RobotSimulation, steps: int, due: float) -> float:
        """Move on to the next image, step by step where others go by /clock.

        Args: due: monotonic seconds at which this image is due. Returns: at which the next one is.
        """
        clock = self._topics.get("clock")
        while steps > 0:
            part = min(steps, CLOCK_STEPS) if clock is not None else steps
            seconds = part * PHYSICS_STEP
            simulation.advance(seconds, self._commands.target(self._time, seconds))
            self._time += seconds
            steps -= part
            due += seconds / self._p.real_time_factor
            if clock is not None and steps > 0:  # the last one comes with the image
                clock.publish(Clock(clock=self._header("").stamp))
                self._until(due)
        return due

    def _until(self, due: float) -> None:
        self._stop.wait(max(0.0, due - time.monotonic()))

    def _do_jobs(self, simulation: RobotSimulation) -> None:
        while not self._jobs.empty():
            future, job = self._jobs.get()
            try:
                future.set_result(job(simulation))
            except Exception as error:  # belongs to whoever asked
                future.set_exception(error)

    def _restart(self, simulation: RobotSimulation, seed: int) -> None:
        simulation.reset(seed)
        self._settle(simulation)
        self._announce_camera(simulation)

    def _settle(self, simulation: RobotSimulation) -> None:
        self._joints = simulation.joints.astype(np.float32)
        self._commands.hold(self._joints)
        self._commands.grip(None)

    def _header(self, frame: str) -> Header:
        if self._p.publish_clock:
            seconds, nanoseconds = divmod(round(self._time * 1e9), 1_000_000_000)
            stamp = Time(sec=seconds, nanosec=nanoseconds)
        else:
            stamp = self.get_clock().now().to_msg()
        return Header(stamp=stamp, frame_id=frame)

    def _announce_camera(self, simulation: RobotSimulation) -> None:
        camera = self.embodiment.camera.frame_id
        pose = transform_from_matrix(simulation.camera_to_world, self._header(self.embodiment.base_frame), camera)
        self._topics["tf_static"].publish(TFMessage(transforms=[pose]))

    def _publish(self, simulation: RobotSimulation) -> None:
        out, p = self._topics, self._p
        base, camera = self._header(self.embodiment.base_frame), self._header(self.embodiment.camera.frame_id)
        camera.stamp = base.stamp
        if "clock" in out:
            out["clock"].publish(Clock(clock=base.stamp))
        out["joints"].publish(joint_state(self._layout.names(), simulation.joints, base))
        self._ticks.tick()
        if any(out[name].get_subscription_count() for name in ("image", "depth", "metric")):
            rgb, depth = simulation.render()
            out["info"].publish(
                info_from_intrinsics(Intrinsics.from_matrix(simulation.intrinsics, p.width, p.height), camera)
            )
            if out["depth"].get_subscription_count():
                out["depth"].publish(image_from_depth(depth, "16UC1", camera))
            if out["metric"].get_subscription_count():
                out["metric"].publish(image_from_depth(depth, "32FC1", camera))
            out["image"].publish(image_from_array(rgb, "rgb8", camera))
            self._frames.tick()
        self._publish_truth(simulation, base)

    def _publish_truth(self, simulation: RobotSimulation, base: Header) -> None:
        out = self._topics
        matrix = simulation.tool_to_world
        out["tf"].publish(TFMessage(transforms=[transform_from_matrix(matrix, base, self.embodiment.tool_frame)]))
        if out["tool"].get_subscription_count():
            out["tool"].publish(PoseStamped(header=base, pose=pose_from_matrix(matrix)))
        if out["objects"].get_subscription_count():
            upright = Quaternion(w=1.0)
            poses = [Pose(position=point(p), orientation=upright) for p in simulation.object_positions]
            out["objects"].publish(PoseArray(header=base, poses=poses))
        if out["clearance"].get_subscription_count():
            out["clearance"].publish(Float32(data=simulation.clearance))

    # Diagnostics --------------------------------------------------------------------------------------------------
    def _check(self) -> tuple[bytes, str, dict[str, object]]:
        rate = self._ticks.rate()
        factor = rate / self._p.rate
        values = {"step_rate_hz": rate, "image_rate_hz": self._frames.rate(), "real_time_factor": factor}
        if self._thread is None or not self._thread.is_alive():
            return DiagnosticStatus.ERROR, "the simulation has ended", values
        if self._running.is_set() and self._ticks.total > 2 * self._p.rate and factor < 0.8 * self._p.real_time_factor:
            text = f"too slow for real time: factor {factor:.2f}, asked for {self._p.real_time_factor:g}"
            return DiagnosticStatus.WARN, text, values
        return DiagnosticStatus.OK, "" if self._running.is_set() else "inactive", values


class _Arm:
    """The simulated arm as its controllers see it."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self.follow, self.hold, self.grip = node.follow, node._commands.hold, node._commands.grip

    def joints(self) -> np.ndarray:
        return self._node._joints

    def time(self) -> float:
        return self._node._time


def main() -> None:
    """Run the simulation node until it is shut down."""
    # Each goal of an action that is under way keeps one thread.
    sys.exit(run(SimNode, threads=6))


if __name__ == "__main__":
    main()
