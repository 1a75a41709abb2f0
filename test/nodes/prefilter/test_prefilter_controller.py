"""The prefilter before a controller's action: goals for what passes, and reports of how they fare."""

import time
from typing import Any

import numpy as np
import pytest
from control_msgs.action import FollowJointTrajectory
from prefilter_world import HOME, Surroundings, trajectory, verdict
from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from trajectory_msgs.msg import JointTrajectory

from deepverse_ros.msg import ControllerStatus, PrefilterStatus
from deepverse_ros.nodes.prefilter.node import PrefilterNode

ACTION = "arm_controller/follow_joint_trajectory"
TARGET = HOME + np.array([0.4, 0, 0, 0, 0, 0, 0, -0.5])


class Controller:
    """An action server that executes until it is told how to end."""

    def __init__(self, robot: Any) -> None:
        self.goals: list[JointTrajectory] = []
        self.abort = False
        self.server = ActionServer(
            robot.peer, FollowJointTrajectory, ACTION, execute_callback=self.execute,
            cancel_callback=lambda _: CancelResponse.ACCEPT, callback_group=ReentrantCallbackGroup(),
        )  # fmt: skip

    def execute(self, handle: Any) -> FollowJointTrajectory.Result:
        self.goals.append(handle.request.trajectory)
        mine, end = len(self.goals), time.monotonic() + 10.0
        while not (self.abort or len(self.goals) > mine or handle.is_cancel_requested) and time.monotonic() < end:
            time.sleep(0.01)
        code = FollowJointTrajectory.Result.PATH_TOLERANCE_VIOLATED
        handle.abort()
        return FollowJointTrajectory.Result(error_code=code, error_string="joint_1 is 0.4 rad off")


def test_what_passes_is_a_goal_and_an_abort_is_reported(robot):
    controller = Controller(robot)
    passed = robot.hear(JointTrajectory, "prefilter/passed_command")
    reports = robot.hear(ControllerStatus, "prefilter/controller_status")
    world = Surroundings(robot, JointTrajectory, command_output="follow_joint_trajectory")
    world.judgement = lambda: verdict(world.now, center=np.stack([HOME, TARGET, TARGET]), times=(0.0, 1.0, 3.0))
    message = trajectory(TARGET, seconds=1.0)

    def around(condition: Any) -> None:
        end = time.monotonic() + 10.0
        while not condition():
            assert time.monotonic() < end, world.status[-1].text
            world.around()
            robot.spin(0.02)

    robot.until(world.node._out._command._arm._goals.reachable)
    around(lambda: world.state == PrefilterStatus.PASS)
    world.commands.publish(message)
    around(lambda: any(g.points[0].positions[0] == pytest.approx(TARGET[0]) for g in controller.goals))
    assert any(m.points[0].positions == controller.goals[-1].points[0].positions for m in passed)
    around(lambda: any(r.state == ControllerStatus.EXECUTING for r in reports))
    controller.abort = True
    around(lambda: any(r.state == ControllerStatus.ABORTED for r in reports))
    report = next(r for r in reports if r.state == ControllerStatus.ABORTED)
    assert report.text == "PATH_TOLERANCE_VIOLATED: joint_1 is 0.4 rad off"
    assert (report.action, report.error_code) == (ACTION, FollowJointTrajectory.Result.PATH_TOLERANCE_VIOLATED)
    assert not world.out, "nothing goes to the topic too"
    controller.server.destroy()


def test_a_controller_needs_trajectories(robot, capfd):
    node = robot.start(
        PrefilterNode,
        active=False,
        embodiment="arm",
        command_type="float64_multi_array",
        command_output="follow_joint_trajectory",
    )
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    said = "'command_output' is 'follow_joint_trajectory', which needs command_type: joint_trajectory"
    assert said in capfd.readouterr().err
    node.set_parameters([RosParameter("command_type", value="joint_trajectory")])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
