"""A collection depends on its seed alone, continues where it stopped and leaves nothing half done."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest

from deepverse_ros.data.collect import EpisodeGenerator, collect, scene_seed
from deepverse_ros.data.store import EpisodeStore
from deepverse_ros.errors import EmbodimentError
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.handling import BY_CHANCE, SHARES
from deepverse_ros.simulation.arm.motions import AWAY_FRAMES, REVISIT, REVISIT_FRAMES

SIZE = (48, 32)


@pytest.fixture(scope="module")
def arm():
    return Embodiment.load("arm")


@pytest.fixture(scope="module")
def collection(arm, tmp_path_factory):
    """Six short episodes by two workers, and the calls of their progress function."""
    calls = []
    store = collect(
        arm, 6, 17, tmp_path_factory.mktemp("two"), workers=2, frames=5, size=SIZE,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    return store, calls


def test_an_episode_depends_on_seed_and_index_alone(arm, collection):
    """Another process, another order, alone: the same bytes."""
    store, _ = collection
    generator = EpisodeGenerator(arm, SIZE)
    try:
        for index in (4, 1):
            again, stored = generator.record(17, index, 5), store.read(index)
            assert again.kind == stored.kind
            np.testing.assert_array_equal(again.rgb, stored.rgb)
            np.testing.assert_array_equal(again.depth, stored.depth)
            np.testing.assert_array_equal(again.actions, stored.actions)
            for name, values in stored.state.items():
                np.testing.assert_array_equal(again.state[name], values)
        assert np.any(generator.record(18, 1, 5).rgb != store.read(1).rgb)
    finally:
        generator.close()


def test_progress_counts_every_episode(collection):
    _, calls = collection
    assert calls == [(k, 6) for k in range(7)]


def test_episodes_hold_what_the_model_learns_from(arm, collection):
    store, _ = collection
    for episode in store:
        assert episode.rgb.shape == (5, SIZE[1], SIZE[0], 3)
        assert episode.dt == arm.dt
        assert episode.depth.min() > 400
        assert episode.depth.max() < 6000
        assert np.abs(np.diff(episode.actions, axis=0)).max(0).max() > 0
        assert set(episode.state) == {
            "joint_positions", "gripper_state", "tool_position", "clearance", "object_positions", "object_poses",
            "object_touched", "base_position",
        }  # fmt: skip


def test_episodes_say_what_is_seen_and_where_things_are(arm, tmp_path):
    store = collect(arm, 6, 3, tmp_path, workers=1, frames=4, size=SIZE)
    counts = set()
    for episode in store:
        count = episode.state["object_touched"].shape[1]
        counts.add(count)
        assert episode.state["object_positions"].shape == (4, 3 * count)
        poses = episode.state["object_poses"].reshape(4, count, 7)
        np.testing.assert_array_equal(poses[..., :3].reshape(4, -1), episode.state["object_positions"])
        assert not episode.state["object_touched"][0].any()
        assert episode.state["base_position"].shape == (4, 3)
        assert episode.segmentation.shape == episode.depth.shape
        assert episode.segmentation.max() < 2 + count
    assert len(counts) > 1, "the number of things is drawn"
    generator = EpisodeGenerator(arm, SIZE)
    try:
        again = generator.record(3, 4, 4)
    finally:
        generator.close()
    np.testing.assert_array_equal(again.segmentation, store.read(4).segmentation)
    np.testing.assert_array_equal(again.rgb, store.read(4).rgb)
    assert len({store.read(k).intrinsics[0, 0] for k in range(6)}) == 6


def test_actions_lead_from_a_frame_to_the_next(arm):
    """The joints at frame t+1 are those of actions[t] wherever the arm is free."""
    generator = EpisodeGenerator(arm, (16, 16))
    try:
        ahead, same = [], []
        for index in range(6):
            episode = generator.record(5, index, 12)
            free = episode.state["clearance"][1:, 0] > 0.02
            joints = episode.state["joint_positions"]
            ahead.append(np.abs(joints[1:] - episode.actions[:-1, :7]).max(1)[free])
            same.append(np.abs(joints[:-1] - episode.actions[:-1, :7]).max(1)[free])
        assert np.quantile(np.concatenate(ahead), 0.9) < 0.02
        assert np.mean(np.concatenate(same)) > 0.05
    finally:
        generator.close()


def test_kinds_are_mixed_and_some_arms_stand_elsewhere(arm):
    generator = EpisodeGenerator(arm, (8, 8))
    try:
        kinds, shifted = Counter(), 0
        for index in range(60):
            episode = generator.record(2, index, 2)
            kinds[episode.kind] += 1
            shifted += bool(np.any(generator._simulation.base_position != 0))
    finally:
        generator.close()
    assert set(kinds) <= set(SHARES)
    assert len(kinds) >= len(SHARES) - 2, "the rarest may be missing in so few"
    assert sum(kinds[kind] for kind in BY_CHANCE) < 30, "more than half seek contact"
    assert 1 <= shifted <= 20


def test_a_seed_keeps_its_episodes(arm):
    """Data that was collected once can be collected again, also after other kinds of episodes came along."""
    known = [("miss", 0.099), ("push", 0.241), ("two", -0.602), ("hold", -0.013), ("two", 0.177), ("past", 0.150),
             ("two", 0.149), ("random", -0.644)]  # fmt: skip
    generator = EpisodeGenerator(arm, (32, 32))
    try:
        for index, (kind, base_joint) in enumerate(known):
            episode = generator.record(2, index, 12)
            assert episode.kind == kind
            assert episode.actions[-1, 0] == pytest.approx(base_joint, abs=0.002)
    finally:
        generator.close()


def test_what_a_revisit_uncovers_was_last_seen_before_the_window(arm):
    """Where the arm hid something, no frame of a whole window shows what is there in the end, but the first ones do.

    That is an object in nearly every episode that has one.
    """
    window, hidden = 12, 0
    generator = EpisodeGenerator(arm, (64, 64))
    try:
        for index in range(6):
            episode = generator.record(11, index, REVISIT_FRAMES, revisit=True)
            assert episode.kind == REVISIT
            if not episode.state["object_touched"].shape[1]:
                continue  # with nothing to stand before, the arm only turns away
            rgb, depth = episode.rgb.astype(int), episode.depth.astype(int)
            turned = np.abs(episode.state["joint_positions"][:, 0] - episode.state["joint_positions"][0, 0])
            still = np.flatnonzero(turned > turned.max() - 0.01)
            last = still[-1]
            assert len(still) >= AWAY_FRAMES > window
            uncovered = (depth[-1] - depth[last] > 100) & (np.abs(rgb[-1] - rgb[last]).max(-1) > 12)
            assert uncovered.sum() > 30
            for frame in rgb[last - window + 1 : last + 1]:
                assert np.mean(np.abs(frame - rgb[-1]).max(-1)[uncovered] > 12) > 0.9
            # Seen before it went, but for a few pixels where the fingers stood then.
            assert np.mean(np.abs(rgb[:4] - rgb[-1]).max(-1)[:, uncovered] <= 12) > 0.97
            hidden += any(hides(episode, last, place) for place in episode.state["object_positions"][0].reshape(-1, 3))
    finally:
        generator.close()
    assert hidden >= 4


def hides(episode, time, place):
    """Whether something stands before a place (3,) of the world at a frame, and nothing in the first."""
    x, y, z = (place - episode.camera_to_world[0, :3, 3]) @ episode.camera_to_world[0, :3, :3]
    (fx, _, cx), (_, fy, cy), _ = episode.intrinsics
    u, v = round(fx * x / z + cx), round(fy * y / z + cy)
    return episode.depth[time, v, u] / 1000 < z - 0.1 <= episode.depth[0, v, u] / 1000


def test_a_collection_of_revisits_is_not_mistaken_for_another(arm, tmp_path):
    size = (16, 16)
    store = collect(arm, 1, 3, tmp_path, workers=1, frames=REVISIT_FRAMES, size=size, revisit=True)
    pictures = store.read(0).rgb
    assert store.read(0).kind == REVISIT
    before = store.path(0).stat().st_mtime_ns
    collect(arm, 1, 3, tmp_path, workers=1, frames=REVISIT_FRAMES, size=size, revisit=True)
    assert store.path(0).stat().st_mtime_ns == before
    collect(arm, 1, 3, tmp_path, workers=1, frames=REVISIT_FRAMES, size=size)
    assert store.read(0).kind != REVISIT
    collect(arm, 1, 3, tmp_path, workers=1, frames=REVISIT_FRAMES, size=size, revisit=True)
    np.testing.assert_array_equal(store.read(0).rgb, pictures)
    with pytest.raises(ValueError, match=f"at least {REVISIT_FRAMES}"):
        collect(arm, 1, 3, tmp_path, frames=REVISIT_FRAMES - 1, revisit=True)


def test_a_collection_continues_and_mends(arm, tmp_path):
    store = collect(arm, 3, 1, tmp_path, workers=1, frames=3, size=SIZE)
    first = {p.name: p.stat().st_mtime_ns for p in store.paths()}
    pictures = store.read(1).rgb
    os.truncate(store.path(1), 500)
    (tmp_path / ".episode_000009.h5.1.tmp").write_bytes(b"left by a killed writer")
    collect(arm, 4, 1, tmp_path, workers=2, frames=3, size=SIZE)
    second = {p.name: p.stat().st_mtime_ns for p in store.paths()}
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"episode_00000{k}.h5" for k in range(4)]
    assert [first[n] == second[n] for n in sorted(first)] == [True, False, True]
    np.testing.assert_array_equal(store.read(1).rgb, pictures)


def test_a_good_collection_is_not_touched(arm, tmp_path):
    collect(arm, 1, 1, tmp_path, workers=1, frames=2, size=SIZE)
    before = EpisodeStore(tmp_path).path(0).stat().st_mtime_ns
    calls = []
    collect(arm, 1, 1, tmp_path, workers=1, frames=2, size=SIZE, progress=lambda *a: calls.append(a))
    assert EpisodeStore(tmp_path).path(0).stat().st_mtime_ns == before
    assert calls == [(1, 1)]


def test_episodes_of_another_seed_or_length_are_replaced(arm, tmp_path):
    collect(arm, 1, 1, tmp_path, workers=1, frames=2, size=SIZE)
    store = collect(arm, 1, 2, tmp_path, workers=1, frames=3, size=SIZE)
    assert store.read(0).seed == scene_seed(2, 0)
    assert len(store.read(0)) == 3


def test_ctrl_c_ends_every_process_and_leaves_only_whole_episodes(tmp_path):
    """A real interrupt in the middle, given to the whole process group as a terminal does."""
    code = (
        "from deepverse_ros.data.collect import collect\n"
        "from deepverse_ros.robot.embodiment import Embodiment\n"
        "if __name__ == '__main__':\n"
        f"    collect(Embodiment.load('arm'), 5000, 3, {str(tmp_path)!r}, workers=2, frames=4, size=(32, 32))\n"
    )
    script = tmp_path.with_suffix(".py")
    script.write_text(code)
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True, stderr=subprocess.PIPE, text=True)
    store = EpisodeStore(tmp_path)
    deadline = time.monotonic() + 90
    while len(store) < 3 and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    deadline = time.monotonic() + 10
    while group_is_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not group_is_alive(process.pid)
    assert 3 <= len(store) < 5000
    assert sum(1 for _ in store) == len(store)
    assert store.skipped == []
    store.clean()
    assert [p for p in tmp_path.iterdir() if not p.name.endswith(".h5")] == []


def group_is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"frames": 0}, {"size": (0, 4)}])
def test_counts_below_one_are_refused(arm, tmp_path, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        collect(arm, 1, 0, tmp_path, **({"workers": 1, "frames": 1} | wrong))


def test_a_robot_without_a_simulation_is_named(arm, tmp_path):
    with pytest.raises(EmbodimentError, match="'crane'"):
        collect(arm.model_copy(update={"name": "crane"}), 1, 0, tmp_path)


def test_a_share_of_episodes_begins_anywhere_in_sight_and_the_others_stay_as_they_are(arm):
    generator = EpisodeGenerator(arm, SIZE)
    heights, seen, free = [], [], []
    try:
        for index in range(16):
            before, after = generator.record(5, index, 2), generator.record(5, index, 2, free=0.6)
            free.append(not np.array_equal(before.actions, after.actions))
            if not free[-1]:
                np.testing.assert_array_equal(before.rgb, after.rgb)
                continue
            np.testing.assert_array_equal(before.intrinsics, after.intrinsics)  # the same scene
            assert after.kind in BY_CHANCE
            tool = after.state["tool_position"][0]
            heights.append(tool[2])
            x, y, z = (tool - after.camera_to_world[0, :3, 3]) @ after.camera_to_world[0, :3, :3]
            pixel = after.intrinsics[:2, :2] @ (x / z, y / z) + after.intrinsics[:2, 2]
            seen.append(bool((np.abs(pixel - (23.5, 15.5)) <= (24, 16)).all()))
    finally:
        generator.close()
    assert 6 <= sum(free) <= 13
    assert np.mean(seen) > 0.7
    assert max(heights) > 0.3
