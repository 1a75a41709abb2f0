"""The contact dynamics learns from practice: in a toy world, where the robot pushes balls out of its way."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from deepverse_ros.data.practice import Practice, looks
from deepverse_ros.model.config import ThingsConfig
from deepverse_ros.model.things.chain import Chain
from deepverse_ros.model.things.contact import Contacts
from deepverse_ros.model.things.ground import COLUMNS, ROWS
from deepverse_ros.model.things.slots import MOST, SURFACE
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.training.batches.practice import PracticeWindows, rotation_from_quaternion
from deepverse_ros.training.config import ContactStageConfig
from deepverse_ros.training.engine.draw import Draw
from deepverse_ros.training.stages.contact import ContactStage

ARM = Embodiment.load("arm")
assert ARM.body is not None
CHAIN = Chain(ARM, ARM.body)
CPU = torch.device("cpu")
LOW = np.array([0.0, 1.0, 0.0, -1.5, 0.0, 0.65, 0.0, 0.6])
FRAMES, RADIUS = 24, 0.03


def toy(episodes: int, seed: int) -> Practice:
    """The arm swings over a table on which a ball lies in its way and another one elsewhere; no friction, no bounce."""
    rng = np.random.default_rng(seed)
    states = np.tile(LOW, (episodes, FRAMES, 1))
    states[..., 0] += rng.uniform(-1, 1, (episodes, 1)) + np.arange(FRAMES) * rng.uniform(-0.1, 0.1, (episodes, 1))
    parts = CHAIN.parts(torch.from_numpy(states).float())
    start, end, radius = parts.start.numpy(), parts.end.numpy(), parts.radius.numpy()
    place = np.full((episodes, FRAMES, MOST, 3), np.nan)
    touched = np.zeros((episodes, FRAMES, MOST), np.uint8)
    middle = states[:, :1, 0] + (states[:, -1:, 0] - states[:, :1, 0]) * rng.uniform(0.2, 0.8, (episodes, 1))
    place[:, 0, 0] = np.stack([0.6 * np.cos(middle), 0.6 * np.sin(middle), np.full_like(middle, 0.05)], -1)[:, 0]
    place[:, 0, 1] = place[:, 0, 0] * np.array([-0.5, -0.5, 1.0])
    for t in range(1, FRAMES):
        place[:, t] = place[:, t - 1]
        for _ in range(3):
            axis = end[:, t] - start[:, t]
            offset = place[:, t, 0, None] - start[:, t]
            share = ((offset * axis).sum(-1) / ((axis**2).sum(-1) + 1e-9)).clip(0, 1)
            offset -= share[..., None] * axis
            distance = np.linalg.norm(offset, axis=-1)
            k = (distance - radius).argmin(1)
            rows = np.arange(episodes)
            deep = (RADIUS + radius[k] - distance[rows, k]).clip(0)
            flat = offset[rows, k] * np.array([1, 1, 0])
            place[:, t, 0] += deep[:, None] * flat / np.linalg.norm(flat, axis=-1, keepdims=True)
            touched[:, t, 0] |= deep > 0
    ball = torch.nn.functional.normalize(torch.randn(SURFACE // 2, 3, generator=torch.Generator().manual_seed(0)))
    ball = RADIUS * torch.stack([ball, -ball], 1).flatten(0, 1).numpy()
    count = len(looks(FRAMES))
    there = np.isfinite(place[..., :1])
    return Practice(
        commanded=states.astype(np.float32),
        measured=states.astype(np.float32),
        poses=np.concatenate([place, np.where(there, [0.0, 0.0, 0.0, 1.0], np.nan)], -1).astype(np.float32),
        touched=touched,
        surface=np.broadcast_to(ball, (episodes, count, MOST, SURFACE, 3)).astype(np.float16),
        pixels=np.where(there[:, :count, :, 0], 100, 0).astype(np.uint16),
        ground=np.zeros((episodes, count, ROWS, COLUMNS), np.float16),
    )


@pytest.fixture(scope="module")
def windows() -> PracticeWindows:
    return PracticeWindows(toy(40, 0), ARM, CPU)


def stage(windows: PracticeWindows, held_out: PracticeWindows, batch: int = 16) -> ContactStage:
    torch.manual_seed(0)
    config = ContactStageConfig(steps=100, batch=batch, learning_rate=1e-3)
    return ContactStage(Contacts(ThingsConfig(), ARM), config, windows, held_out)


def test_a_push_is_learned_in_a_few_hundred_steps_on_either_level(windows: PracticeWindows) -> None:
    learning = stage(windows, PracticeWindows(toy(20, 1), ARM, CPU))
    optimizer = torch.optim.AdamW(learning.module.parameters(), 2e-3)
    for step in range(300):
        loss = learning.loss(step, Draw.of_step(0, step))["total"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning.module.parameters(), 1.0)
        optimizer.step()
    scores = learning.validate()
    assert scores["persistence_median_cm"] > 5
    for level in ("", "coarse_"):
        assert scores[f"{level}went_median_cm"] < 0.65 * scores["persistence_median_cm"]
        assert scores[f"{level}stayed_mean_cm"] < 2
        assert scores[f"{level}touched_recall"] > 0.7
        assert scores[f"{level}touched_precision"] > 0.7


def test_what_one_level_learns_leaves_the_other_alone(windows: PracticeWindows) -> None:
    learning = stage(windows, windows)
    learning.loss(0, Draw.of_step(0, 0))["total"].backward()
    assert all(p.grad is None for p in learning.module.fine.parameters())
    assert any(p.grad is not None for p in learning.module.coarse.parameters())


def test_parts_of_a_batch_are_the_batch(windows: PracticeWindows) -> None:
    whole = windows.drawn(8, Draw.of_step(3, 5))
    halves = [windows.drawn(8, Draw.of_step(3, 5, part, 2)) for part in (0, 1)]
    for name in ("position", "rotation", "touched"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(half, name) for half in halves]))
    assert torch.equal(whole.slots.last, torch.cat([half.slots.last for half in halves]))


def test_windows_in_which_something_moves_are_drawn_more_often(windows: PracticeWindows) -> None:
    share = len(windows.moving) / len(windows.every)
    window = windows.drawn(400, Draw.of_step(0, 0))
    moved = ((window.position[:, -1] - window.start).norm(dim=-1) > 0.03).any(1).float().mean()
    assert 0.05 < share < 0.9
    assert float(moved) > share + 0.3 * (1 - share)


def test_windows_in_which_something_falls_or_tips_over_are_drawn_more_often_yet() -> None:
    practice = toy(40, 0)
    poses = practice.poses.copy()
    # Of a few episodes: the ball falls a little, and in others it tips over, while it is pushed.
    sunk = np.linspace(0, 0.06, FRAMES)
    poses[:3, :, 0, 2] -= sunk
    half = np.linspace(0, np.pi / 4, FRAMES)
    poses[3:6, :, 0, 3], poses[3:6, :, 0, 6] = np.sin(half), np.cos(half)
    windows = PracticeWindows(replace(practice, poses=poses), ARM, CPU)
    tumbling = {tuple(row) for row in windows.tumbling.tolist()}
    assert tumbling
    assert tumbling <= {tuple(row) for row in windows.moving.tolist()}
    assert {episode for episode, _ in tumbling} <= set(range(6))
    assert {episode // 3 for episode, _ in tumbling} == {0, 1}
    window = windows.drawn(400, Draw.of_step(0, 0))
    fell = (window.position[:, -1] - window.start)[..., 2].amin(1) < -0.015
    tipped = window.rotation[:, -1, :, 2, 2].amin(1) < 0.96
    assert float((fell | tipped).float().mean()) > 0.25 > 1.5 * len(tumbling) / len(windows.every)
    assert not len(PracticeWindows(practice, ARM, CPU).tumbling)


def test_a_turned_world_is_the_same_world(windows: PracticeWindows) -> None:
    """Distances between robot and things, and heights over the ground, are those of the window as it was recorded."""
    practice = windows._practice
    ground = np.random.default_rng(0).uniform(0, 0.1, practice.ground.shape).astype(np.float16)
    uneven = PracticeWindows(replace(practice, ground=ground), ARM, CPU)
    index = windows.every[:12]
    plain = uneven.window(index, torch.zeros(12, 2, MOST, 6), torch.ones(12, MOST, dtype=torch.bool))
    turned = uneven._turned(plain, torch.linspace(0, 1, 12), torch.arange(12) % 2 == 0)
    assert not torch.allclose(plain.position, turned.position, atol=0.1)
    which = torch.arange(12)[:, None]
    for name in ("start", "end", "origin"):
        apart = [(getattr(w.parts, name)[:, :1] - w.slots.position[:, None, :1]).norm(dim=-1) for w in (plain, turned)]
        assert torch.allclose(*apart, atol=1e-5)
    heights = [w.ground.under(w.slots.position[..., 0], w.slots.position[..., 1], which) for w in (plain, turned)]
    assert float((heights[0] != heights[1]).float().mean()) < 0.02  # at the border of a cell
    local = [
        (w.parts.rotation[:, 0].mT @ (w.slots.position[:, None, 0] - w.parts.origin[:, 0])[..., None])
        for w in (plain, turned)
    ]
    assert torch.allclose(*local, atol=1e-5)


def test_a_surface_that_is_seen_stays_where_it_is_when_its_middle_is_taken_wrongly(windows: PracticeWindows) -> None:
    index = windows.every[:4]
    turns = torch.ones(4, MOST, dtype=torch.bool)
    exact, noisy = (windows.window(index, noise, turns).slots for noise in
                    (torch.zeros(4, 2, MOST, 6), torch.randn(4, 2, MOST, 6)))  # fmt: skip
    assert float((exact.position - noisy.position).norm(dim=-1)[:, 0].min()) > 1e-4
    seen = [s.position[:, :1, None] + s.surface[:, :1, ::2] for s in (exact, noisy)]
    assert torch.allclose(*seen, atol=1e-6)
    assert torch.allclose(noisy.surface[:, :, 1::2], -noisy.surface[:, :, ::2], atol=1e-4)


def test_quaternions_turn_as_they_say() -> None:
    turned = rotation_from_quaternion(torch.tensor([0.0, 0.0, 2.0, 2.0]))
    assert torch.allclose(turned @ torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)
