"""Robots that can be simulated are found by their folders, and a simulator is loaded only for one that is asked for."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from deepverse_ros.errors import EmbodimentError
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation import robots
from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.simulation.base import REVISIT


@pytest.fixture(scope="module")
def arm() -> Embodiment:
    return Embodiment.load("arm")


def test_every_folder_of_a_robot_is_found() -> None:
    folders = {path.parent.name for path in Path(robots.__file__).parent.glob("*/robot.py")}
    assert robots.names() == tuple(sorted(folders))
    assert "arm" in robots.names()


@pytest.mark.parametrize("name", robots.names())
def test_every_robot_has_an_embodiment_of_its_name_and_moves(name: str) -> None:
    embodiment = Embodiment.load(name)
    robot = robots.of(embodiment)
    with closing(robot.simulate(3, 32, 24)) as simulation:
        assert simulation.embodiment is embodiment
        before = simulation.joints
        assert before.shape == (embodiment.action_dim,)
        script = simulation.begin_episode(7, np.random.default_rng(0), 5, False)
        assert script.actions.shape == (5, embodiment.action_dim)
        assert script.kind != REVISIT
        for action in script.actions:
            simulation.step(action)
        assert not np.array_equal(simulation.joints, before)
        rgb, depth = simulation.render()
        assert rgb.shape == (24, 32, 3)
        assert depth.shape == (24, 32)
        np.testing.assert_array_equal(simulation.tool_to_world[:3, 3], simulation.tool_position)
        assert simulation.object_positions.shape[1:] == (3,)
        simulation.reset(3)
        np.testing.assert_array_equal(simulation.joints, before)


def test_a_goal_is_within_a_plan_and_another_lies_past_something(arm: Embodiment) -> None:
    with closing(robots.of(arm).simulate(width=32, height=24)) as simulation:
        goal = simulation.begin_reach(5, 8)
        assert goal is not None
        assert goal.rgb.shape == (24, 32, 3)
        assert np.linalg.norm(goal.tool_position - simulation.tool_position) > 0.01
        again = simulation.begin_reach(5, 8)
        assert again is not None
        np.testing.assert_array_equal(again.rgb, goal.rgb)
        past = simulation.begin_avoid(5)
        assert past.rgb.shape == (24, 32, 3)
        assert simulation.clearance > 0


def test_the_tool_of_an_arm_is_where_its_joints_bring_it(arm: Embodiment) -> None:
    kinematics = ArmKinematics(arm)
    with closing(robots.of(arm).simulate(4, 16, 16)) as simulation:
        for action in simulation.begin_episode(4, np.random.default_rng(1), 6, False).actions:
            simulation.step(action)
        simulation.reset(5)
        position, rotation = kinematics.tool_pose(simulation.joints)
        np.testing.assert_array_equal(simulation.tool_to_world[:3, 3], position)
        np.testing.assert_array_equal(simulation.tool_to_world[:3, :3], rotation)


def test_a_robot_that_nothing_simulates_is_named_with_those_that_are(arm: Embodiment) -> None:
    known = ", ".join(robots.names())
    with pytest.raises(EmbodimentError, match=f"^embodiment 'crane': nothing simulates it; simulated: {known}$"):
        robots.of(arm.model_copy(update={"name": "crane"}))
    for module in ("base", "rendering", "arm.tasks"):  # beside the robots, but none
        with pytest.raises(EmbodimentError, match="nothing simulates it"):
            robots.of(arm.model_copy(update={"name": module}))


def test_the_list_loads_no_simulator() -> None:
    code = (
        "import sys\n"
        "import deepverse_ros.data.collect\n"
        "from deepverse_ros.robot.embodiment import Embodiment\n"
        "from deepverse_ros.simulation import robots\n"
        "loaded = lambda: [name for name in sys.modules if name == 'mujoco' or name.endswith('simulation.arm')]\n"
        "assert 'arm' in robots.names()\n"
        "assert not loaded(), loaded()\n"
        "robots.of(Embodiment.load('arm'))\n"
        "assert loaded()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
