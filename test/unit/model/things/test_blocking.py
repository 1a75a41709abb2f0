from dataclasses import replace

import numpy as np
import pytest
import torch

from deepverse_ros.model.things.blocking import Blocking
from deepverse_ros.model.things.detail import COARSE, FINE, Detail
from deepverse_ros.model.things.ground import CELL_SIDE, COLUMNS, LOWER, ROWS, HeightMap
from deepverse_ros.model.things.nearness import nearness
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
HOME = torch.tensor(ARM.home)
TABLE = HeightMap(torch.zeros(1, ROWS, COLUMNS))
STAYS = torch.zeros(1, 3)
PLANS, STEPS = 64, 8


@pytest.fixture(scope="module")
def blocking() -> Blocking:
    """With networks that say something."""
    torch.manual_seed(0)
    module = Blocking(ARM, 16).eval().requires_grad_(False)
    for network in (module.springs, module.rest):
        torch.nn.init.normal_(network[-1].weight, std=0.02)
        torch.nn.init.normal_(network[-1].bias, std=0.02)
    return module


def wandering(spread: float = 0.06) -> torch.Tensor:
    """(N, H, K) within the limits, from home, high above the table."""
    rng = np.random.default_rng(0)
    plans = HOME.numpy() + np.cumsum(rng.normal(0, spread, (PLANS, STEPS, ARM.action_dim)), 1)
    return torch.from_numpy(ARM.limit_plan(plans, HOME.numpy()))


def down() -> torch.Tensor:
    """(1, H, K) from home into the table."""
    goal = HOME + torch.tensor([0, 0.7, 0, -0.1, 0, 0.1, 0, 0])
    ways = HOME + (goal - HOME) * torch.linspace(0, 1, STEPS)[:, None]
    return ways[None]


def beside(far: float) -> HeightMap:
    """A table with a wall, 60 cm high, where y is above `far`."""
    y = (torch.arange(COLUMNS) + 0.5) * CELL_SIDE + LOWER[1]
    return HeightMap(torch.where(y > far, 0.5, 0.0)[None, None].expand(1, ROWS, COLUMNS))


@pytest.mark.parametrize("detail", [COARSE, FINE])
@pytest.mark.parametrize("steps", [STEPS, 5])
def test_free_arms_stand_exactly_at_their_commands(blocking: Blocking, detail: Detail, steps: int) -> None:
    plans = wandering()[:, :steps]
    stance = blocking.stands(HOME[None], plans, TABLE, STAYS, detail)
    assert stance is not None
    assert torch.equal(stance.joints, plans)
    assert stance.std.shape == stance.blocked.shape == (PLANS, steps)
    assert float(stance.std.max()) < 0.01
    assert float(stance.blocked.max()) == 0


def test_an_arm_that_is_sent_into_the_table_stays_upon_it(blocking: Blocking) -> None:
    plans = down()
    assert blocking.chain is not None
    stance = blocking.stands(HOME[None], plans, TABLE, STAYS)
    assert stance is not None
    gap, _ = nearness(TABLE, blocking.chain.places(stance.joints[0]))
    told, _ = nearness(TABLE, blocking.chain.places(plans[0]))
    assert float((told - blocking.chain.radius).min()) < -0.08
    assert float((gap - blocking.chain.radius).min()) > -0.05
    assert float(stance.std[0, -1]) > float(stance.std[0, 0])


@pytest.mark.parametrize(("detail", "bound"), [(replace(COARSE, frames=1, rounds=FINE.rounds), 0.02), (COARSE, 0.05)])
def test_followed_roughly_an_arm_comes_to_stand_nearly_where_it_does_on_the_fine_level(
    blocking: Blocking, detail: Detail, bound: float
) -> None:
    plans = torch.cat([down(), down() * 0.9 + HOME * 0.1])
    fine = blocking.stands(HOME[None], plans, TABLE, STAYS)
    coarse = blocking.stands(HOME[None], plans, TABLE, STAYS, detail)
    assert blocking.chain is not None
    assert fine is not None
    assert coarse is not None
    tools = [blocking.chain.origin(stance.joints.flatten(0, 1), ARM.tool_frame) for stance in (fine, coarse)]
    told = blocking.chain.origin(plans.flatten(0, 1), ARM.tool_frame)
    blocked = float((tools[0] - told).norm(dim=-1).max())
    assert blocked > 0.08
    assert float((tools[0] - tools[1]).norm(dim=-1).max()) < bound


def test_on_the_coarse_level_networks_are_asked_of_those_alone_that_may_touch() -> None:
    """However much they would say, arms that stay clear of the table stand where the fine level lets them stand."""
    torch.manual_seed(0)
    loud = Blocking(ARM, 16).eval().requires_grad_(False)
    for network in (loud.springs, loud.rest):
        torch.nn.init.normal_(network[-1].weight, std=2.0)
    assert loud.chain is not None
    plans = torch.cat([down(), down() * 0.6 + HOME * 0.4, down() * 0.3 + HOME * 0.7])
    room = (loud.chain.places(plans.flatten(0, 1))[..., 2] - loud.chain.radius).amin(-1).view(3, STEPS).amin(1)
    assert room[0] < -0.05
    assert 0.012 < room[1] < 0.03  # so near that it is looked at, and too far to touch
    coarse, fine = (loud.stands(HOME[None], plans, TABLE, STAYS, detail) for detail in (COARSE, FINE))
    assert coarse is not None
    assert fine is not None
    assert torch.equal(coarse.joints[1:], plans[1:])
    assert torch.equal(fine.joints[2:], plans[2:])
    assert not torch.equal(coarse.joints[0], plans[0])


def test_an_arm_touches_that_is_free_at_both_ends_of_a_step_and_between_them_on_the_line(blocking: Blocking) -> None:
    start = torch.tensor([-2.019, 1.438, 2.268, 1.207, 2.917, -0.100, -2.139, 0.310])
    end = torch.tensor([-2.316, 1.735, 1.919, 1.468, 2.967, 0.371, -1.668, 0.810])
    assert blocking.chain is not None
    first, middle, last = (blocking.chain.places(s[None])[0, :, 2] for s in (start, (start + end) / 2, end))
    room, on_the_way = torch.stack([first, (first + last) / 2, last]), middle - blocking.chain.radius
    assert float((room - blocking.chain.radius).min()) > 0.03
    assert float(on_the_way.min()) < 0
    stance = blocking.stands(start[None], end[None, None], TABLE, STAYS)
    assert stance is not None
    assert float((stance.joints[0, 0] - end).abs().max()) > 1e-3


def test_a_pressed_arm_slides_on_smooth_ground_and_hardly_on_rough() -> None:
    aside = down()[:, -1:].repeat(1, 4, 1)
    aside[0, :, 0] += torch.linspace(0.1, 0.4, 4)
    gone = []
    for friction in (0.05, 3.0):
        untrained = Blocking(ARM, 16).eval().requires_grad_(False)
        untrained.surface[2] = np.log(friction)
        assert untrained.chain is not None
        stance = untrained.stands(HOME[None], torch.cat([down(), aside], 1), TABLE, STAYS)
        assert stance is not None
        gone.append(float(untrained.chain.origin(stance.joints[0], ARM.tool_frame)[-1, 1]))
    assert gone[0] > 0.15
    assert 0 < gone[1] < 0.6 * gone[0]


def test_weak_joints_give_way_where_strong_ones_press() -> None:
    wrist = []
    for strength in (0.0, -3.0):
        untrained = Blocking(ARM, 16).eval().requires_grad_(False)
        untrained.stiffness[5] = strength
        stance = untrained.stands(HOME[None], down(), TABLE, STAYS)
        assert stance is not None
        wrist.append(float((stance.joints - down())[0, -1, 5]))
    assert wrist[1] < -0.02
    assert abs(wrist[0]) < 0.1 * abs(wrist[1])


def test_an_arm_comes_free_again(blocking: Blocking) -> None:
    plans = torch.cat([down(), down().flip(1), HOME.expand(1, 2, -1)], 1)
    stance = blocking.stands(HOME[None], plans, TABLE, STAYS)
    assert stance is not None
    assert not torch.equal(stance.joints[0, STEPS - 1], plans[0, STEPS - 1])
    assert torch.allclose(stance.joints[0, -1], HOME, atol=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_walls_stop_an_arm_that_turns_to_them_and_where_it_stands_counts(blocking: Blocking, shift: float) -> None:
    turns = HOME.repeat(1, STEPS, 1)
    turns[0, :, 0] = torch.linspace(0.1, 0.8, STEPS)
    assert blocking.chain is not None
    by = torch.tensor([[0.0, shift, 0.0]])
    far = blocking.chain.places(turns[0])[..., 1].max() + 0.2  # beyond what the arm that is not shifted reaches
    stance = blocking.stands(HOME[None], turns, beside(float(far)), by)
    assert stance is not None
    assert torch.equal(stance.joints, turns) == (shift == 0)
    if shift:
        assert float(stance.joints[0, -1, 0]) < 0.7


def test_plans_do_not_depend_on_each_other(blocking: Blocking) -> None:
    plans = torch.cat([down(), wandering()[:3], down() * 0.98])
    whole = blocking.stands(HOME[None], plans, TABLE, STAYS)
    assert whole is not None
    for n in range(len(plans)):
        alone = blocking.stands(HOME[None], plans[n : n + 1], TABLE, STAYS)
        assert alone is not None
        assert torch.allclose(whole.joints[n], alone.joints[0], atol=1e-4)


def test_no_arm_moves_faster_than_it_can(blocking: Blocking) -> None:
    plans = (HOME + torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0])).repeat(1, 2, 1)
    stance = blocking.stands(HOME[None], plans, TABLE, STAYS)
    assert stance is not None
    fastest = torch.tensor(ARM.max_step[0]) * torch.tensor([1.0, 2.0])
    assert (stance.joints[0, :, 0] <= fastest + 1e-6).all()
    assert torch.allclose(stance.joints[0, :, 0], fastest, rtol=0.02), "what little is learned of such steps aside"


def test_an_unknown_state_is_taken_to_be_the_first_command(blocking: Blocking) -> None:
    plans = wandering()
    stance = blocking.stands(torch.full((1, ARM.state_dim), torch.nan), plans, TABLE, STAYS)
    assert stance is not None
    assert torch.equal(stance.joints, plans)


def test_who_is_seen_in_misread_ground_may_go_up(blocking: Blocking) -> None:
    higher = HeightMap(torch.full((1, ROWS, COLUMNS), 0.4))  # home is deep in it
    plans = HOME.repeat(1, STEPS, 1)
    plans[0, :, 1] -= torch.linspace(0.1, 0.6, STEPS)
    stance = blocking.stands(HOME[None], plans, higher, STAYS)
    assert stance is not None
    assert float((stance.joints - plans)[0, :, :7].abs().max()) < 1.0
    assert torch.isfinite(stance.joints).all()


def test_nothing_is_said_of_robots_that_do_not_measure_their_actions() -> None:
    for name in ("drone", "vehicle"):
        robot = Embodiment.load(name)
        plans = torch.zeros(2, STEPS, robot.action_dim)
        assert Blocking(robot, 16).stands(torch.zeros(1, robot.state_dim), plans, TABLE, STAYS) is None
