"""What is drawn into a scene is varied, in view, large enough, and stands in nothing else."""

from collections import Counter

import mujoco
import numpy as np
import pytest

from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.model import build_xml
from deepverse_ros.simulation.arm.sampling import MOST_THINGS, sample_scene
from deepverse_ros.simulation.arm.scene import Item, Scene

ARM = Embodiment.load("arm")
SEEDS = range(300)
AREA = np.array([(x, y, 0.0) for x in np.linspace(0.35, 0.75, 9) for y in np.linspace(-0.35, 0.35, 15)])


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [sample_scene(np.random.default_rng(seed)) for seed in SEEDS]


def project(scene: Scene, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Places (N, 2) in the picture, 0 to 1 inside; depths (N,); focal length in pixels of a picture of 128 x 128."""
    at = (points - scene.camera_position) @ scene.camera_axes
    focal = 64 / np.tan(np.deg2rad(scene.camera_fovy) / 2)
    return at[:, :2] / at[:, 2:] * focal / 128 + 0.5, at[:, 2], focal


def compiled(scene: Scene) -> "mujoco.MjModel":
    return mujoco.MjModel.from_xml_string(build_xml(ARM, scene, (0.0, 0.0), 0.005, (64, 64)))


def test_five_centimetres_have_eight_pixels_anywhere_on_the_working_area(scenes: list[Scene]) -> None:
    pixels = [np.min(focal * 0.05 / depth) for _, depth, focal in (project(s, AREA) for s in scenes)]
    assert min(pixels) >= 8.0
    assert max(pixels) < 10.0, "nearer than it must be, so that less of the table is seen"


def test_the_working_area_and_the_hand_are_mostly_in_view(scenes: list[Scene]) -> None:
    hand = np.array([(x, y, z) for x in (0.4, 0.55, 0.7) for y in (-0.25, 0.0, 0.25) for z in (0.1, 0.25, 0.4)])
    for points, least, mean in ((AREA, 0.7, 0.85), (hand, 0.6, 0.85)):
        shares = [np.mean(np.all(np.abs(project(s, points)[0] - 0.5) < 0.5, axis=1)) for s in scenes]
        assert min(shares) > least
        assert np.mean(shares) > mean


def test_cameras_stand_where_somebody_would_mount_them(scenes: list[Scene]) -> None:
    places = np.array([s.camera_position for s in scenes]) - (0.54, 0.0, 0.13)
    distance = np.linalg.norm(places, axis=1)
    azimuth = np.rad2deg(np.arctan2(places[:, 1], places[:, 0]))
    elevation = np.rad2deg(np.arcsin(places[:, 2] / distance))
    assert np.all((distance > 1.0) & (distance < 2.1))
    assert np.all(np.abs(azimuth) < 80)
    assert azimuth.min() < -60
    assert azimuth.max() > 60
    assert np.all((elevation > 23) & (elevation < 64))
    assert np.ptp(elevation) > 30
    for s in scenes:
        np.testing.assert_allclose(s.camera_axes.T @ s.camera_axes, np.eye(3), atol=1e-9)
        assert np.linalg.det(s.camera_axes) > 0.99


def test_the_middle_of_every_thing_is_in_view(scenes: list[Scene]) -> None:
    for s in scenes:
        if s.objects:
            places, _, _ = project(s, np.array([item.position for item in s.objects]))
            assert np.all((places > 0.03) & (places < 0.97))


def test_scenes_are_varied(scenes: list[Scene]) -> None:
    counts = Counter(len(s.objects) for s in scenes)
    assert set(counts) == set(range(MOST_THINGS + 1))
    assert {len(s.obstacles) for s in scenes} == {0, 1, 2}
    shapes = Counter((item.shape, bool(item.tilt)) for s in scenes for item in s.objects)
    assert set(shapes) == {("box", False), ("cylinder", False), ("cylinder", True), ("sphere", False), ("tee", False)}
    assert min(shapes.values()) > 20
    fixtures = Counter(len(s.fixtures) for s in scenes)
    assert min(fixtures[0], fixtures[1], fixtures[5]) > 40, "none, a platform, a tray"
    edges = np.mean([s.table_upper[0] < 0.9 or min(s.table_upper[1], -s.table_lower[1]) < 0.5 for s in scenes])
    assert 0.2 < edges < 0.5
    matters = [item.matter for s in scenes for item in s.objects]
    density = np.array([m.density for m in matters if m is not None])
    friction = np.array([m.friction for m in matters if m is not None])
    assert len(density) == len(matters)
    for values, low, high in (
        (density, 200, 1500),
        *zip(friction.T, (0.2, 0.002, 0.0005), (0.6, 0.01, 0.003), strict=True),
    ):
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high
    sizes = np.array([v for s in scenes for item in s.objects for v in item.extents])
    assert 0.014 < sizes.min() < 0.017
    assert 0.045 < sizes.max() <= 0.0501
    heights = np.array([item.position[2] - item.extents[2] for s in scenes for item in s.objects])
    assert np.mean(heights > 0.001) > 0.1, "on trays, platforms and each other"


def test_some_things_touch_and_none_stands_in_another(scenes: list[Scene]) -> None:
    touching = 0
    for s in scenes:
        model = compiled(s)
        data = mujoco.MjData(model)
        data.qpos[:7] = ARM.home[:7]
        mujoco.mj_forward(model, data)
        names = [[model.geom(int(g)).name for g in c.geom] for c in data.contact]
        deep = [c.dist for c, pair in zip(data.contact, names, strict=True) if any("object" in n for n in pair)]
        assert min(deep, default=0.0) > -0.0015, names
        touching += any(
            mujoco.mj_geomDistance(model, data, model.geom(f"object_{i}").id, model.geom(f"object_{j}").id, 1.0, None)
            < 0.001
            for i in range(len(s.objects))
            for j in range(i)
        )
    assert 0.1 < touching / len(scenes) < 0.4


def test_nothing_lies_beyond_the_edge_of_the_table(scenes: list[Scene]) -> None:
    for s in scenes:
        for item in s.objects:
            assert np.all(np.array(item.position[:2]) > s.table_lower)
            assert np.all(np.array(item.position[:2]) < s.table_upper)


@pytest.mark.parametrize(("objects", "obstacles"), [(0, 0), (1, 2), (6, 1), (8, 4)])
def test_a_given_number_is_kept(objects: int, obstacles: int) -> None:
    for seed in range(20):
        s = sample_scene(np.random.default_rng(seed), objects, obstacles)
        assert (len(s.objects), len(s.obstacles)) == (objects, obstacles)


def test_a_table_with_no_room_is_named() -> None:
    with pytest.raises(RuntimeError, match="the table has room for"):
        sample_scene(np.random.default_rng(0), 300, 0)


def test_the_arm_stands_on_the_table_wherever_it_stands() -> None:
    for seed in range(100):
        rng = np.random.default_rng([seed, 1])
        offset = tuple(rng.uniform(-1, 1, 2) * (0.15, 0.40))
        s = sample_scene(np.random.default_rng(seed), base_offset=offset)
        assert np.all(np.array(offset) + 0.15 < s.table_upper)
        assert np.all(np.array(offset) - 0.15 > s.table_lower)
        assert all(np.linalg.norm(np.subtract(item.position[:2], offset)) > 0.28 for item in s.objects)


def test_without_randomising_only_what_lies_on_the_table_differs() -> None:
    a, b = (sample_scene(np.random.default_rng(seed), 3, 1, randomise=False) for seed in (1, 2))
    for name in ("table_rgb", "floor_rgb", "wall_rgb", "light_position", "light", "ambient", "camera_fovy"):
        assert getattr(a, name) == getattr(b, name)
    np.testing.assert_array_equal(a.camera_position, b.camera_position)
    assert a.objects != b.objects


def test_a_scene_follows_from_its_seed() -> None:
    first, again, other = (build_xml(ARM, s, (0.0, 0.0), 0.005, (64, 64)) for s in map(seeded, (5, 5, 6)))
    assert first == again != other


def seeded(seed: int) -> Scene:
    return sample_scene(np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("item", "extents", "footprint"),
    [
        (Item("sphere", (0.03,), (0, 0, 0), 0.4, (0, 0, 0)), (0.03, 0.03, 0.03), 0.03),
        (Item("cylinder", (0.02, 0.05), (0, 0, 0), 0.4, (0, 0, 0)), (0.02, 0.02, 0.05), 0.02),
        (Item("cylinder", (0.03, 0.04), (0, 0, 0), 0.4, (0, 0, 0), np.pi / 2), (0.03, 0.04, 0.03), 0.05),
        (Item("tee", (0.03, 0.04, 0.015, 0.01), (0, 0, 0), 0.4, (0, 0, 0)), (0.03, 0.04, 0.015), 0.05),
    ],
)
def test_what_a_thing_takes_up_is_around_its_middle(
    item: Item, extents: tuple[float, float, float], footprint: float
) -> None:
    """Compared with the corners of the geoms that MuJoCo makes of it."""
    assert item.extents == pytest.approx(extents)
    assert item.footprint == pytest.approx(footprint)
    still = Item(item.shape, item.size, (0.0, 0.0, 1.0), 0.0, item.rgb, item.tilt)
    scene = Scene(
        (still,), (), (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 2), 1.0, 1.0, np.array([2.0, 0.0, 1.0]),
        np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]), 40.0,
    )  # fmt: skip
    model = compiled(scene)
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    lower, upper = np.full(3, np.inf), np.full(3, -np.inf)
    for geom in np.flatnonzero(model.geom_bodyid == model.body("object_0").id):
        half = np.abs(data.geom_xmat[geom].reshape(3, 3)) @ model.geom_aabb[geom, 3:]
        lower = np.minimum(lower, data.geom_xpos[geom] - half)
        upper = np.maximum(upper, data.geom_xpos[geom] + half)
    np.testing.assert_allclose(lower, np.array([0, 0, 1.0]) - extents, atol=1e-6)
    np.testing.assert_allclose(upper, np.array([0, 0, 1.0]) + extents, atol=1e-6)
