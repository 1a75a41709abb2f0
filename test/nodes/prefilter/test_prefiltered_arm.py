"""Simulated arm, world model and prefilter together: what touches an obstacle does not pass, the rest runs to its end.

The gate waits longer here than on a robot, so that a machine without a GPU judges in time.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
import torch
import yaml
from judging_pace import skip_rest, too_slow
from measured import measured
from plan_trajectories import trajectory_from_plan
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from std_msgs.msg import Float32, Header
from trajectory_msgs.msg import JointTrajectory

from deepverse_ros.evaluation.prefilter.scenarios import Scenario, draw, obstacle_zones
from deepverse_ros.msg import CommandVerdict, PrefilterStatus
from deepverse_ros.nodes.messages.action_layout import JointLayout
from deepverse_ros.nodes.prefilter.node import PrefilterNode
from deepverse_ros.nodes.runtime import qos
from deepverse_ros.nodes.runtime.executor import NodeExecutor, SpinThread
from deepverse_ros.nodes.simulation.node import SimNode
from deepverse_ros.nodes.world_model.node import WorldModelNode
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.simulation import ArmSimulation

ARM = Embodiment.load("arm")
HORIZON = 8 * ARM.dt


class Cell:
    """The three nodes around one scenario, spun in the background, and somebody who commands and watches."""

    def __init__(self, scenario: Scenario, zones: Path) -> None:
        rclpy.init()
        self.sim = _make(
            SimNode, seed=scenario.scene, width=128, height=128, rate=10.0, trajectory_topic="prefilter/command_out",
        )  # fmt: skip
        self.model = _make(
            WorldModelNode, checkpoint="models/arm", device="cpu", torch_threads=1, zones=str(zones),
            verdict_deadline=10.0, verdict_valid_for=2.0,
        )  # fmt: skip
        self.prefilter = _make(
            PrefilterNode, embodiment="arm", command_timeout=0.0, heartbeat_timeout=2.0, pending_timeout=10.0,
            wait_timeout=5.0,
            measured_timeout=2.0, begin_delay=2.0, verdict_timeout=2.0, image_timeout=2.0, min_lookahead=0.05,
        )  # fmt: skip
        self.peer = Node("peer")
        self.states: list[PrefilterStatus] = []
        self.clearance: list[float] = []
        self.latencies: list[float] = []
        self.peer.create_subscription(PrefilterStatus, "prefilter/status", self.states.append, qos.debug_output())
        self.peer.create_subscription(
            Float32, "sim/ground_truth/clearance", lambda m: self.clearance.append(m.data), qos.debug_output()
        )
        self.peer.create_subscription(
            CommandVerdict, "world_model/command_verdict", lambda m: self.latencies.append(m.latency_ms), qos.command()
        )
        self.command = self.peer.create_publisher(JointTrajectory, "prefilter/command_in", qos.command())
        executor = NodeExecutor(num_threads=8)
        self.nodes = (self.sim, self.model, self.prefilter)
        for node in (*self.nodes, self.peer):
            executor.add_node(node)
        self.spinning = SpinThread(executor)
        for node in self.nodes:
            assert node.trigger_configure().name == "SUCCESS"
            assert node.trigger_activate().name == "SUCCESS"
        self.until(lambda: self.model.input.images.total > 8 and self.command.get_subscription_count() == 2)
        self.until(lambda: self.states and self.states[-1].state == PrefilterStatus.PASS)

    def until(self, condition, timeout: float = 90.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            last = self.states[-1].text if self.states else "nothing"
            assert time.monotonic() < end, f"waited in vain; the prefilter says: {last}"
            time.sleep(0.02)

    @property
    def joints(self) -> np.ndarray:
        return measured(self.model.input.state)

    def send(self, commands: np.ndarray) -> None:
        self.states.clear()
        self.clearance.clear()
        self.command.publish(trajectory_from_plan(commands, JointLayout(ARM), Header()))

    def close(self) -> None:
        self.spinning.end()
        for node in self.nodes:
            node.end()
            node.destroy_node()
        self.peer.destroy_node()
        rclpy.try_shutdown()


def _make(kind, **parameters):
    return kind(parameter_overrides=[RosParameter(name, value=value) for name, value in parameters.items()])


@pytest.fixture
def cell(request, tmp_path) -> Iterator[tuple[Cell, Scenario]]:
    threads = torch.get_num_threads()
    with ArmSimulation(width=64, height=64, embodiment=ARM, n_objects=3, n_obstacles=1) as simulation:
        drawn = (draw(simulation, 5, number, 8) for number in range(request.param, 100, 2))
        scenario = next(scenario for scenario in drawn if scenario.scene < 2**31)  # a node's parameter
        simulation.reset(scenario.scene)
        zones = obstacle_zones(simulation, ARM)
    file = tmp_path / "zones.yaml"
    file.write_text(yaml.safe_dump(zones.model_dump(mode="json", by_alias=True, exclude_none=True)))
    cell = Cell(scenario, file)
    yield cell, scenario
    cell.close()
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [3], indirect=True)
def test_a_harmless_trajectory_runs_to_its_end(cell):
    world, scenario = cell
    world.send(scenario.commands)

    def waits() -> list[str]:
        return [s.text for s in world.states if s.state != PrefilterStatus.PASS]

    def arrived() -> bool:
        return np.abs(world.joints - scenario.commands[-1]).max() < 0.03

    world.until(lambda: arrived() or (waits() and len(world.latencies) >= 2), timeout=20.0)
    if waits() and too_slow(world.latencies, HORIZON):
        skip_rest(world.latencies, waits(), min(world.clearance) > 0)
    world.until(arrived, timeout=20.0)
    assert {s.state for s in world.states} == {PrefilterStatus.PASS}, [s.text for s in world.states if s.state]


@pytest.mark.slow
@pytest.mark.parametrize("cell", [4], indirect=True)
def test_a_trajectory_into_an_obstacle_does_not_pass(cell):
    world, scenario = cell
    start = world.joints
    world.send(scenario.commands)
    world.until(lambda: any(s.state == PrefilterStatus.STOP for s in world.states))
    assert any(s.zone == "obstacle_0" for s in world.states)
    time.sleep(2.0)
    assert np.abs(world.joints - start).max() < 0.02
    assert min(world.clearance) > 0
