"""The default zones and the simulated arm: no scene starts in a zone, and the arm is never taken for somebody."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from deepverse_ros.judging.command_judge import CommandJudge
from deepverse_ros.judging.command_rollout import CommandRollout
from deepverse_ros.judging.moments import Seen
from deepverse_ros.judging.tracked_command import TrackedCommand
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.planning.robot_control import RobotControl
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.safety.commands import Command, Layout
from deepverse_ros.safety.view import View
from deepverse_ros.safety.zones import Zones
from deepverse_ros.simulation.arm.sampling import sample_scene
from deepverse_ros.simulation.arm.scene import Item
from deepverse_ros.simulation.arm.simulation import ArmSimulation

ARM = Embodiment.load("arm")
ZONES = Zones.load("config/safety/arm_zones.yaml")
IN_FIXED_FRAMES = [z for z in ZONES.checked if z.of == "scene" and not z.attached]
REACHING = [-0.1, 0.95, 0.1, -0.55, 0.0, 0.4, 0.0, 1.0]
"""The tool is at x = 0.96 m there, behind where the zones of people begin."""


def corners(item: Item) -> np.ndarray:
    """(8, 3) metres, of the box around it, which is turned as it is."""
    turn = np.array([[np.cos(item.yaw), -np.sin(item.yaw)], [np.sin(item.yaw), np.cos(item.yaw)]])
    signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(-1, 3)
    out = signs * np.array(item.extents)
    out[:, :2] = out[:, :2] @ turn.T
    return out + item.position


def test_no_scene_of_the_simulator_starts_with_anything_in_a_zone():
    items = []
    for seed in range(1000):
        scene = sample_scene(np.random.default_rng(seed), 3, 1)
        items += [*scene.objects, *scene.obstacles]
    points = np.concatenate([corners(item) for item in items])[None]
    assert points[..., 0].max() > 0.78  # the far edge is among them
    for zone in IN_FIXED_FRAMES:
        nearest = zone.clearance(View(ARM.base_frame, points)).min()
        assert nearest > 0.01, zone.name


@pytest.fixture(scope="module")
def bare() -> Iterator[tuple[ArmSimulation, RobotControl]]:
    """Nothing but the arm on its table."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with ArmSimulation(embodiment=ARM, n_objects=0, n_obstacles=0) as simulation:
        yield simulation, RobotControl(WorldModel.load("models/arm", device="cpu"))
    torch.set_num_threads(threads)


def look(simulation: ArmSimulation, control: RobotControl, watch: CommandJudge) -> Seen:
    control.reset()
    for _ in range(4):
        rgb, depth = simulation.render()
        pose = simulation.camera_to_world
        control.see(rgb, simulation.joints, depth, intrinsics=simulation.intrinsics, camera_to_world=pose)
    belief = replace(control.believe(), novelty=torch.zeros(1))  # where it stretches to is unusual
    observation = Observation.from_numpy(rgb[None], depth[None], simulation.intrinsics, simulation.camera_to_world)
    return watch.see(belief, observation, simulation.joints.astype(np.float32), 50.0)


@pytest.mark.parametrize("turned", [-0.4, 0.0, 0.4])
def test_the_arm_that_reaches_into_a_zone_of_people_is_not_taken_for_one(bare, turned):
    simulation, control = bare
    watch = CommandJudge(control.model, ARM, ZONES, CommandRollout(ARM, Layout.of(ARM)))
    start = np.array(REACHING)
    end = start + np.array([turned, -0.2, 0.2, 0.2, 0.3, 0.0, 0.3, 0.0])
    simulation.reset(1, joints=start)
    assert simulation.tool_position[0] > 0.95
    watch.forget()
    seen = look(simulation, control, watch)
    assert not watch.standing(seen)
    values = start + (end - start) * np.linspace(1 / 8, 1, 8)[:, None]
    for command in (values, np.repeat(start[None], 8, 0)):
        times = ARM.dt * np.arange(1, 9)
        watched = TrackedCommand(Command(command, times, Layout.of(ARM).names, 0.0, simulation.joints), "c1")
        imagined = watch.imagine(seen, watch.plan(seen, watched))
        view = View(ARM.base_frame, imagined.scene)
        counts = ~ZONES.ignored(view, times, "scene")
        for zone in IN_FIXED_FRAMES:
            counted = (zone.hits(view) & counts).sum(1)
            assert counted.max() < zone.min_points / 3, (zone.name, counted)


def test_somebody_who_is_there_at_the_start_is_told(bare):
    simulation, control = bare
    watch = CommandJudge(control.model, ARM, ZONES, CommandRollout(ARM, Layout.of(ARM)))
    simulation.reset(1)
    seen = look(simulation, control, watch)
    assert not watch.standing(seen)
    off = np.random.default_rng(0).uniform(-0.03, 0.03, (50, 3))
    hand = np.array([1.05, 0.2, 0.3]) + np.concatenate([off, -off])
    points = np.concatenate([seen.points, hand[None].astype(np.float32)], 1)
    own = np.concatenate([seen.own, np.zeros((1, 100), bool)], 1)
    found = watch.standing(replace(seen, points=points, own=own))
    assert [one.zone for one in found] == ["person", "coming_person"]
    assert "100 points that are not the robot, 70 count: 100 around (1.05, 0.20, 0.30)" in found[0].text
    assert not watch.standing(replace(seen, no_observation="the newest picture has no depth"))
