"""Trajectories as goals of a controller's action, against the simulated arm's controllers in the same process."""

import time
from typing import Any

import numpy as np
import pytest
from control_msgs.action import FollowJointTrajectory, GripperCommand
from control_msgs.msg import GripperCommand as Command
from rclpy.action import ActionClient, ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.parameter import Parameter as RosParameter
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from deepverse_ros.nodes.control import controller_output
from deepverse_ros.nodes.control.controller_output import CommandOutput
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.controller_status import ControllerStatus, State
from deepverse_ros.nodes.messages.time import duration
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.lifecycle import RobotNode
from deepverse_ros.nodes.simulation.node import SimNode
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
JOINTS = [*ARM.joint_names, "gripper_joint"]
HOME = dict(zip(JOINTS, ARM.home, strict=True))
ACTION = "arm_controller/follow_joint_trajectory"
GRIPPER = "gripper_controller/gripper_cmd"
EMPTY = {"randomise": False, "objects": 0, "obstacles": 0, "rate": 30.0, "width": 64, "height": 64}
GOALS = {"command_output": "follow_joint_trajectory"}


class Sender(RobotNode):
    """A node that does nothing but send."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("sender", controller_output.PARAMETERS, **kwargs)

    def configure(self) -> None:
        self.statuses: list[ControllerStatus] = []
        self.output = CommandOutput(self, JointLayout(ARM), "joint_trajectory", self.statuses.append)

    def cleanup(self) -> None:
        self.output.destroy()

    @property
    def state(self) -> State:
        return self.statuses[-1].state


def reach(seconds: float = 0.6, joints: list[str] = JOINTS, **changes: float) -> JointTrajectory:
    target = HOME | changes
    point = JointTrajectoryPoint(positions=[float(target[j]) for j in joints], time_from_start=duration(seconds))
    return JointTrajectory(joint_names=joints, points=[point])


def start(robot, sender: dict | None = None, **sim: Any) -> tuple[Sender, SimNode, list[JointState]]:
    """A sender beside a simulated arm that serves the action, each found by the other."""
    heard = robot.hear(JointState, "joint_states", qos.sensor_input())
    node = robot.start(SimNode, **{**EMPTY, "controller_action": ACTION, "trajectory_topic": "", **sim})
    sending = robot.start(Sender, **{**GOALS, **(sender or {})})
    robot.until(lambda: heard and not sending.output.check()[0] and sending.output._arm._goals.reachable())
    return sending, node, heard


def where(heard: list[JointState]) -> np.ndarray:
    return np.array(heard[-1].position)


def test_a_trajectory_is_followed_and_its_end_is_told(robot):
    sending, _, heard = start(robot)
    sending.output.send(reach(joint_1=0.3, gripper_joint=0.2), "plan a")
    robot.until(lambda: sending.state == State.SUCCEEDED)
    assert [s.state for s in sending.statuses] == [State.SENT, State.EXECUTING, State.SUCCEEDED]
    assert abs(where(heard)[0] - 0.3) < 0.06
    assert sending.output.failure() == ""


def test_a_new_goal_replaces_the_old_one_of_which_nothing_more_is_heard(robot):
    sending, _, heard = start(robot)
    sending.output.send(reach(5.0, joint_1=1.0), "plan a")
    robot.until(lambda: where(heard)[0] > 0.02)
    sending.output.send(reach(0.5, joint_1=-0.2), "plan b")
    robot.until(lambda: sending.state == State.SUCCEEDED)
    assert where(heard)[0] == pytest.approx(-0.2, abs=0.06)
    assert not [s for s in sending.statuses if s.failed]


def test_to_stop_cancels_also_what_was_not_accepted_yet_and_the_arm_stands(robot):
    sending, node, heard = start(robot)
    for wait in (lambda: where(heard)[0] > 0.05, lambda: True):
        sending.output.send(reach(5.0, joint_1=2.0), "plan a")
        robot.until(wait)
        assert sending.output.stop()
        assert sending.state == State.IDLE
        ticks = node._ticks.total
        robot.until(lambda ticks=ticks: node._ticks.total > ticks + 10)
        stopped = where(heard)[0]
        robot.until(lambda ticks=ticks: node._ticks.total > ticks + 20)
        assert where(heard)[0] == pytest.approx(stopped, abs=0.01)
        assert sending.output.failure() == ""


def test_what_the_controller_has_against_a_goal_is_told_and_the_plan_is_named(robot):
    sending, node, _ = start(robot)
    sending.output.send(reach(joints=JOINTS[:7]), "plan goal-1.2")
    robot.until(lambda: sending.state == State.REJECTED)
    assert sending.output.failure().startswith(f"the controller rejected plan goal-1.2: '{ACTION}' takes only its own")
    node.set_parameters([RosParameter("path_tolerance", value=0.001)])
    sending.output.send(reach(0.5, joint_3=0.4), "plan goal-1.3")
    robot.until(lambda: sending.state == State.ABORTED)
    said = sending.output.failure()
    assert said.startswith("the controller aborted plan goal-1.3: PATH_TOLERANCE_VIOLATED: joint_3 is 0."), said
    assert sending.statuses[-1].error_code == FollowJointTrajectory.Result.PATH_TOLERANCE_VIOLATED
    assert last_warning(sending).startswith(said)
    sending.output.send(reach(5.0), "plan goal-1.4")
    assert sending.output.failure() == ""
    robot.until(lambda: sending.state == State.EXECUTING)
    node.trigger_deactivate()
    robot.until(lambda: sending.state == State.ABORTED)
    assert "the controller was deactivated" in sending.output.failure()


def last_warning(node: RobotNode) -> str:
    return next((v.value for v in node.diagnostics.status().values if v.key == "last_warning"), "")


def test_where_nobody_serves_the_action_that_is_said_at_once(robot, monkeypatch):
    monkeypatch.setattr("deepverse_ros.nodes.control.newest_goal.DISCOVERY", 0.0)
    sending = robot.start(Sender, **GOALS)
    began = time.monotonic()
    sending.output.send(reach(), "plan a")
    assert sending.output.failure().startswith(f"no controller took plan a: there is no action server '{ACTION}'")
    assert time.monotonic() - began < 0.2
    assert sending.output.check()[0].startswith(f"there is no action server '{ACTION}'")


def test_a_controller_that_does_not_answer_or_goes_away_is_a_failure_and_no_hang(robot):
    sending = robot.start(Sender, **GOALS, controller_timeout=0.3)
    asked: list[Any] = []

    def busy(goal: Any) -> GoalResponse:
        asked.append(goal)
        time.sleep(0.8)
        return GoalResponse.ACCEPT

    ended: list[str] = []

    def execute(handle: Any) -> Any:
        end = time.monotonic() + 5.0
        while not handle.is_cancel_requested and time.monotonic() < end:
            time.sleep(0.01)
        ended.append("canceled" if handle.is_cancel_requested else "never canceled")
        handle.canceled()
        return FollowJointTrajectory.Result()

    server = ActionServer(
        robot.peer, FollowJointTrajectory, ACTION, execute_callback=execute, goal_callback=busy,
        cancel_callback=lambda _: CancelResponse.ACCEPT, callback_group=ReentrantCallbackGroup(),
    )  # fmt: skip
    robot.until(sending.output._arm._goals.reachable)
    sending.output.send(reach(), "plan a")
    robot.until(lambda: sending.state == State.UNANSWERED)
    text = f"the controller did not answer plan a: '{ACTION}' neither took nor rejected it within 0.3 s"
    assert sending.output.failure() == text
    robot.until(lambda: ended)
    assert ended == ["canceled"], "what is accepted too late must not move the robot"
    server.destroy()


def test_a_hold_that_is_sent_again_and_again_is_one_goal(robot):
    sending, _, _ = start(robot)
    for _ in range(20):
        sending.output.send(reach(0.2, joint_1=0.1), "the hold", hold=True)
        robot.spin(0.02)
    assert [s.state for s in sending.statuses].count(State.SENT) == 1
    sending.output.send(reach(0.2, joint_1=0.15), "the hold", hold=True)
    assert [s.state for s in sending.statuses].count(State.SENT) == 2


def test_a_gripper_of_its_own_is_told_when_the_plan_says_so_and_keeps_it_in_a_hold(robot):
    sending, node, heard = start(robot, {"gripper_output": "gripper_command"}, gripper_action=GRIPPER)
    robot.until(sending.output._gripper._goals.reachable)
    trajectory = reach(0.5, joint_1=0.2, gripper_joint=1.0)
    trajectory.points += reach(1.0, joint_1=0.2, gripper_joint=0.3).points
    sending.output.send(trajectory, "plan a")
    robot.until(lambda: sending.state == State.SUCCEEDED)
    robot.until(lambda: abs(where(heard)[7] - 0.3) < 0.05)
    sending.output.send(reach(0.2, joint_1=0.2, gripper_joint=0.8), "the hold", hold=True)
    ticks = node._ticks.total
    robot.until(lambda: node._ticks.total > ticks + 15)
    assert where(heard)[7] == pytest.approx(0.3, abs=0.05)


def test_a_gripper_without_a_controller_ends_the_plan_and_one_that_stalls_does_not(robot):
    def stall(handle: Any) -> Any:
        handle.abort()
        return GripperCommand.Result(position=0.3, stalled=True)

    server = ActionServer(robot.peer, GripperCommand, GRIPPER, execute_callback=stall)
    sending, _, _ = start(robot, {"gripper_output": "gripper_command"})
    robot.until(sending.output._gripper._goals.reachable)
    sending.output.send(reach(0.2, gripper_joint=0.0), "plan a")
    robot.until(lambda: sending.output._gripper.status().state == State.ABORTED)
    assert "the gripper's command: it is stalled, at 0.3 with" in last_warning(sending)
    assert "gripper's part" not in sending.output.failure()
    server.destroy()
    robot.until(lambda: not sending.output._gripper._goals.reachable())
    sending.output.send(reach(0.2, gripper_joint=1.0), "plan b")
    sending.output._arm.stop()  # nobody serves the arm's joints without the gripper's either
    said = f"no controller took the gripper's part of plan b: there is no action server '{GRIPPER}'"
    assert said in sending.output.failure()


def test_a_gripper_on_a_topic_of_its_own_is_left_out_of_the_arm_s_trajectory(robot):
    arm = robot.hear(JointTrajectory, "joint_trajectory", qos.command())
    gripper = robot.hear(JointTrajectory, "gripper_controller/joint_trajectory", qos.command())
    sending = robot.start(Sender, gripper_output="trajectory_topic")
    publishers = (sending.output._arm._publisher, sending.output._gripper._publisher)
    robot.until(lambda: all(p.get_subscription_count() for p in publishers))
    sending.output.send(reach(0.0001, gripper_joint=0.4), "plan a")
    robot.until(lambda: arm and gripper)
    assert list(arm[0].joint_names) == JOINTS[:7]
    assert list(arm[0].points[0].positions) == list(ARM.home[:7])
    assert (list(gripper[0].joint_names), list(gripper[0].points[0].positions)) == ([JOINTS[7]], [0.4])
    sending.output.send(reach(0.2, gripper_joint=0.9), "the hold", hold=True)
    robot.until(lambda: len(gripper) == 2)
    assert list(gripper[1].points[0].positions) == [0.4]


REFUSED = {
    "no points": JointTrajectory(joint_names=JOINTS),
    "no names": JointTrajectory(points=[JointTrajectoryPoint()]),
    "foreign joint": JointTrajectory(joint_names=[*JOINTS[:7], "wheel"], points=reach().points),
    "partial": reach(joints=JOINTS[:7]),
    "times": JointTrajectory(joint_names=JOINTS, points=[*reach(0.5).points, *reach(0.5).points]),
    "moves at its end": JointTrajectory(
        joint_names=JOINTS,
        points=[
            JointTrajectoryPoint(
                positions=[float(v) for v in ARM.home], velocities=[0.1] * 8, time_from_start=duration(1.0)
            )
        ],
    ),
    "velocities only": JointTrajectory(
        joint_names=JOINTS, points=[JointTrajectoryPoint(velocities=[0.0] * 8, time_from_start=duration(1.0))]
    ),
    "beyond the limits": reach(joint_1=9.0),
}


def test_the_simulated_arm_s_controllers_have_the_rules_of_ros2_control_s(robot):
    node = robot.start(SimNode, **EMPTY, controller_action=ACTION, gripper_action="")
    client = ActionClient(robot.peer, FollowJointTrajectory, ACTION)
    robot.until(client.server_is_ready)

    def ask(trajectory: JointTrajectory) -> Any:
        sent = client.send_goal_async(FollowJointTrajectory.Goal(trajectory=trajectory))
        robot.until(sent.done)
        return sent.result()

    for name, trajectory in REFUSED.items():
        assert not ask(trajectory).accepted, name
    assert "joint_positions[0] is 9 rad" in last_warning(node)
    old = reach(0.5)
    old.header.stamp.sec = 1
    ended = ask(old).get_result_async()
    robot.until(ended.done)
    assert ended.result().result.error_code == FollowJointTrajectory.Result.OLD_HEADER_TIMESTAMP
    node.set_parameters([RosParameter("goal_tolerance", value=1e-6), RosParameter("goal_time_tolerance", value=0.1)])
    ended = ask(reach(0.3, joint_2=ARM.home[1] + 0.1)).get_result_async()
    robot.until(ended.done)
    assert ended.result().result.error_code == FollowJointTrajectory.Result.GOAL_TOLERANCE_VIOLATED
    handle = ask(reach(5.0, joint_1=1.0))
    canceled = handle.cancel_goal_async()
    ended = handle.get_result_async()
    robot.until(lambda: canceled.done() and ended.done())
    assert ended.result().status == 5
    client.destroy()


def test_the_simulated_gripper_tells_where_it_stands(robot):
    robot.start(SimNode, **EMPTY, controller_action="", gripper_action=GRIPPER)
    client = ActionClient(robot.peer, GripperCommand, GRIPPER)
    robot.until(client.server_is_ready)
    sent = client.send_goal_async(GripperCommand.Goal(command=Command(position=0.25)))
    robot.until(sent.done)
    ended = sent.result().get_result_async()
    robot.until(ended.done)
    assert ended.result().result.reached_goal
    assert ended.result().result.position == pytest.approx(0.25, abs=0.04)
    sent = client.send_goal_async(GripperCommand.Goal(command=Command(position=2.0)))
    robot.until(sent.done)
    assert not sent.result().accepted
    client.destroy()
