"""How things move with the robot: what holds of every network, trained or not, and what its given motions do."""

from dataclasses import replace

import pytest
import torch
from test_sweep import ARM, CHAIN, moving

from deepverse_ros.model.config import ThingsConfig
from deepverse_ros.model.things import contact as module
from deepverse_ros.model.things.body import Parts
from deepverse_ros.model.things.contact import Contact, Contacts
from deepverse_ros.model.things.detail import COARSE, FINE, Detail
from deepverse_ros.model.things.ground import CELL_SIDE, COLUMNS, ROWS, HeightMap
from deepverse_ros.model.things.slots import SURFACE, Motion, Slots, nothing
from deepverse_ros.model.things.sweep import Sweeps

LOW = torch.tensor([0.0, 1.0, 0.0, -1.5, 0.0, 0.65, 0.0, 0.6], dtype=torch.float32)
"""Joints with the open gripper pointing down, close above the table."""


FREE = ("stay", "go on", "give way", "give way over the ground", "fall")
"""The motions that no part is needed for."""


def network(strength: float = 3.0) -> Contact:
    """An untrained network that moves all that it may."""
    torch.manual_seed(0)
    net = Contact(ThingsConfig(), ARM).eval()
    with torch.no_grad():
        net.out.weight *= strength
    return net


def only(net: Contact, choice: str) -> Contact:
    """A network that always chooses one of the motions that need no learning, and adds nothing."""
    with torch.no_grad():
        net.out.weight.zero_()
        net.out.bias.zero_()
        net.out.bias[8 : 8 + len(FREE)] = -1e4
        if choice != "stick":
            net.out.bias[8 + FREE.index(choice)] = 1e4
    return net


def balls(places: list[list[float]], radius: float = 0.03) -> Slots:
    slots = nothing(1, 8, 8)
    directions = torch.nn.functional.normalize(torch.randn(SURFACE // 2, 3, generator=torch.Generator().manual_seed(1)))
    count = len(places)
    slots.there[:, :count] = slots.seen[:, :count] = True
    slots.position[:, :count] = torch.tensor(places)
    slots.std[:, :count] = 0.004
    slots.surface[:, :count] = radius * torch.stack([directions, -directions], 1).flatten(0, 1)
    return slots


def flat(height: float = 0.0) -> HeightMap:
    return HeightMap(torch.full((1, ROWS, COLUMNS), height))


def swinging(plans: int = 6, steps: int = 4) -> Parts:
    """The arm swings over the table to either side, each plan at a speed of its own."""
    states = LOW.repeat(plans, steps + 1, 1)
    states[..., 0] += torch.arange(steps + 1) * torch.linspace(-0.2, 0.2, plans)[:, None]
    return CHAIN.parts(states)


def at_hand(parts: Parts) -> list[float]:
    """Between the fingers, at the newest frame."""
    fingers = [k for k, c in enumerate(ARM.body.capsules) if c.frame.startswith("finger")]
    return parts.end[0, 0, fingers].mean(0).tolist()


@torch.inference_mode()
def imagine(net: Contact, slots: Slots, parts: Parts, ground: HeightMap | None = None, detail: Detail = FINE) -> Motion:
    return net.imagine(slots, parts, ground or flat(), detail)


def same(a: Motion, b: Motion, atol: float = 1e-5) -> bool:
    return all(torch.allclose(getattr(a, name), getattr(b, name), atol=atol) for name in vars(a))


def test_what_is_held_goes_and_turns_with_the_hand() -> None:
    states = moving(5, 6, seed=3)
    states[..., 7] = 0.3  # the fingers keep their opening
    parts = CHAIN.parts(states)
    hand = next(k for k, c in enumerate(ARM.body.capsules) if c.frame.startswith("finger"))
    for plan in range(5):
        mine = parts[plan : plan + 1]
        motion = imagine(only(network(), "stick"), balls([at_hand(mine)]), mine)
        turn = mine.rotation[:, 1:, hand] @ mine.rotation[:, :1, hand].mT
        local = mine.rotation[0, 0, hand].T @ (torch.tensor(at_hand(mine)) - mine.origin[0, 0, hand])
        place = mine.origin[:, 1:, hand] + mine.rotation[:, 1:, hand] @ local
        assert torch.allclose(motion.position[:, :, 0], place, atol=1e-3)
        assert torch.allclose(motion.rotation[:, :, 0], turn, atol=1e-3)


@pytest.mark.parametrize("choice", ["give way", "give way over the ground"])
def test_what_gives_way_goes_before_the_robot_and_not_into_it(choice: str) -> None:
    parts = swinging()
    beside = at_hand(parts)
    beside[1] += 0.13
    slots = balls([beside])
    gives, stays = (imagine(only(network(), way), slots, parts) for way in (choice, "stay"))
    sweeps = Sweeps.of(parts, [*range(1, parts.start.shape[1])])
    every = torch.arange(len(parts.radius))[:, None].expand(-1, 6)

    def depth(found: Motion, plan: int) -> float:
        points = found.position[:, -1, 0].T[:, None] + slots.surface[0, 0].T[:, :, None]
        return -float(
            sweeps.near(len(sweeps.table) - 1, every, torch.arange(6)).offsets(points)[1][-1, ..., plan].min()
        )

    assert depth(stays, 3) > 0.025
    assert depth(gives, 3) < 0.005
    assert torch.equal(gives.position[0], stays.position[0])  # of the plan that swings away
    fingers = parts.end[5, -1, -2:].mean(0)
    assert float(stays.position[5, -1, 0, 1]) < float(fingers[1]) - 0.2  # a fast hand went through it
    assert float(gives.position[5, -1, 0, 1]) > float(fingers[1]) + 0.02


def test_what_falls_comes_to_lie_on_the_ground_below_it() -> None:
    parts = swinging()
    motion = imagine(only(network(), "fall"), balls([at_hand(parts)], 0.02), parts, flat(-0.05))
    lowest = float(balls([[0, 0, 0]], 0.02).surface[0, 0, :, 2].min())
    assert torch.allclose(motion.position[:, -1, 0, 2] + lowest, torch.tensor(-0.05), atol=2e-3)


def test_things_far_from_the_robot_stay_exactly() -> None:
    parts = swinging()
    far = [-0.2, 0.7, 0.05]
    slots = balls([at_hand(parts), far])
    motion = imagine(network(30.0), slots, parts)
    assert float((motion.position[:, :, 0] - slots.position[0, 0]).norm(dim=-1).max()) > 0.05
    assert torch.equal(motion.position[:, :, 1:], slots.position[:, None, 1:].expand(6, 4, -1, -1))
    assert torch.equal(motion.rotation[:, :, 1], torch.eye(3).expand(6, 4, 3, 3))
    assert torch.equal(motion.std[:, :, 1], torch.full((6, 4), 0.004))
    assert float(motion.touched[:, :, 1:].max()) == 0 < float(motion.touched[:, :, 0].min())


def test_only_things_that_may_move_are_computed_and_nothing_changes_by_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that would leave far things alone says the same of all, whether it is asked about these or not."""
    parts = swinging()
    slots = balls([at_hand(parts), [at_hand(parts)[0], 0.2, 0.05], [-0.2, 0.7, 0.05], [-0.2, -0.7, 0.05]])
    net = only(network(), "give way")
    rows = imagine(net, slots, parts)
    monkeypatch.setattr(module._Things, "live", lambda self, *_: self.there)
    every = imagine(net, slots, parts)
    assert torch.allclose(rows.position, every.position, atol=1e-5)
    assert torch.allclose(rows.rotation, every.rotation, atol=1e-5)


def test_a_plan_is_imagined_as_if_it_were_alone() -> None:
    parts, net = swinging(), network()
    slots = balls([at_hand(parts), [at_hand(parts)[0], 0.15, 0.05], [0.6, -0.2, 0.03]])
    together = imagine(net, slots, parts)
    for plan in range(6):
        assert same(imagine(net, slots, parts[plan : plan + 1]), together[plan : plan + 1])
    each = slots.expand(6)
    assert same(imagine(net, each, parts, HeightMap(flat().heights.expand(6, -1, -1))), together)


def test_the_order_of_slots_does_not_matter() -> None:
    parts, net = swinging(), network()
    places = [at_hand(parts), [at_hand(parts)[0], 0.12, 0.05], [0.6, -0.2, 0.03]]
    forth, back = imagine(net, balls(places), parts), imagine(net, balls(places[::-1]), parts)
    assert torch.allclose(forth.position[:, :, :3].flip(2), back.position[:, :, :3], atol=1e-5)


def test_where_the_world_stands_does_not_matter() -> None:
    """Robot, things and ground together elsewhere: the same happens there."""
    parts, net = swinging(), network()
    heights = torch.rand(1, ROWS, COLUMNS, generator=torch.Generator().manual_seed(0)) * 0.05
    by = torch.tensor([2 * CELL_SIDE, -3 * CELL_SIDE, 0.1])
    slots = balls([at_hand(parts), [at_hand(parts)[0] + 0.013, 0.115, 0.065]])
    elsewhere = replace(slots, position=slots.position + slots.there[..., None] * by)
    here = imagine(net, slots, parts, HeightMap(heights))
    there = imagine(net, elsewhere, parts.shifted(by), HeightMap(heights.roll((2, -3), (1, 2)) + 0.1))
    assert torch.allclose(here.position[:, :, :2] + by, there.position[:, :, :2], atol=1e-4)
    assert torch.allclose(here.rotation, there.rotation, atol=1e-4)
    moved_alone = imagine(net, elsewhere, parts, HeightMap(heights))
    assert not torch.allclose(here.position[:, :, :2] + by, moved_alone.position[:, :, :2], atol=1e-3)


def test_what_moves_is_told_on_and_a_neighbour_hears_of_it() -> None:
    parts, net = swinging(), network()
    hand = at_hand(parts)
    alone = imagine(net, balls([hand]), parts)
    beside = imagine(net, balls([hand, [hand[0], hand[1] + 0.07, hand[2]]]), parts)
    assert not torch.allclose(alone.position[:, :, 0], beside.position[:, :, 0], atol=1e-4)
    far = imagine(net, balls([hand, [-0.2, 0.7, 0.05]]), parts)
    assert torch.allclose(alone.position[:, :, 0], far.position[:, :, 0], atol=1e-6)


@pytest.mark.parametrize("detail", [COARSE, FINE])
def test_an_answer_is_a_motion(detail: Detail) -> None:
    parts = swinging()
    motion = imagine(network(), balls([at_hand(parts)]), parts, detail=detail)
    assert motion.position.shape == (6, 4, 8, 3)
    assert torch.allclose(motion.rotation @ motion.rotation.mT, torch.eye(3).expand(6, 4, 8, 3, 3), atol=1e-4)
    assert bool((motion.touched.diff(dim=1) >= 0).all())
    assert bool((motion.std.diff(dim=1) >= 0).all())
    assert float(motion.touched.min()) >= 0
    assert float(motion.touched.max()) <= 1


@pytest.mark.parametrize("steps", [4, 5])
def test_what_goes_on_goes_as_far_in_steps_of_two_frames(steps: int) -> None:
    """Away from the robot, a thing whose network lets it go on by itself, at an even pace."""
    net = network()
    with torch.no_grad():
        net.out.weight.zero_()
        net.out.bias.zero_()
        net.out.bias[8 + 1] = 30.0  # of the ways: go on
    slots = balls([[0.1, 0.6, 0.05]])
    slots.last[:, 0, 0] = 0.03
    parts = swinging(steps=steps)
    fine, coarse = (imagine(net, slots, parts, detail=detail) for detail in (FINE, COARSE))
    went = torch.arange(1.0, steps + 1) * 0.03
    for motion in (fine, coarse):
        assert torch.allclose(motion.position[:, :, 0, 0] - 0.1, went.expand(6, -1), atol=1e-4)


@pytest.mark.parametrize("detail", [COARSE, FINE])
def test_a_hand_that_meets_a_thing_between_two_frames_moves_it(detail: Detail) -> None:
    states = LOW.repeat(2, 5, 1)
    states[1, 1::2, 0] += 0.25  # there in every second frame, and back in the others
    parts = CHAIN.parts(states)
    beside = at_hand(parts[:, 1:][1:])
    motion = imagine(network(), balls([beside]), parts, detail=detail)
    way = (motion.position[:, :, 0] - torch.tensor(beside)).norm(dim=-1)
    assert float(way[0].max()) == 0, "the hand stands still, away from it"
    assert float(way[1, 1]) > 1e-3


def test_each_detail_has_a_network_of_its_own() -> None:
    both, parts = Contacts(ThingsConfig(), ARM).eval(), swinging()
    slots = balls([at_hand(parts)])
    with torch.inference_mode():
        for detail, own in ((FINE, both.fine), (COARSE, both.coarse)):
            motion = both.imagine(slots, parts, flat(), detail)
            assert same(motion, own.imagine(slots, parts, flat(), detail))
        assert not same(both.fine.imagine(slots, parts, flat(), COARSE), motion)


def test_without_things_nothing_moves() -> None:
    motion = imagine(network(), nothing(1, 8, 8), swinging())
    assert float(motion.position.abs().max()) == float(motion.touched.max()) == 0


def test_every_weight_learns_from_the_last_step() -> None:
    parts, net = swinging(), network()
    slots = balls([at_hand(parts), [at_hand(parts)[0], 0.12, 0.05]])
    motion = net.imagine(slots, parts, flat())
    last = [t[:, -1].sum() for t in (motion.position, motion.rotation, motion.std, motion.touched)]
    torch.stack(last).sum().backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None, name
        assert bool(torch.isfinite(weight.grad).all()), name
        assert float(weight.grad.abs().max()) > 0, name
