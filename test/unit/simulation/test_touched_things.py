"""What the arm touches, holds and knocks over, and what pictures are said to show."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation import robots
from deepverse_ros.simulation.arm import simulation as arm_simulation
from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.simulation.arm.sampling import sample_scene
from deepverse_ros.simulation.arm.scene import Item, Matter
from deepverse_ros.simulation.arm.simulation import ArmSimulation

ARM = Embodiment.load("arm")
HOME = np.asarray(ARM.home)
DOWN = np.array([0.0, 0.0, -1.0])
Bench = Callable[..., ArmSimulation]


@pytest.fixture(scope="module")
def simulation() -> Iterator[ArmSimulation]:
    with ArmSimulation(seed=0, embodiment=ARM) as sim:
        yield sim


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Makes a simulation of a bare table with given things and obstacles."""
    made: list[ArmSimulation] = []

    def make(*things: Item, obstacles: tuple[Item, ...] = ()) -> ArmSimulation:
        bare = sample_scene(np.random.default_rng(0), 0, 0, randomise=False)
        scene = replace(
            bare, objects=things, obstacles=obstacles, fixtures=(), patches=(), table_lower=(-1.05, -1.45),
            table_upper=(1.25, 1.45),
        )  # fmt: skip
        monkeypatch.setattr(arm_simulation, "sample_scene", lambda *_: scene)
        made.append(ArmSimulation(embodiment=ARM, randomise=False))
        return made[-1]

    yield make
    for sim in made:
        sim.close()


def thing(shape: str, size: tuple[float, ...], x: float = 0.55, y: float = 0.0, **kwargs: object) -> Item:
    item = Item(shape, size, (x, y, 0.0), 0.0, (0.1, 0.7, 0.2), **kwargs)  # type: ignore[arg-type]
    return replace(item, position=(x, y, item.extents[2]))


def matter(density: float = 600.0, slide: float = 0.4, roll: float = 0.001) -> Matter:
    return Matter(density, (slide, 0.005, roll))


def pixel_of(sim: ArmSimulation, point: np.ndarray) -> tuple[int, int]:
    """Row and column."""
    at = (point - sim.scene.camera_position) @ sim.scene.camera_axes
    u, v, _ = np.rint(sim.intrinsics @ at / at[2]).astype(int)
    return int(v), int(u)


# ---- pictures


def test_a_segmentation_shows_each_thing_where_it_is(simulation: ArmSimulation) -> None:
    """The middle of a thing lies behind its own pixels, unless something that is nearer hides it."""
    shown, hidden = 0, 0
    for seed in range(25):
        simulation.reset(seed)
        rgb, depth, segmentation = simulation.render_segmented()
        plain = simulation.render()
        np.testing.assert_array_equal(rgb, plain[0])
        np.testing.assert_array_equal(depth, plain[1])
        assert segmentation.shape == depth.shape
        assert segmentation.dtype == np.uint8
        assert segmentation.max() < 2 + len(simulation.scene.objects)
        for k, (item, place) in enumerate(zip(simulation.scene.objects, simulation.object_positions, strict=True)):
            if item.shape == "tee":  # its middle may be beside it
                continue
            row, column = pixel_of(simulation, place)
            z = ((place - simulation.scene.camera_position) @ simulation.scene.camera_axes)[2]
            if segmentation[row, column] == 2 + k:
                shown += 1
                assert z - 0.09 < depth[row, column] < z
            else:
                hidden += 1
                assert depth[row, column] < z, "something else is seen, and it is not nearer"
    assert shown > 40
    assert hidden < 0.4 * shown


def test_a_segmentation_takes_things_out_of_what_stands_fast(simulation: ArmSimulation) -> None:
    """Without the robot and the things the points of a picture are of the table, the floor, obstacles and fixtures."""
    robot = []
    for seed in range(10):
        simulation.reset(seed)
        scene = simulation.scene
        _, depth, segmentation = simulation.render_segmented()
        v, u = np.mgrid[: depth.shape[0], : depth.shape[1]]
        rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(simulation.intrinsics).T
        points = (rays * depth[..., None]) @ scene.camera_axes.T + scene.camera_position
        higher = (segmentation == 0) & (points[..., 2] > 0.004)
        fast = [*scene.obstacles, *scene.fixtures]
        for item in fast:
            higher &= np.linalg.norm(points[..., :2] - item.position[:2], axis=-1) > item.footprint + 0.01
        back = points[..., 0] < -0.5  # the wall
        assert np.sum(higher & ~back) <= 3
        robot.append(np.mean(segmentation == 1))
    assert np.mean(robot) > 0.05


def test_the_robot_alone_is_where_it_would_stand_once_it_is_there(simulation: ArmSimulation) -> None:
    for seed in range(4):
        simulation.reset(seed)
        goal = HOME + np.array([0.3, 0.15, 0.0, -0.2, 0.0, 0.1, 0.3, -0.5])
        before = simulation.render(), simulation.joints
        _, expected, mask = simulation.robot_picture(goal)
        np.testing.assert_array_equal(simulation.render()[0], before[0][0])
        np.testing.assert_array_equal(simulation.joints, before[1])
        simulation.set_joints(goal)
        _, depth, segmentation = simulation.render_segmented()
        own = segmentation == 1
        assert mask.any()
        assert not np.any(own & ~mask)
        assert np.all(segmentation[mask & ~own] >= 2), "only a thing may hide the robot"
        np.testing.assert_allclose(expected[own], depth[own], atol=1e-4)


def test_a_thing_does_not_hide_the_robot_alone(bench: Bench) -> None:
    empty = bench()
    bare = empty.render_segmented()[2] == 1
    between = empty.tool_position + 0.3 * (empty.scene.camera_position - empty.tool_position)
    x, y, z = (float(v) for v in between)
    sim = bench(replace(thing("box", (0.05, 0.05, 0.05)), position=(x, y, z)))
    own = sim.render_segmented()[2] == 1
    mask = sim.robot_picture(sim.joints)[2]
    assert np.sum(bare & ~own) > 20, "the block hides nothing"
    np.testing.assert_array_equal(mask, bare)


def test_intrinsics_follow_the_scene(simulation: ArmSimulation) -> None:
    focal = set()
    for seed in range(3):
        simulation.reset(seed)
        matrix = simulation.intrinsics
        assert matrix[0, 0] == pytest.approx(64 / np.tan(np.deg2rad(simulation.scene.camera_fovy) / 2))
        focal.add(round(matrix[0, 0], 3))
    assert len(focal) == 3


def test_a_renderer_is_used_again_for_scenes_of_other_things(simulation: ArmSimulation) -> None:
    """The picture and the segmentation of a seed are the same after other scenes."""
    simulation.reset(2)
    first = simulation.render_segmented()
    for seed in (0, 5, 2):
        simulation.reset(seed)
        second = simulation.render_segmented()
        simulation.robot_picture(HOME)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


# ---- truth


def test_poses_and_touches_have_a_place_for_every_thing(simulation: ArmSimulation) -> None:
    counts = set()
    for seed in range(12):
        simulation.reset(seed)
        count = len(simulation.scene.objects)
        counts.add(count)
        state = simulation.state()
        assert {name: value.shape for name, value in state.items()} == {
            "joint_positions": (7,), "gripper_state": (1,), "tool_position": (3,), "clearance": (1,),
            "object_positions": (3 * count,), "object_poses": (7 * count,), "object_touched": (count,),
            "base_position": (3,),
        }  # fmt: skip
        assert all(value.dtype == np.float32 for value in state.values())
        assert not simulation.touched.any()
        poses = simulation.object_poses
        np.testing.assert_array_equal(poses[:, :3], simulation.object_positions)
        np.testing.assert_allclose(np.linalg.norm(poses[:, 3:], axis=1), 1.0, atol=1e-6)
    assert len(counts) > 3


def test_a_quaternion_has_its_real_part_last(bench: Bench) -> None:
    turned = replace(thing("box", (0.02, 0.03, 0.02)), yaw=0.6)
    lying = thing("cylinder", (0.02, 0.05), y=0.2, tilt=np.pi / 2)
    poses = bench(turned, lying).object_poses
    np.testing.assert_allclose(poses[0, 3:], (0, 0, np.sin(0.3), np.cos(0.3)), atol=1e-6)
    np.testing.assert_allclose(poses[1, 3:], (np.sqrt(0.5), 0, 0, np.sqrt(0.5)), atol=1e-6)


def test_only_what_the_robot_pushes_is_touched_and_only_while_it_does(bench: Bench) -> None:
    sim = bench(thing("box", (0.025,) * 3, matter=matter()), thing("box", (0.025,) * 3, y=0.3, matter=matter()))
    kinematics = ArmKinematics(ARM)
    low = kinematics.inverse(np.array([0.55, -0.12, 0.03]), DOWN, HOME[:7])
    far = kinematics.inverse(np.array([0.55, 0.08, 0.03]), DOWN, HOME[:7])
    assert low is not None
    assert far is not None
    sim.set_joints(np.append(low, 0.0))
    met = []
    for s in np.linspace(0.1, 1, 10):
        sim.step(np.append(low + (far - low) * s, 0.0))
        met.append(sim.touched)
    assert not met[0].any()
    assert met[-1].tolist() == [True, False]
    assert sim.state()["object_touched"].tolist() == [1.0, 0.0]
    assert sim.object_positions[0, 1] > 0.05
    for s in np.linspace(0.1, 1, 10):
        sim.step(np.append(far + (low - far) * s, 0.0))
    assert not sim.touched.any()


def test_a_shifted_arm_says_where_it_stands(simulation: ArmSimulation) -> None:
    simulation.reset(0, base_offset=(0.1, -0.2))
    np.testing.assert_allclose(simulation.state()["base_position"], (0.1, -0.2, 0.0), atol=1e-6)
    simulation.reset(0, base_offset=(0.0, 0.0))


# ---- physics


@pytest.mark.parametrize(("half", "density", "friction"), [(0.02, 200, 0.2), (0.025, 1500, 0.2), (0.022, 700, 0.5)])
def test_a_gripped_box_is_lifted(bench: Bench, half: float, density: float, friction: float) -> None:
    kinematics = ArmKinematics(ARM)
    start = HOME[:7].copy()
    low, high = (kinematics.inverse(np.array([0.55, 0.0, z]), DOWN, start) for z in (half, 0.25))
    assert low is not None
    assert high is not None
    _, rotation = kinematics.tool_pose(np.append(low, 1.0))
    yaw = float(np.arctan2(rotation[1, 1], rotation[0, 1]))  # its sides lie along the fingers'
    sim = bench(replace(thing("box", (half,) * 3, matter=matter(density, friction)), yaw=yaw))
    sim.set_joints(np.append(low, 1.0))
    for _ in range(3):
        sim.step(np.append(low, 0.0))
    assert sim.joints[7] == pytest.approx((half - 0.001) / 0.038, abs=0.04), "the fingers sink into the box"
    held = sim.object_positions[0] - sim.tool_position
    for s in np.linspace(0.1, 1, 10):
        sim.step(np.append(low + (high - low) * s, 0.0))
    for _ in range(10):
        sim.step(np.append(high, 0.0))
    assert sim.object_positions[0, 2] > 0.2
    assert np.linalg.norm(sim.object_positions[0] - sim.tool_position - held) < 0.006
    for _ in range(4):
        sim.step(np.append(high, 1.0))
    assert sim.object_positions[0, 2] < 0.1, "it falls when the gripper opens"


@pytest.mark.parametrize("roll", [0.0005, 0.003])
def test_a_toppled_cylinder_comes_to_rest(bench: Bench, roll: float) -> None:
    """Knocked over by the hand, it lies still 2 s after the hand has stopped."""
    sim = bench(thing("cylinder", (0.018, 0.05), matter=matter(roll=roll)))
    kinematics = ArmKinematics(ARM)
    low = kinematics.inverse(np.array([0.55, -0.1, 0.09]), DOWN, HOME[:7])
    far = kinematics.inverse(np.array([0.55, 0.03, 0.09]), DOWN, HOME[:7])
    assert low is not None
    assert far is not None
    sim.set_joints(np.append(low, 0.0))
    for s in np.linspace(0.25, 1, 4):
        sim.step(np.append(low + (far - low) * s, 0.0))
    for _ in range(10):
        sim.step(np.append(far, 0.0))
    position = sim.object_positions[0]
    assert position[2] < 0.025, "it still stands"
    assert np.linalg.norm(position[:2] - (0.55, 0.0)) > 0.02
    for _ in range(5):
        sim.step(np.append(far, 0.0))
    assert np.linalg.norm(sim.object_positions[0] - position) < 0.003


def test_what_is_left_alone_stays(simulation: ArmSimulation) -> None:
    """Also what lies on something else or touches something."""
    for seed in range(12):
        simulation.reset(seed, joints=HOME)
        before = simulation.object_positions
        for _ in range(5):
            simulation.step(HOME)
        if not simulation.touched.any():
            np.testing.assert_allclose(simulation.object_positions, before, atol=0.004)


def test_nothing_is_shot_off() -> None:
    """In commands of all kinds nothing goes higher or moves farther than an arm can carry or push it."""
    sim = robots.of(ARM).simulate(width=32, height=32)
    try:
        for seed in range(12):
            script = sim.begin_episode(seed, np.random.default_rng(seed), 16, False)
            before = sim.object_positions
            for action in script.actions:
                sim.step(action)
                moved = np.linalg.norm((sim.object_positions - before)[:, :2], axis=1)
                before = sim.object_positions
                assert np.all(moved < 0.6), "3 m/s"
                assert np.all(before[:, 2] < 0.6)
                assert np.isfinite(sim.object_poses).all()
    finally:
        sim.close()


def test_things_fall_over_the_edge(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = bench(thing("box", (0.025,) * 3, x=0.62, matter=matter()))
    scene = replace(bare.scene, table_upper=(0.61, 1.45))
    monkeypatch.setattr(arm_simulation, "sample_scene", lambda *_: scene)
    with ArmSimulation(embodiment=ARM, randomise=False) as sim:
        for _ in range(6):
            sim.step(HOME)
        assert sim.object_positions[0, 2] == pytest.approx(-0.695, abs=0.02)


def test_ood_scenes() -> None:
    robot = robots.of(ARM)
    scenes = robot.ood_scenes(32, 24)
    try:
        frames = {kind: scenes.frames(kind, 3, 2) for kind in robot.ood_kinds}
    finally:
        scenes.close()
    for kind, seen in frames.items():
        assert seen.rgb.shape == (2, 24, 32, 3)
        same = np.array_equal(seen.camera_to_world, frames["ordinary"].camera_to_world)
        assert same == (kind != "other_view")
        if kind != "ordinary":
            assert np.mean(seen.rgb != frames["ordinary"].rgb) > 0.03
    assert frames["other_view"].camera_to_world[0, 3] < 0.54, "from beside or behind the arm"
