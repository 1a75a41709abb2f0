"""Samplers against costs whose truth is known: the arm's kinematics, and an obstacle in the tool's straight way."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from reaching import ARM, FORWARD, HOME, reachable, tool_paths

from deepverse_ros.errors import ShapeError
from deepverse_ros.planning.search.icem import Icem, IcemConfig
from deepverse_ros.planning.search.mppi import Mppi, MppiConfig
from deepverse_ros.planning.search.samplers import Sampler, WayPointConfig, WayPoints, coloured_noise

MAKERS: dict[str, Callable[..., Sampler]] = {
    "icem": lambda **config: Icem(ARM, IcemConfig(**config)),
    "mppi": lambda **config: Mppi(ARM, MppiConfig(**config)),
}
both = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
RADIUS, MARGIN = 0.12, 0.02


def at_start(sampler: Sampler, seed: int = 0, start: np.ndarray = HOME, warm: np.ndarray | None = None) -> Sampler:
    sampler.reset(start, seed, warm)
    return sampler


def far(plans: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.linalg.norm((plans[:, -1] - target) / ARM.max_step, axis=1)


def search(sampler: Sampler, joints: np.ndarray, rounds: int, obstacle: np.ndarray | None = None):
    """Bring the tool to where `joints` have it: the best plan's miss and smallest distance to a sphere, metres."""
    goal, best = FORWARD.tool_position(joints), (np.inf, 0.0, 0.0)
    for _ in range(rounds):
        tools = tool_paths(sampler.ask())
        miss = np.linalg.norm(tools - goal, axis=-1)
        free = np.full(miss.shape, np.inf) if obstacle is None else np.linalg.norm(tools - obstacle, axis=-1) - RADIUS
        costs = miss[:, -1] + 0.05 * miss.mean(1) + 5.0 * np.maximum(MARGIN - free, 0).mean(1)
        first = int(np.argmin(costs))
        best = min(best, (costs[first], miss[first, -1], free[first].min()))
        sampler.tell(costs, tools[:, -1] - goal)
    return best[1], best[2]


# ---- plans


@both
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), place=st.floats(0, 1), wild=st.booleans(), warm=st.booleans())
def test_every_plan_keeps_position_and_rate_limits_whatever_it_is_told(make, seed, place, wild, warm):
    rng = np.random.default_rng(seed)
    start = (ARM.lower + place * (ARM.upper - ARM.lower)).astype(np.float32)
    last = rng.uniform(ARM.lower, ARM.upper, (9, 8)) if warm else None
    sampler = at_start(make(samples=32, spread=1.0 if wild else 0.1, bend=0.5, shrink=0.7), seed, start, last)
    for _ in range(3):
        plans = sampler.ask()
        assert plans.shape[1:] == (8, 8)
        assert plans.dtype == np.float32
        assert (plans >= ARM.lower).all()
        assert (plans <= ARM.upper).all()
        from_start = np.concatenate([np.broadcast_to(start, (len(plans), 1, 8)), plans], axis=1)
        assert (np.abs(np.diff(from_start, axis=1)) <= ARM.max_step + 1e-5).all()
        costs = rng.choice([0.0, 1.0, 2.5, 1e12, np.nan, np.inf, -np.inf], len(plans))
        sampler.tell(costs, rng.choice([0.0, 0.3, -1.0, np.nan], (len(plans), 3)))


@both
def test_plans_end_at_rest(make):
    plans = at_start(make(spread=0.1, settle=2)).ask()
    assert np.median(np.abs(plans[:, -3:] - plans[:, -1:]).max(axis=(1, 2))) < 1e-6
    assert np.abs(plans[:, -4] - plans[:, -1]).max() > 0.05


@both
def test_way_points_are_no_more_than_steps_that_move(make):
    assert at_start(make(horizon=2, knots=4)).ask().shape == (256, 2, 8)
    assert at_start(make(horizon=3, knots=1, settle=0)).ask().shape == (256, 3, 8)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**16), knots=st.sampled_from([1, 2, 5, 10]))
@example(seed=615, knots=10)  # the second step is more than twice as long as the first
def test_way_points_can_be_read_off_a_plan(seed, knots):
    middle = (ARM.lower + ARM.upper) / 2
    way = WayPoints(ARM, WayPointConfig(horizon=12, knots=knots, settle=2), middle)
    points = way.noise(np.random.default_rng(seed), 4) * way.begin(None)[1] * 0.2
    points[:, -1] += middle + 0.3 * way.reach
    courses = np.insert(way.plans(points), 0, middle, axis=1)
    assume((np.abs(np.diff(courses, axis=1)) < ARM.max_step).all())  # no limit has changed what was drawn
    for course, expected in zip(courses, points, strict=True):
        np.testing.assert_allclose(way.of(course), expected, atol=1e-4)


# ---- learning


@both
def test_the_same_seed_gives_the_same_search_and_another_seed_another(make):
    def rounds(seed: int) -> list[np.ndarray]:
        sampler, out = at_start(make(samples=32), seed), []
        for _ in range(3):
            out.append(sampler.ask())
            sampler.tell(far(out[-1], HOME + 0.2), out[-1][:, -1, :3] - HOME[:3] - 0.2)
        return out

    for one, again, other in zip(rounds(4), rounds(4), rounds(5), strict=True):
        np.testing.assert_array_equal(one, again)
        assert not np.array_equal(one, other)


@both
def test_the_best_plan_of_all_is_asked_again_unchanged(make):
    sampler, best = at_start(make(samples=16)), (np.inf, np.empty(0))
    for number in range(4):
        plans = sampler.ask()
        costs = far(plans, HOME + 0.2) + (10.0 if number == 2 else 0.0)  # a round of which nothing is better
        best = min(best, (costs.min(), plans[int(np.argmin(costs))]), key=lambda pair: pair[0])
        if number == 2:
            assert (plans == best[1]).all(axis=(1, 2)).any()
            continue
        sampler.tell(costs)
        assert (sampler.ask() == best[1]).all(axis=(1, 2)).any()


@both
def test_plans_of_unknown_cost_are_the_worst(make):
    sampler, target = at_start(make(samples=64)), HOME + np.float32(0.3)
    for _ in range(5):
        plans = sampler.ask()
        ahead = plans[:, -1, 0] < HOME[0]  # half of the first round: the wrong way, but it would be cheap
        sampler.tell(np.where(ahead, np.nan, far(plans, target)), np.full((len(plans), 3), np.nan))
    assert (sampler.ask()[:, -1, 0] > HOME[0]).mean() > 0.9


@both
def test_a_round_that_told_nothing_changes_nothing(make):
    sampler = at_start(make(shrink=0.99))
    before = sampler.ask()[:, -1]
    for _ in range(3):
        sampler.tell(np.full(len(sampler.ask()), np.nan))
    after = sampler.ask()[:, -1]
    np.testing.assert_allclose(after.mean(0), before.mean(0), atol=0.3 * before.std())
    np.testing.assert_allclose(after.std(0), before.std(0), rtol=0.25)


@both
@settings(max_examples=25, deadline=None)
@given(scale=st.integers(-20, 20), seed=st.integers(0, 1000))
def test_the_unit_of_the_costs_does_not_matter(make, scale, seed):
    one, other = at_start(make(samples=32), seed), at_start(make(samples=32), seed)
    for _ in range(3):
        plans = one.ask()
        np.testing.assert_allclose(plans, other.ask(), atol=1e-5)
        costs = far(plans, HOME - 0.3)
        one.tell(costs)
        other.tell(2.0**scale * (costs - 7.0))


@both
def test_costs_of_another_number_of_plans_are_refused(make):
    sampler = at_start(make(samples=16))
    sampler.ask()
    for count in (15, 17):
        with pytest.raises(ShapeError, match="costs"):
            sampler.tell(np.zeros(count))


# ---- detours


@both
def test_a_share_of_the_plans_lifts_the_tool_in_a_bow(make):
    height = {}
    for share in (0.0, 0.5):
        sampler = at_start(make(samples=200, horizon=16, spread=0.02, bend=0.0, detours=share))
        tools = tool_paths(sampler.ask())
        height[share] = tools[:, :, 2].max(1) - np.maximum(tools[:, -1, 2], FORWARD.tool_position(HOME)[2])
    assert (height[0.0] < 0.05).all()
    assert 0.25 < np.mean(height[0.5] > 0.05) < 0.5, "half of the plans; of these, most are high"
    assert height[0.5].max() < 0.8


@both
def test_without_a_body_a_detour_is_a_straight_way(make):
    sampler = make(samples=20, bend=0.3, detours=1.0)
    sampler.embodiment = ARM.model_copy(update={"body": None})
    plans = at_start(sampler).ask()[2:]
    middle = (HOME + plans[:, -1]) / 2
    straight = np.abs(plans[:, :-1] - middle[:, None]).min(1) <= ARM.max_step
    assert straight.all()
    with pytest.raises(ShapeError, match="detours"):
        make(detours=1.5)


# ---- warm start


@both
def test_a_warm_start_begins_at_the_last_plan_detour_included(make):
    detour = at_start(make(knots=7, bend=0.2)).ask()[20]
    sampler = at_start(make(knots=7), warm=np.concatenate([HOME[None], detour]))
    warm, cold = sampler.ask(), at_start(make(knots=7)).ask()
    np.testing.assert_allclose(warm[0], detour, atol=1e-5)
    assert far(warm, detour[-1]).mean() < far(cold, detour[-1]).mean()


@both
@pytest.mark.parametrize("done", [0, 1, 3, 7])
def test_a_warm_start_skips_what_the_robot_has_done(make, done):
    last = ARM.limit_plan(HOME + np.minimum(np.arange(1, 9) / 7, 1)[:, None] * np.float32(0.6), HOME)
    start = last[done - 1] + np.float32(0.01) if done else HOME
    first = at_start(make(knots=7, settle=1), start=start, warm=np.concatenate([HOME[None], last])).ask()[0]
    np.testing.assert_allclose(first[: 8 - done], last[done:], atol=0.05)
    np.testing.assert_allclose(first[8 - done :], np.broadcast_to(last[-1], (done, 8)), atol=0.05)


# ---- what it finds


@pytest.mark.parametrize(
    ("make", "samples", "rounds", "median"),
    [
        (MAKERS["icem"], 256, 6, 0.002),
        (MAKERS["icem"], 64, 3, 0.02),
        (MAKERS["mppi"], 256, 6, 0.006),
        (MAKERS["mppi"], 64, 3, 0.05),
    ],
    ids=["icem 256x6", "icem 64x3", "mppi 256x6", "mppi 64x3"],
)
def test_the_tool_comes_to_where_it_shall_be(make, samples, rounds, median):
    goals = enumerate(reachable(6, seed=11))
    misses = [search(at_start(make(samples=samples), seed), joints, rounds)[0] for seed, joints in goals]
    assert np.median(misses) < median
    assert np.mean(np.array(misses) < 0.03 + 2 * median) >= 0.8


def obstacles(count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Joints (8,) and the centre (3,) of a sphere through which the straight way there leads."""
    out = []
    for joints in reachable(200, seed):
        centre = FORWARD.tool_position((HOME + joints) / 2)
        ends = [np.linalg.norm(FORWARD.tool_position(end) - centre) for end in (HOME, joints)]
        if min(ends) > RADIUS + 0.05 and (np.abs(joints - HOME) <= 7 * ARM.max_step).all():
            out.append((joints, centre))
    return out[:count]


@both
def test_a_way_round_an_obstacle_is_found(make):
    free = []
    for seed, (joints, centre) in enumerate(obstacles(6, seed=21)):
        straight = HOME + np.minimum(np.arange(1, 9) / 7, 1)[:, None] * (joints - HOME)
        assert np.linalg.norm(tool_paths(straight[None]) - centre, axis=-1).min() < RADIUS
        miss, clearance = search(at_start(make(samples=128), seed), joints, 5, centre)
        free.append(clearance > 0 and miss < 0.03)
    assert len(free) == 6
    assert np.mean(free) > 0.8


def test_offsets_are_what_makes_few_candidates_enough():
    def miss(guided: float) -> float:
        goals = enumerate(reachable(8, seed=3))
        return float(
            np.mean([search(at_start(MAKERS["icem"](samples=64, guided=guided), i), j, 3)[0] for i, j in goals])
        )

    assert miss(guided=0.4) < 0.6 * miss(guided=0.0)


def test_coloured_deviations_are_smoother_plans():
    def unrest(colour: float) -> float:
        plans = at_start(MAKERS["icem"](knots=7, bend=0.1, spread=0.05, colour=colour)).ask()
        return float(np.square(np.diff(plans, n=2, axis=1) / ARM.max_step).mean())

    assert unrest(2.0) < 0.5 * unrest(0.0)
    assert unrest(4.0) < unrest(2.0)


# ---- iCEM's population


def test_the_population_shrinks_to_twice_the_elites():
    sampler, sizes = at_start(Icem(ARM, IcemConfig(samples=100, shrink=0.5, elites=0.1, kept=30, guided=1.0))), []
    for _ in range(5):
        plans = sampler.ask()
        sizes.append(len(plans))
        sampler.tell(far(plans, HOME + 0.2), plans[:, -1, :3] - HOME[:3])
    assert sizes == [100, 50, 25, 20, 20]
    constant = at_start(Icem(ARM, IcemConfig(samples=16, shrink=1.0)))
    constant.ask()
    constant.tell(np.arange(16.0))
    assert len(constant.ask()) == 16


@settings(max_examples=30, deadline=None)
@given(samples=st.integers(4, 60), elites=st.floats(0, 0.5), shrink=st.floats(0, 1), kept=st.integers(1, 9))
def test_a_population_never_grows_and_never_falls_below_twice_the_elites(samples, elites, shrink, kept):
    config = IcemConfig(samples=samples, elites=elites, shrink=shrink, kept=kept)
    sampler, last = at_start(Icem(ARM, config)), samples
    for _ in range(3):
        size = len(sampler.ask())
        assert max(4, 2 * config.elite_count) <= size <= last
        sampler.tell(np.arange(float(size)), np.ones((size, 3)))
        last = size


# ---- coloured noise


@settings(max_examples=20, deadline=None)
@given(steps=st.integers(1, 40), beta=st.floats(0, 4), seed=st.integers(0, 2**16))
def test_coloured_noise_has_unit_variance_at_every_step(steps, beta, seed):
    noise = coloured_noise(np.random.default_rng(seed), (4000, steps, 2), beta)
    assert noise.shape == (4000, steps, 2)
    assert noise.dtype == np.float32
    np.testing.assert_allclose(noise.var(axis=(0, 2)), 1.0, atol=0.15)
    np.testing.assert_allclose(noise.mean(axis=(0, 2)), 0.0, atol=0.1)


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0, 3.0])
def test_the_power_of_coloured_noise_falls_as_its_exponent_says(beta):
    noise = coloured_noise(np.random.default_rng(0), (2000, 64, 1), beta)[:, :, 0]
    power = np.square(np.abs(np.fft.rfft(noise, axis=1))).mean(0)[1:-1]
    slope = np.polyfit(np.log(np.arange(1, len(power) + 1)), np.log(power), 1)[0]
    assert slope == pytest.approx(-beta, abs=0.05)


def test_no_coloured_noise_is_no_error():
    assert coloured_noise(np.random.default_rng(0), (5, 0, 3), 2.0).shape == (5, 0, 3)


# ---- what is refused


@pytest.mark.parametrize(
    "values",
    [
        {"samples": 2}, {"horizon": 1}, {"knots": 0}, {"settle": -1}, {"settle": 8}, {"spread": -0.1},
        {"bend": float("nan")}, {"colour": float("inf")}, {"shrink": 1.5}, {"shrink": float("nan")},
    ],
    ids=str,
)  # fmt: skip
@both
def test_a_sampler_that_cannot_work_is_refused(make, values):
    with pytest.raises(ShapeError, match=next(iter(values))):
        make(**values)


@pytest.mark.parametrize("values", [{"elites": 0.6}, {"momentum": -0.1}, {"guided": 1.1}, {"kept": 0}], ids=str)
def test_an_icem_that_cannot_work_is_refused(values):
    with pytest.raises(ShapeError, match=next(iter(values))):
        IcemConfig(**values)


@pytest.mark.parametrize("values", [{"temperature": 0.0}, {"temperature": float("nan")}, {"shrink": 0.0}], ids=str)
def test_an_mppi_that_cannot_work_is_refused(values):
    with pytest.raises(ShapeError, match=next(iter(values))):
        MppiConfig(**values)
