"""arm_mpc.launch.py, started for real: nodes come up in order, goals and plans move the arm, Ctrl-C leaves nothing."""

import os
import shutil
import subprocess
import time
import unittest
from pathlib import Path
from typing import Any

import launch_testing.actions
import launch_testing.asserts
import launch_testing.markers
import numpy as np
import pytest
import rclpy
from arm_launch import include, quick_planner, until
from launch import LaunchDescription
from lifecycle_msgs.srv import GetState
from plan_trajectories import trajectory_from_plan
from rclpy.action import ActionClient
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from deepverse_ros.action import PlanToGoal
from deepverse_ros.msg import ActionPlan, PlanVerdict, PredictedFrames
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.messages.image import image_from_array
from deepverse_ros.nodes.messages.plan import plan_to_msg
from deepverse_ros.nodes.messages.time import duration
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.executor import OneThreadExecutor, SpinThread
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
SLOW = 2 * ARM.dt
"""Seconds per step of plans that the planner made for half of that: what was possible then is possible now."""
NODES = ("sim", "world_model", "planner")
RVIZ_IS_HERE = shutil.which("rviz2") is not None


class Peer:
    """A user's node beside the launch, spun in the background."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node("peer", context=self.context)
        self.planner = ActionClient(self.node, PlanToGoal, "/planner/plan_to_goal")
        executor = OneThreadExecutor(context=self.context)
        executor.add_node(self.node)
        self.spinning = SpinThread(executor)

    def hear(self, kind: type, topic: str) -> list[Any]:
        heard: list[Any] = []
        profile = qos.debug_output()
        profile.depth = 20
        self.node.create_subscription(kind, topic, heard.append, profile)
        return heard

    def state(self, name: str) -> str:
        client = self.node.create_client(GetState, f"/{name}/get_state")
        if not client.wait_for_service(timeout_sec=1.0):
            return "absent"
        future = client.call_async(GetState.Request())
        end = time.monotonic() + 5.0
        while not future.done() and time.monotonic() < end:
            time.sleep(0.02)
        # A node that loads its model answers when it has done so.
        return str(future.result().current_state.label) if future.done() else "busy"

    def wait_for_active(self) -> None:
        until(lambda: all(self.state(name) == "active" for name in NODES), 240.0, "bringing the nodes up")

    def speak(self, kind: type, topic: str) -> Any:
        """A publisher that the planner hears."""
        publisher = self.node.create_publisher(kind, topic, qos.command())
        until(publisher.get_subscription_count, 30.0, f"a subscription to {topic}")
        return publisher

    def pursue(self, timeout: float = 60.0, **fields: Any) -> Any:
        assert self.planner.wait_for_server(timeout_sec=10.0)
        sent = self.planner.send_goal_async(PlanToGoal.Goal(**{"goal_image": grey(120), **fields}))
        until(sent.done, 10.0, "sending a goal")
        done = sent.result().get_result_async()
        until(done.done, timeout, "the goal's result")
        return done.result().result

    def close(self) -> None:
        self.spinning.end()
        self.planner.destroy()  # rclpy leaves it, and it holds the node's handle
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


def grey(value: int) -> Image:
    """A picture of some place, for a model that is untrained."""
    return image_from_array(np.full((48, 64, 3), value, np.uint8), "rgb8", Header())


def values(plan: ActionPlan) -> np.ndarray:
    """(H, A)."""
    return np.array(plan.values).reshape(-1, ARM.action_dim)


def a_goal_moves_the_arm(peer: Peer) -> None:
    verdicts, plans = peer.hear(PlanVerdict, "/planner/verdict"), peer.hear(ActionPlan, "/planner/plan")
    frames, joints = peer.hear(PredictedFrames, "/world_model/predicted_frames"), peer.hear(JointState, "/joint_states")
    until(lambda: joints and frames, 20.0, "joint states and predicted frames")
    before = np.array(joints[-1].position[:7])
    result = peer.pursue(max_plans=1)
    assert (result.plans_accepted, result.plans_rejected) == (1, 0), result.text
    plan = next(p for p in plans if p.id != "hold")
    assert [v.plan_id for v in verdicts if v.accepted] == [plan.id]
    target = values(plan)[-1, :7]
    after = np.array(joints[-1].position[:7])
    assert np.abs(after - target).max() < 0.1
    assert np.abs(after - before).max() > 0.05
    assert plan.id in {f.plan_id for f in frames}, "the world model imagines the plan that is executed"


@pytest.mark.launch_test
@launch_testing.markers.keep_alive
def generate_test_description() -> LaunchDescription:
    parameters = quick_planner(execute_proposals=True)
    rviz = "false" if RVIZ_IS_HERE else "true"
    description = include(seed="3", rviz=rviz, planner_params=str(parameters))
    description.add_action(launch_testing.actions.ReadyToTest())
    return description


class TestArmMpc(unittest.TestCase):
    peer: Peer

    @classmethod
    def setUpClass(cls) -> None:
        cls.peer = Peer()
        cls.peer.wait_for_active()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.peer.close()

    def test_nodes_come_up_in_order(self, proc_output: Any) -> None:
        text = "".join(event.text.decode() for event in proc_output)
        ready = ("rendering by", "[world_model]: loaded", "[planner]: loaded")
        places = [text.index(sentence) for sentence in ready]
        assert places == sorted(places)

    def test_predicted_frames_come_at_their_rate(self) -> None:
        frames = self.peer.hear(PredictedFrames, "/world_model/predicted_frames")
        until(lambda: frames, 20.0, "predicted frames")
        begin, count = time.monotonic(), len(frames)
        time.sleep(4.0)
        assert (len(frames) - count) / (time.monotonic() - begin) >= 2.0
        assert len(frames[-1].rgb) == len(frames[-1].depth) == 8

    def test_a_goal_moves_the_arm(self) -> None:
        a_goal_moves_the_arm(self.peer)

    def test_a_goal_on_the_topic_moves_the_arm_until_it_is_withdrawn(self) -> None:
        peer = self.peer
        verdicts, plans = peer.hear(PlanVerdict, "/planner/verdict"), peer.hear(ActionPlan, "/planner/plan")
        joints = peer.hear(JointState, "/joint_states")
        goal_image = peer.speak(Image, "/planner/goal_image")
        until(lambda: joints, 30.0, "joint states")
        before = np.array(joints[-1].position[:7])
        goal_image.publish(grey(90))
        try:
            until(lambda: any(v.accepted for v in verdicts), 60.0, "an accepted verdict")
            until(lambda: np.abs(np.array(joints[-1].position[:7]) - before).max() > 0.05, 60.0, "motion")
            accepted = {v.plan_id for v in verdicts if v.accepted}
            assert {p.id for p in plans} <= accepted | {"hold"}, "nothing is sent that was not accepted"
        finally:
            goal_image.publish(Image())
        until(lambda: any(p.id == "hold" for p in plans), 60.0, "a hold after the goal was withdrawn")

    def test_plans_of_another_planner_are_judged_and_move_the_arm(self) -> None:
        """An ActionPlan leads half of the planner's own plan back, a JointTrajectory the same way forth again."""
        peer = self.peer
        plans = peer.hear(ActionPlan, "/planner/plan")
        result = peer.pursue(max_plans=1)
        assert result.plans_accepted == 1, result.text
        until(lambda: [p for p in plans if p.id != "hold"], 30.0, "the planner's plan")
        way = values(next(p for p in plans if p.id != "hold"))
        back, forth = way[6:2:-1], way[4:]
        proposal = plan_to_msg(back, ARM, Header(), "back")
        proposal.dt = SLOW
        self.judged_and_executed(proposal, "/planner/proposed_plan", "back", back[-1])
        stamp = peer.node.get_clock().now().to_msg()
        trajectory = trajectory_from_plan(forth, JointLayout(ARM), Header(stamp=stamp))
        for number, waypoint in enumerate(trajectory.points):
            waypoint.time_from_start = duration((number + 1) * SLOW)
        plan_id = f"trajectory-{stamp.sec}.{stamp.nanosec:09d}"
        self.judged_and_executed(trajectory, "/planner/proposed_trajectory", plan_id, forth[-1])

    def judged_and_executed(
        self, message: ActionPlan | JointTrajectory, topic: str, plan_id: str, target: np.ndarray
    ) -> None:
        """Args: target (A,): where the arm is to be at the end."""
        peer = self.peer
        verdicts, plans = peer.hear(PlanVerdict, "/planner/verdict"), peer.hear(ActionPlan, "/planner/plan")
        joints = peer.hear(JointState, "/joint_states")
        publisher = peer.speak(type(message), topic)
        until(lambda: joints, 30.0, "joint states")

        def left() -> float:
            return float(np.abs(np.array(joints[-1].position[:7]) - target[:7]).max())

        before = left()
        assert before > 0.05
        publisher.publish(message)
        until(lambda: any(v.plan_id == plan_id for v in verdicts), 60.0, f"the verdict on {plan_id}")
        verdict = next(v for v in verdicts if v.plan_id == plan_id)
        assert verdict.accepted, verdict.text
        until(lambda: plan_id in {p.id for p in plans}, 30.0, f"the execution of {plan_id}")
        until(lambda: left() < 0.3 * before, 60.0, f"the end of {plan_id}, {before:.3f} rad away at first")

    def test_the_verdict_reads_well_in_a_terminal(self) -> None:
        echo = subprocess.Popen(
            ["ros2", "topic", "echo", "--once", "/planner/verdict"], stdout=subprocess.PIPE, text=True, env=os.environ
        )
        try:
            until(lambda: self.peer.node.count_subscribers("/planner/verdict") > 0, 30.0, "ros2 topic echo")
            proposal = self.peer.node.create_publisher(ActionPlan, "/planner/proposed_plan", qos.command())
            until(proposal.get_subscription_count, 10.0, "the planner's subscription")
            while echo.poll() is None:
                proposal.publish(ActionPlan(id="mine", embodiment="other"))
                time.sleep(0.5)
            text = echo.communicate(timeout=10)[0]
        finally:
            echo.kill()
        assert "plan_id: mine" in text
        assert "accepted: false" in text
        assert "plan embodiment is 'other'; this robot is 'arm'" in text.replace("''", "'")

    def test_parameters_are_described_in_a_terminal(self) -> None:
        text = subprocess.run(
            ["ros2", "param", "describe", "/planner", "goal_tolerance"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        assert "imagined distance to the goal" in text
        assert "Min value: 0.001" in text

    def test_a_missing_rviz_is_said_and_nothing_else_happens(self, proc_info: Any) -> None:
        assert not [name for name in proc_info.process_names() if "rviz" in name]
        assert {name.rsplit("_node", 1)[0] for name in proc_info.process_names()} == set(NODES)


@launch_testing.post_shutdown_test()
class TestAfterCtrlC(unittest.TestCase):
    def test_every_node_ended_cleanly(self, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
        assert len(proc_info.process_names()) == len(NODES)

    def test_nothing_is_left_behind(self, proc_info: Any) -> None:
        left = [event.pid for event in proc_info if Path(f"/proc/{event.pid}").exists()]
        assert not left

    def test_no_node_logged_an_exception(self, proc_output: Any) -> None:
        text = "".join(event.text.decode() for event in proc_output)
        assert "Traceback" not in text
