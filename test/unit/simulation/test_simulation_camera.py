"""The simulated camera sees the arm, and its pictures agree with the geometry."""

import os
import subprocess
import sys

import numpy as np
import pytest

from deepverse_ros.simulation import backend
from deepverse_ros.simulation.arm.simulation import ArmSimulation, intrinsics
from deepverse_ros.simulation.backend import BACKEND, RenderingError, choose_backend


@pytest.fixture(scope="module")
def simulation():
    with ArmSimulation(seed=0) as sim:
        yield sim


def project(simulation, points, width=128, height=128):
    """(N, 2) pixels and (N,) depths by the published intrinsics and camera pose, independent of the renderer."""
    world_to_camera = np.linalg.inv(simulation.camera_to_world)
    inside = points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    pixels = inside @ intrinsics(width, height, simulation.scene.camera_fovy).T
    return pixels[:, :2] / pixels[:, 2:], inside[:, 2]


def test_everything_in_sight_lies_in_the_depth_range_that_the_model_covers(simulation):
    camera = simulation.embodiment.camera
    for seed in range(10):
        simulation.reset(seed)
        depth = simulation.render()[1]
        assert camera.near < depth.min()
        assert depth.max() < camera.far


def test_depth_unprojects_to_the_table(simulation):
    for seed in range(4):
        simulation.reset(seed)
        for width, height in ((128, 128), (320, 240)):
            _, depth = simulation.render(width, height)
            v, u = np.mgrid[:height, :width]
            rays = (
                np.stack([u, v, np.ones_like(u)], -1)
                @ np.linalg.inv(intrinsics(width, height, simulation.scene.camera_fovy)).T
            )
            points = rays * depth[..., None] @ simulation.camera_to_world[:3, :3].T + simulation.camera_to_world[:3, 3]
            assert np.mean(np.abs(points[..., 2]) < 0.001) > 0.2


def test_the_gripper_is_where_the_tool_projects_to(simulation):
    """Closed fingers seen from the side: the depth at the tool's pixel is the finger's, 2 cm before the tool point."""
    seen = 0
    for seed in range(5):
        simulation.reset(seed)
        joints = np.asarray(simulation.embodiment.home)
        joints[7] = 0.0
        simulation.set_joints(joints)
        (pixel,), (depth,) = project(simulation, simulation.tool_position[None], 640, 480)
        u, v = np.rint(pixel).astype(int)
        picture = simulation.render(640, 480)[1]
        if abs(picture[v, u] - depth) < 0.06:
            seen += 1
            assert depth - picture[v, u] > -0.01
    assert seen >= 4, "an obstacle may hide the tool in one scene, not in all"


def test_the_arm_changes_its_pixels_and_little_else(simulation):
    simulation.reset(0, joints=np.asarray(simulation.embodiment.home))
    before = simulation.render()[0].astype(int)
    moved = np.asarray(simulation.embodiment.home) + np.array([0.6, 0, 0, 0, 0, 0, 0, 0])
    simulation.set_joints(moved)
    changed = np.abs(simulation.render()[0].astype(int) - before).max(-1) > 12
    assert 0.01 < changed.mean() < 0.15


@pytest.mark.parametrize(("width", "height"), [(64, 64), (128, 128), (256, 256), (320, 240), (640, 480), (800, 600)])
def test_every_size_shows_the_same_scene(simulation, width, height):
    simulation.reset(0)
    rgb, depth = simulation.render(width, height)
    assert rgb.shape == (height, width, 3)
    assert rgb.dtype == np.uint8
    assert depth.shape == (height, width)
    assert depth.dtype == np.float32
    assert np.isfinite(depth).all()
    # Two bare places of the table lie where the intrinsics of this size say, at the depth that they say.
    points = np.array([[0.65, 0.17, 0.0], [0.45, -0.24, 0.0]])
    pixels, depths = project(simulation, points, width, height)
    u, v = np.rint(pixels).astype(int).T
    np.testing.assert_allclose(depth[v, u], depths, atol=0.02)


def test_goal_frame_shows_the_arm_there_and_leaves_the_world_alone(simulation):
    simulation.reset(2)
    for _ in range(2):
        simulation.step(simulation.joints + 0.05)
    before, state, time = simulation.render(), simulation.state(), simulation.time
    joints = np.asarray(simulation.embodiment.home) + np.array([0.4, 0.1, 0, 0.2, 0, 0, 0.3, -0.5])
    rgb, depth, tool = simulation.goal_frame(joints)
    for a, b in zip(before, simulation.render(), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, value in simulation.state().items():
        np.testing.assert_array_equal(value, state[name])
    assert simulation.time == time
    simulation.set_joints(joints)
    np.testing.assert_allclose(simulation.tool_position, tool, atol=1e-6)
    there = simulation.render()
    np.testing.assert_array_equal(there[0], rgb)
    np.testing.assert_array_equal(there[1], depth)


def test_without_randomisation_the_look_is_fixed():
    with ArmSimulation(seed=1, randomise=False) as first, ArmSimulation(seed=2, randomise=False) as second:
        np.testing.assert_array_equal(first.camera_to_world, second.camera_to_world)
        np.testing.assert_array_equal(first.joints, np.asarray(first.embodiment.home))
        assert first.scene.table_rgb == second.scene.table_rgb
        a, b = first.render()[0], second.render()[0]
        assert np.mean(a != b) > 0, "other things stand elsewhere"


def test_a_closed_simulation_says_so(simulation):
    other = ArmSimulation(seed=0)
    assert other.render_backend == BACKEND
    other.close()
    other.close()
    with pytest.raises(RuntimeError, match="closed"):
        other.render()


def run_python(code, **env):
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")} | env
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


_RENDER = """
from deepverse_ros.simulation.arm.simulation import ArmSimulation
with ArmSimulation(seed=0) as sim:
    rgb, depth = sim.render()
    print(sim.render_backend, rgb.std() > 5, round(float(depth.mean()), 2))
"""


def test_a_display_is_not_needed_and_imports_may_come_in_any_order():
    chosen = run_python(_RENDER, DISPLAY="")
    assert chosen.returncode == 0, chosen.stderr
    assert chosen.stdout.split()[0] in ("egl", "osmesa")
    assert chosen.stdout.split()[1] == "True"
    late = run_python("import mujoco\n" + _RENDER, DISPLAY="")
    assert late.stdout == chosen.stdout, late.stderr
    assert "Exception ignored" not in chosen.stderr + late.stderr


def test_what_the_user_chose_is_kept_and_nonsense_is_refused():
    wrong = run_python(_RENDER, MUJOCO_GL="crayons")
    assert wrong.returncode != 0
    assert "expected egl, osmesa or glfw" in wrong.stderr
    kept = run_python(_RENDER, MUJOCO_GL=BACKEND)
    assert kept.stdout.split()[0] == BACKEND


def test_every_backend_of_this_machine_draws_the_same_picture():
    works = {"egl": backend._egl_works, "osmesa": backend._osmesa_works}
    printed = {name: run_python(_RENDER, MUJOCO_GL=name).stdout.split()[1:] for name, test in works.items() if test()}
    assert printed, "a machine that runs this test can render"
    assert all(line == printed[BACKEND] for line in printed.values())


def test_a_machine_that_cannot_render_is_told_what_to_install(monkeypatch):
    def nothing_installed(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr(backend.ctypes, "CDLL", nothing_installed)
    with pytest.raises(RenderingError, match=r"apt-get install libegl1 .* libosmesa6"):
        choose_backend()
