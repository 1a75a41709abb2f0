"""Fingers stop at what is between them."""

import pytest
import torch
from torch import Tensor

from deepverse_ros.model.things.body import Parts
from deepverse_ros.model.things.chain import Chain
from deepverse_ros.model.things.grip import Grip
from deepverse_ros.model.things.slots import MOST, SURFACE, Slots, nothing
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
HOME = torch.tensor(ARM.home)
STEPS = 6
OPEN, STROKE = 1.0, 0.038
CLOSING = torch.tensor([0.67, 0.33, 0.0, 0.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def chain() -> Chain:
    assert ARM.body is not None
    return Chain(ARM, ARM.body)


@pytest.fixture(scope="module")
def grip() -> Grip:
    return Grip(ARM)


def hand(chain: Chain, opening: float = OPEN) -> tuple[Tensor, Tensor, float]:
    """Between the fingers at home, the way one of them goes when it opens, and how far its capsule is from there."""
    state = HOME.clone()
    state[7] = opening
    parts = chain.parts(state[None])[0]
    middle = (parts.start + parts.end)[-2:].mean(0) / 2
    return middle, parts.rotation[-2, :, 1], float((parts.start[-2] - middle).norm())


def ball(at: Tensor, radius: float) -> Slots:
    """One thing."""
    torch.manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(SURFACE // 2, 3), dim=-1)
    points[0] = torch.tensor([0.0, 1.0, 0.0])
    surface = radius * torch.stack([points, -points], 1).flatten(0, 1)
    slots = nothing(1, 8, 8)
    slots.there[0, 0] = slots.seen[0, 0] = True
    slots.position[0, 0], slots.surface[0, 0] = at, surface
    return slots


def closed(grip: Grip, chain: Chain, slots: Slots, told: Tensor, begin: float = OPEN) -> tuple[Tensor, Parts, Parts]:
    """Openings (H,) of a hand at home that is told so, and the body before and after."""
    state = HOME.clone()
    state[7] = begin
    joints = HOME.repeat(1, len(told), 1)
    joints[..., 7] = told
    parts = chain.parts(torch.cat([state[None, None], joints], 1))
    out, after = grip.close(state[None], joints, parts, slots)
    assert torch.equal(out[..., :7], joints[..., :7])
    return out[0, :, 7], parts, after


def test_a_hand_closes_until_it_has_what_is_between_its_fingers(grip: Grip, chain: Chain) -> None:
    middle, across, _ = hand(chain)
    thin, wide = (closed(grip, chain, ball(middle, r), CLOSING)[0] for r in (0.012, 0.025))
    assert thin[0] == pytest.approx(0.67)  # the way there is free
    assert 0.1 < float(thin[-1]) < float(wide[-1]) < 0.8
    assert float((wide[-1] - thin[-1]) * STROKE) == pytest.approx(0.013, abs=0.004)
    assert torch.equal(wide[2:], wide[2:3].expand(STEPS - 2))
    # What lies to one side comes to the middle.
    aside = closed(grip, chain, ball(middle + 0.008 * across, 0.025), CLOSING)[0]
    assert float(aside[-1]) == pytest.approx(float(wide[-1]), abs=0.05)


def test_what_is_not_between_the_fingers_stops_nothing(grip: Grip, chain: Chain) -> None:
    middle, across, far = hand(chain)
    for at in (middle + (far + 0.06) * across, middle + torch.tensor([0.0, 0.0, 0.5])):
        assert torch.equal(closed(grip, chain, ball(at, 0.02), CLOSING)[0], CLOSING)
    too_wide = closed(grip, chain, ball(middle, 0.07), CLOSING)[0]  # it was never between them
    assert torch.equal(too_wide, CLOSING)
    assert torch.equal(closed(grip, chain, nothing(1, 8, 8), CLOSING)[0], CLOSING)


def test_a_hand_that_holds_something_goes_on_holding_it_and_lets_go_when_it_opens(grip: Grip, chain: Chain) -> None:
    middle, _, _ = hand(chain)
    held = float(closed(grip, chain, ball(middle, 0.02), CLOSING)[0][-1])
    told = torch.tensor([0.0, 0.0, 0.3, 0.9, 0.5, 0.5])
    out = closed(grip, chain, ball(middle, 0.02), told, begin=held)[0]
    assert out[:3].tolist() == pytest.approx([held] * 3)
    assert float(out[3]) == pytest.approx(0.9)
    assert float(out[4]) == pytest.approx(max(0.5, held))


def test_the_fingers_are_where_the_hand_stops(grip: Grip, chain: Chain) -> None:
    middle, _, _ = hand(chain)
    opening, before, after = closed(grip, chain, ball(middle, 0.025), CLOSING)
    states = HOME.repeat(STEPS, 1)
    states[:, 7] = opening
    expected = chain.parts(states)
    for name in ("start", "end", "origin", "rotation"):
        torch.testing.assert_close(getattr(after, name)[0, 1:], getattr(expected, name), atol=1e-5, rtol=0)
        assert torch.equal(getattr(after, name)[0, 0], getattr(before, name)[0, 0])


def test_each_plan_has_its_own_hand_and_each_belief_its_own_things(grip: Grip, chain: Chain) -> None:
    middle, _, _ = hand(chain)
    one, two = ball(middle, 0.012), ball(middle, 0.025)
    both = Slots(**{name: torch.cat([getattr(one, name), getattr(two, name)]) for name in vars(one)})
    state, joints = HOME.repeat(2, 1), HOME.repeat(2, STEPS, 1)
    joints[..., 7] = CLOSING
    parts = chain.parts(torch.cat([state[:, None], joints], 1))
    out = grip.close(state, joints, parts, both)[0][..., 7]
    for row, slots in zip(out, (one, two), strict=True):
        torch.testing.assert_close(row, closed(grip, chain, slots, CLOSING)[0])
    shared = grip.close(state, joints, parts, two)[0][..., 7]
    assert torch.equal(shared[0], shared[1])
    assert both.there.shape == (2, MOST)


def test_of_a_hand_without_two_sliding_fingers_nothing_is_known(chain: Chain) -> None:
    assert ARM.body is not None
    links = [link for link in ARM.body.links if link.name != "finger_1"]
    capsules = [c for c in ARM.body.capsules if c.frame != "finger_1"]
    body = ARM.body.model_copy(update={"links": tuple(links), "capsules": tuple(capsules)})
    one_finger = Grip(ARM.model_copy(update={"body": body}))
    joints = HOME.repeat(1, STEPS, 1)
    joints[..., 7] = CLOSING
    parts = chain.parts(torch.cat([HOME[None, None], joints], 1))
    out, after = one_finger.close(HOME[None], joints, parts, ball(hand(chain)[0], 0.02))
    assert out is joints
    assert after is parts
