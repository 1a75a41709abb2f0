"""The planner's tasks: repeatable, not solved by standing still, and possible."""

import numpy as np
import pytest

from deepverse_ros.data.collect import scene_seed
from deepverse_ros.evaluation.prediction.evaluate import EVALUATION_SEEDS
from deepverse_ros.simulation.arm.simulation import ArmSimulation
from deepverse_ros.simulation.arm.tasks import TASKS, make_task
from deepverse_ros.simulation.arm.tasks.base import MAX_STEPS, SCENE_SEEDS

SEEDS = range(10)
SOLVABLE = ("reach", "push", "avoid")


@pytest.fixture(scope="module")
def simulation():
    with ArmSimulation(seed=0, width=64, height=64) as sim:
        yield sim


def what_is_drawn(task, seed):
    """Everything that a planner or a judge could see at the start."""
    task.reset(seed)
    goal = task.goal
    commands = np.zeros(0) if task.demonstration is None else task.demonstration
    arrays = (goal.rgb, goal.depth, goal.tool_position, goal.object_positions, commands, *task.simulation.render())
    return *arrays, task.simulation.joints, task.simulation.object_positions


def straight(task):
    """(T, 8) commands that go to the demonstration's end without a detour."""
    start, end = task.simulation.joints, task.demonstration[-1]
    steps = int(np.ceil(np.max(np.abs(end - start) / (0.8 * task.embodiment.max_step))))
    return start + (end - start) * np.arange(1, steps + 1)[:, None] / steps


@pytest.mark.parametrize("name", TASKS)
def test_a_seed_is_one_task(simulation, name):
    task = make_task(name, simulation)
    first = [what_is_drawn(task, seed) for seed in SEEDS]
    for seed, expected in zip(SEEDS, first, strict=True):
        for a, b in zip(what_is_drawn(task, seed), expected, strict=True):
            np.testing.assert_array_equal(a, b)
    tools = np.stack([drawn[2] for drawn in first])
    assert len(np.unique(tools, axis=0)) == len(SEEDS)
    assert np.all(np.std(tools, axis=0)[:2] > 0.03)


def test_a_task_does_not_depend_on_what_the_simulation_did_before(simulation):
    make_task("avoid", simulation).reset(3)
    with ArmSimulation(seed=77, width=64, height=64, base_offset=(0.1, 0.2)) as other:
        for a, b in zip(
            what_is_drawn(make_task("push", simulation), 4), what_is_drawn(make_task("push", other), 4), strict=True
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", TASKS)
def test_doing_nothing_never_reaches_the_goal(simulation, name):
    task = make_task(name, simulation)
    for seed in SEEDS:
        task.reset(seed)
        start, at_first = simulation.joints, task.distance()
        assert at_first >= (0.08 if name == "push" else 0.15)
        for _ in range(MAX_STEPS):
            task.step(start)
            assert not task.reached()
            assert not task.failed()
        assert task.distance() == pytest.approx(at_first, abs=0.01)


@pytest.mark.parametrize("name", SOLVABLE)
def test_the_demonstration_reaches_the_goal(simulation, name):
    """At once, or after the frames that a model observes, within the limits of the arm and of the episode."""
    task = make_task(name, simulation)
    for seed in SEEDS:
        task.reset(seed)
        start, commands = simulation.joints, task.demonstration
        assert len(commands) <= {"reach": 24, "push": 20, "avoid": 16}[name]
        assert np.all((commands >= task.embodiment.lower) & (commands <= task.embodiment.upper))
        assert np.all(np.abs(np.diff(commands, axis=0, prepend=start[None])) <= task.embodiment.max_step + 1e-5)
        for action in [start] * (0, 3)[seed % 2]:
            task.step(action)
        for action in commands:
            task.step(action)
            assert not task.failed()
        assert task.reached()
        assert task.distance() <= (0.06 if name == "push" else 0.05)


def test_a_quarter_of_the_reaches_takes_more_than_one_plan_and_none_more_than_three(simulation):
    task, steps = make_task("reach", simulation), []
    for seed in range(100, 140):
        task.reset(seed)
        way = np.abs(task.demonstration[-1] - simulation.joints)
        steps.append(np.max(way / task.embodiment.max_step))
    assert 0.1 < np.mean(np.array(steps) > 8) < 0.45
    assert max(steps) < 0.8 * 24


def test_a_push_starts_near_its_object_and_is_seen_to_work_within_one_plan(simulation):
    task = make_task("push", simulation)
    for seed in SEEDS:
        task.reset(seed)
        hand, thing = simulation.tool_position, simulation.object_positions[task.object]
        assert np.linalg.norm(hand[:2] - thing[:2]) < 0.13
        assert 0.02 < hand[2] < 0.13
        shown = task.goal.object_positions
        # Behind: it moves away from the hand.
        assert np.dot(shown[task.object, :2] - thing[:2], thing[:2] - hand[:2]) > 0
        assert np.abs(np.delete(shown - simulation.object_positions, task.object, axis=0)).max(initial=0.0) < 0.01
        before = task.distance()
        for action in task.demonstration[:8]:
            task.step(action)
        assert task.distance() < before - 0.005


def test_the_goal_of_a_push_is_a_picture_of_what_really_happened(simulation):
    task = make_task("push", simulation)
    for seed in SEEDS:
        task.reset(seed)
        for action in task.demonstration:
            task.step(action)
        rgb, depth = simulation.render()
        assert np.mean(np.abs(rgb.astype(float) - task.goal.rgb) > 8) < 0.005
        assert np.mean(np.abs(depth - task.goal.depth) > 0.01) < 0.005
        np.testing.assert_allclose(simulation.tool_position, task.goal.tool_position, atol=0.005)
        np.testing.assert_allclose(simulation.object_positions, task.goal.object_positions, atol=0.01)


def test_the_object_of_a_push_can_be_seen_at_the_start_and_in_the_goal():
    """Where its middle should be, the picture's depth is the object's: the arm is not nearer, the table is further."""
    with ArmSimulation(seed=0, width=256, height=256) as simulation:
        task = make_task("push", simulation)
        for seed in SEEDS:
            task.reset(seed)
            shown = (simulation.render()[1], simulation.object_positions)
            for depth, positions in (shown, (task.goal.depth, task.goal.object_positions)):
                at = simulation.scene.camera_axes.T @ (positions[task.object] - simulation.scene.camera_position)
                u, v, _ = np.rint(simulation.intrinsics @ at / at[2]).astype(int)
                assert depth[v, u] == pytest.approx(at[2], abs=0.06)


def test_whoever_drives_straight_hits_the_obstacle_and_cannot_make_it_good(simulation):
    task = make_task("avoid", simulation)
    for seed in SEEDS:
        task.reset(seed)
        start = simulation.joints
        for action in straight(task):
            task.step(action)
        assert any(name.startswith("obstacle") for name in task.touched)
        assert task.failed()
        for action in [start] * 6:
            task.step(action)
        simulation.set_joints(task.demonstration[-1])
        assert task.distance() < 0.05
        assert task.failed()
        assert not task.reached()
        task.reset(seed)
        assert not task.failed()


def test_a_touch_between_two_frames_counts(simulation):
    """A hand that brushes something in passing is clear of it again at the end of the step."""
    task, unseen = make_task("avoid", simulation), False
    for seed in range(40):
        task.reset(seed)
        for action in straight(task):
            task.step(action)
            if task.failed():
                unseen = not simulation.contacts() and simulation.clearance > 0.001
                break
        if unseen:
            return
    pytest.fail("no straight way touched anything in passing only")


def test_steps_of_avoid_move_the_arm_as_the_simulation_does(simulation):
    task = make_task("avoid", simulation)
    task.reset(0)
    finely = []
    for action in task.demonstration:
        task.step(action)
        finely.append(simulation.joints)
    task.reset(0)
    for action, joints in zip(task.demonstration, finely, strict=True):
        simulation.step(action)
        np.testing.assert_allclose(simulation.joints, joints, atol=1e-4)


def test_an_impossible_goal_is_inside_an_obstacle_and_nothing_leads_there(simulation):
    task = make_task("impossible", simulation)
    for seed in SEEDS:
        task.reset(seed)
        assert task.demonstration is None
        middles = np.array([item.position[:2] for item in simulation.scene.obstacles])
        assert np.linalg.norm(middles - task.goal.tool_position[:2], axis=1).min() < 0.02
        assert task.goal.rgb.shape == (64, 64, 3)


class Recording(ArmSimulation):
    """Remembers the seeds of its scenes."""

    def reset(self, seed, *args, **kwargs):
        self.seeds = [*getattr(self, "seeds", []), seed]
        super().reset(seed, *args, **kwargs)


def test_no_scene_of_a_task_can_be_one_of_another_block_or_one_that_a_model_learnt():
    with Recording(seed=0, width=64, height=64) as simulation:
        simulation.seeds = []
        for name in TASKS:
            make_task(name, simulation).reset(5)
        assert SCENE_SEEDS <= min(simulation.seeds) <= max(simulation.seeds) < 2 * SCENE_SEEDS
        simulation.seeds = []
        for name in TASKS:
            make_task(name, simulation).reset(SCENE_SEEDS + 5)
        assert 2 * SCENE_SEEDS <= min(simulation.seeds) <= max(simulation.seeds) < 3 * SCENE_SEEDS
    collections = (0, 1, 999_999, EVALUATION_SEEDS, EVALUATION_SEEDS + 100_000)
    assert max(scene_seed(seed, index) for seed in collections for index in range(200)) < SCENE_SEEDS


def test_a_task_that_the_simulation_has_no_room_for_says_so():
    with ArmSimulation(seed=0, width=16, height=16, n_objects=0, n_obstacles=0) as bare:
        for name in ("push", "avoid"):
            with pytest.raises(RuntimeError, match=f"task '{name}': no solvable one found for seed 0"):
                make_task(name, bare).reset(0)


def test_an_unknown_task_is_named_with_those_that_exist(simulation):
    with pytest.raises(ValueError, match="expected one of reach, push, avoid, impossible, got 'fly'"):
        make_task("fly", simulation)
