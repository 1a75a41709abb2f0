"""A verdict is a bound at a calibrated level: it must cover, and it must name what was wrong."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepverse_ros.errors import CheckpointError, ShapeError
from deepverse_ros.planning.verdicts.acceptance import ExecutedOutcomes, margin_multiple
from deepverse_ros.planning.verdicts.calibration import Calibration, conformal_quantile
from deepverse_ros.planning.verdicts.judge import Limits, check_plan, judge
from deepverse_ros.planning.verdicts.verdict import Reason
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
HOME = np.asarray(ARM.home, np.float32)
# Bounds of 0.5, 1, 2 and 3 cm where tool and goal are each known to 1 cm.
SPREAD = 0.01 * math.sqrt(2)
CALIBRATION = Calibration(0.9, tuple(bound / SPREAD for bound in (0.005, 0.01, 0.02, 0.03)))


class Seen:
    """A belief or a goal with the tool at the origin."""

    def __init__(self, ood_score: float = 0.2, alike: float = 0.8) -> None:
        self.ood_score = ood_score
        self._alike = alike
        self.out_of_distribution = ood_score > 1.0
        self.doubt = "is strange"
        self.tool_position = np.zeros(3, np.float32)
        self.tool_std = 0.01
        self.embedding = torch.zeros(1)
        self.frame: torch.Tensor | None = torch.zeros(5, 2, 2)

    def agreement(self, frame: torch.Tensor | None) -> float:
        return 1.0 if frame is None else self._alike


class Path:
    """A future whose tool goes along x."""

    def __init__(self, x: list[float], std: list[float] | None = None, clearance: list[float] | None = None) -> None:
        self.readout = {"tool_position": torch.tensor([[[v, 0.0, 0.0] for v in x]])}
        if clearance is not None:
            self.readout |= {"clearance": torch.tensor([clearance])}
            self.readout |= {"clearance_std": torch.full((1, len(clearance)), 0.01)}
        self.uncertainty = torch.tensor([std or [0.01] * len(x)])
        self.embedding = torch.zeros(1, len(x), 1)

    def select(self, indices: list[int]) -> "Path":
        assert list(indices) == [0]
        return self


def verdict(path: Path, belief: Seen | None = None, goal: Seen | None = None, calibration=CALIBRATION, **limits):
    return judge(path, 0, belief or Seen(), goal or Seen(), calibration, Limits(**limits))


# ---- conformal bounds


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(20, 200), level=st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_the_quantile_covers_new_errors_at_its_level(seed, n, level):
    rng = np.random.default_rng(seed)
    trials = 400
    scale = rng.uniform(0.5, 2.0)
    errors = rng.gamma(2.0, scale, (trials, n + 1))
    covered = np.mean([errors[i, -1] <= conformal_quantile(errors[i, :-1], level) for i in range(trials)])
    # Binomial spread of the estimate at five standard deviations; the promise itself is one-sided.
    assert covered >= level - 5 * math.sqrt(level * (1 - level) / trials)
    assert covered <= level + 1 / (n + 1) + 5 * math.sqrt(level * (1 - level) / trials)


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=60), st.floats(0.05, 0.95))
def test_the_quantile_is_one_of_the_errors_or_infinite_and_grows_with_the_level(errors, level):
    bound = conformal_quantile(np.array(errors), level)
    assert bound in errors or bound == math.inf
    assert conformal_quantile(np.array(errors), min(0.99, level + 0.04)) >= bound


def test_the_finite_sample_correction_is_exact():
    errors = np.arange(1.0, 10.0)  # nine errors: (9 + 1) * 0.9 = 9th smallest
    assert conformal_quantile(errors, 0.9) == 9.0
    assert conformal_quantile(errors, 0.5) == 5.0
    assert conformal_quantile(errors[:8], 0.9) == math.inf
    assert conformal_quantile(np.zeros(0), 0.5) == math.inf


@pytest.mark.parametrize(("errors", "level"), [([1.0], 1.0), ([1.0], 0.0), ([math.nan], 0.5), ([[1.0]], 0.5)])
def test_a_bound_that_means_nothing_is_refused(errors, level):
    with pytest.raises(ShapeError):
        conformal_quantile(np.array(errors), level)


def test_calibration_is_read_from_a_checkpoint():
    assert Calibration.from_model(None) is None
    read = Calibration.from_model({"level": 0.9, "goal_error_z": [0.01, 0.02], "n": 100})
    assert read == Calibration(0.9, (0.01, 0.02))
    more = Calibration.from_model({"level": 0.9, "goal_error_z": [0.01], "clearance_error_z": [1.0, 2.0]})
    assert more == Calibration(0.9, (0.01,), (1.0, 2.0))
    np.testing.assert_allclose(more.clearance_bound(np.array([0.1, 0.1, 0.1])), [0.1, 0.2, math.inf])
    path = Calibration.from_model({"level": 0.9, "goal_error_z": [1.0, 2.0], "path_error_z": [3.0, 4.0]})
    np.testing.assert_allclose(path.path_bound(np.array([0.1, 0.2, 0.1])), [0.3, 0.8, math.inf])
    assert np.isinf(more.path_bound(np.array([0.1]))).all(), "never measured"
    wider = path.scaled(1.5)
    assert wider.bound(0, 0.3, 0.4) == pytest.approx(0.75)
    assert wider.path_error_z == (3.0, 4.0), "the goal's bound alone"
    assert read.bound(1, 0.3, 0.4) == pytest.approx(0.01)
    assert read.bound(2, 0.3, 0.4) == math.inf
    seen = Calibration.from_model({"level": 0.9, "goal_error_z": [0.01], "clearance_error_m": [0.02]})
    assert seen == Calibration(0.9, (0.01,), clearance_error_m=(0.02,))
    negative = {"level": 0.9, "goal_error_z": [1.0], "path_error_z": [-1.0]}
    not_known = {"level": 0.9, "goal_error_z": [math.nan]}
    unequal = {"level": 0.9, "goal_error_z": [1.0], "ends": [{"steps": 1, "further": [0.1, 0.2], "spread": [0.1]}]}
    for wrong in ({}, {"level": 0.9}, {"level": 2, "goal_error_z": [0.1]}, not_known, negative, unequal):
        with pytest.raises(CheckpointError, match="calibration"):
            Calibration.from_model(wrong)


# ---- judging an outcome


def test_a_plan_is_accepted_only_when_its_upper_bound_is_within_tolerance():
    good = verdict(Path([0.3, 0.2, 0.1, 0.04]), tolerance=0.08)
    assert good.accepted
    assert good.reason is Reason.ACCEPTED
    assert good.first_offending_step == -1
    assert good.value == pytest.approx(0.07)
    assert good.predicted_distance == pytest.approx(0.04)
    assert good.level == 0.9
    # The imagined distance itself is within tolerance, its upper bound is not.
    missed = verdict(Path([0.3, 0.2, 0.1, 0.06]), tolerance=0.08)
    assert not missed.accepted
    assert missed.reason is Reason.MISSES_GOAL
    assert missed.value == pytest.approx(0.09)
    assert missed.threshold == 0.08
    assert missed.first_offending_step == 3
    assert "0.090 m" in missed.text
    assert "90 %" in missed.text


def test_where_ends_of_plans_of_its_length_are_known_a_plan_needs_the_margin_that_they_ask_for():
    ends = ExecutedOutcomes(4, tuple(np.linspace(0, 0.02, 60)), (SPREAD,) * 60)
    measured = replace(CALIBRATION, ends=(ends,))
    margin = margin_multiple(ends, 0.9, 0.08) * SPREAD
    assert 0.001 < margin < 0.03, "less than the bound that covers every plan"
    way = [0.3, 0.2, 0.1, 0.055]
    assert verdict(Path(way), tolerance=0.08).reason is Reason.MISSES_GOAL
    judged = verdict(Path(way), calibration=measured, tolerance=0.08)
    assert judged.accepted
    assert judged.value == pytest.approx(0.055 + margin)
    assert not verdict(Path(way), calibration=measured.scaled(4.0), tolerance=0.08).accepted
    assert verdict(Path(way[1:]), calibration=measured, tolerance=0.08).value == pytest.approx(0.055 + 0.02), "3 steps"


def test_a_goal_picture_that_is_read_without_certainty_is_refused():
    goal = Seen()
    goal.tool_std = 0.04
    unsure = verdict(Path([0.0] * 4), goal=goal, tolerance=1.0)
    assert unsure.reason is Reason.TOO_UNCERTAIN
    assert (unsure.value, unsure.threshold, unsure.first_offending_step) == (0.04, 0.03, -1)
    assert "goal image" in unsure.text
    assert verdict(Path([0.0] * 4), goal=goal, tolerance=1.0, max_goal_uncertainty=0.05).accepted


def test_a_plan_whose_lower_bound_of_the_clearance_is_too_small_is_rejected_at_its_first_step():
    calibration = replace(CALIBRATION, clearance_error_z=(1.0, 1.0, 2.0, 2.0))
    way = [0.3, 0.2, 0.1, 0.0]
    near = verdict(Path(way, clearance=[0.3, 0.06, 0.06, 0.065]), calibration=calibration, clearance=0.045)
    assert near.reason is Reason.COLLISION_ZONE
    assert not near.accepted
    assert near.first_offending_step == 2
    assert near.value == pytest.approx(0.04)
    assert near.threshold == 0.045
    assert "0.040 m" in near.text
    clear = Path(way, clearance=[0.3, 0.06, 0.066, 0.066])
    assert verdict(clear, calibration=calibration, clearance=0.045).accepted
    # Where touching is allowed nobody asks; where it is not, a bound that was never measured promises nothing.
    assert verdict(Path(way, clearance=[-0.1] * 4), calibration=calibration).accepted
    assert verdict(clear, clearance=0.0).reason is Reason.COLLISION_ZONE
    wider = replace(calibration, clearance_error_z=(3.0, 3.0, 6.0, 6.0))
    assert verdict(clear, calibration=wider, clearance=0.045).first_offending_step == 1
    nan = Path(way, clearance=[0.3, math.nan, 0.3, 0.3])
    assert verdict(nan, calibration=calibration, clearance=0.0).first_offending_step == 1


def test_what_the_camera_sees_of_the_clearance_counts_for_more_than_what_is_imagined():
    way = [0.3, 0.2, 0.1, 0.0]
    imagined_free, imagined_near = (Path(way, clearance=[value] * 4) for value in (0.3, 0.01))
    both = replace(CALIBRATION, clearance_error_z=(1.0,) * 4, clearance_error_m=(0.01, 0.01, 0.02, 0.02))

    def judged(path: Path, seen: list[float] | None, calibration: Calibration):
        told = None if seen is None else np.array(seen)
        return judge(path, 0, Seen(), Seen(), calibration, Limits(clearance=0.02), told)

    assert judged(imagined_near, [0.1, 0.1, 0.05, 0.05], both).accepted
    near = judged(imagined_free, [0.1, 0.1, 0.035, 0.03], both)
    assert near.reason is Reason.COLLISION_ZONE
    assert near.first_offending_step == 2
    assert near.value == pytest.approx(0.015)
    # Where the camera sees nothing, or nobody measured how well, what is imagined must do.
    assert judged(imagined_free, None, both).accepted
    assert judged(imagined_near, None, both).reason is Reason.COLLISION_ZONE
    never = replace(both, clearance_error_m=None)
    assert judged(imagined_near, [0.1] * 4, never).reason is Reason.COLLISION_ZONE
    # A figure that is none, or a step that was never calibrated, promises nothing.
    assert judged(imagined_free, [0.1, math.nan, 0.1, 0.1], both).first_offending_step == 1
    short = replace(both, clearance_error_m=(0.01, 0.01))
    assert judged(imagined_free, [0.1] * 4, short).first_offending_step == 2


def test_passing_by_the_goal_is_not_reaching_it():
    assert verdict(Path([0.2, 0.0, 0.0, 0.5])).reason is Reason.MISSES_GOAL


def test_a_step_that_was_never_calibrated_is_not_promised():
    missed = verdict(Path([0.1, 0.0, 0.0, 0.0, 0.0]))
    assert missed.reason is Reason.MISSES_GOAL
    assert missed.value == math.inf


def test_without_calibration_nothing_is_accepted():
    refused = verdict(Path([0.0] * 4), calibration=None)
    assert not refused.accepted
    assert refused.reason is Reason.TOO_UNCERTAIN
    assert "no calibration" in refused.text
    assert refused.level == 0.0


def test_an_uncertain_step_is_named():
    refused = verdict(Path([0.0] * 4, std=[0.01, 0.02, 0.2, 0.3]), max_uncertainty=0.1)
    assert refused.reason is Reason.TOO_UNCERTAIN
    assert refused.first_offending_step == 2
    assert refused.value == pytest.approx(0.2)
    assert refused.uncertainty == pytest.approx(0.3)


@pytest.mark.parametrize("which", ["belief", "goal"])
def test_what_the_model_does_not_know_is_not_judged(which):
    refused = verdict(Path([0.0] * 4), **{which: Seen(ood_score=1.7)})
    assert refused.reason is Reason.OUT_OF_DISTRIBUTION
    assert refused.value == pytest.approx(1.7)
    assert refused.text == f"the {'goal image' if which == 'goal' else 'observation'} is strange"


def test_a_goal_picture_of_another_scene_is_not_judged():
    refused = verdict(Path([0.0] * 4), belief=Seen(alike=0.3))
    assert refused.reason is Reason.OUT_OF_DISTRIBUTION
    assert (refused.value, refused.threshold) == (0.3, 0.55)
    assert "30% of it looks as what the camera sees, at least 55% must" in refused.text
    assert verdict(Path([0.0] * 4), belief=Seen(alike=0.3), min_goal_agreement=0.2).accepted
    place = Seen()
    place.frame = None  # as of a goal that is no picture
    assert verdict(Path([0.0] * 4), belief=Seen(alike=0.3), goal=place).accepted


def test_a_future_that_is_not_finite_is_never_accepted():
    refused = verdict(Path([0.0, math.nan, 0.0, 0.0]))
    assert not refused.accepted
    assert refused.first_offending_step == 1
    assert not verdict(Path([0.0] * 4, std=[0.01, 0.01, 0.01, math.inf])).accepted


# ---- checking a plan


def plan_to(offset: float, steps: int = 8) -> np.ndarray:
    return ARM.limit_plan(np.linspace(HOME, HOME + offset, steps + 1)[1:], HOME)


def test_a_plan_within_limits_passes():
    assert check_plan(plan_to(0.5), HOME, ARM, Limits()) is None


@pytest.mark.parametrize("shape", [(0, 8), (8, 7), (8,), (2, 8, 8)])
def test_a_plan_of_the_wrong_shape_is_named(shape):
    refused = check_plan(np.zeros(shape, np.float32), HOME, ARM, Limits())
    assert refused.reason is Reason.INVALID_PLAN
    assert str(shape) in refused.text


def test_nan_limits_and_rates_are_named_with_joint_and_step():
    plan = plan_to(0.2)
    plan[3, 2] = np.nan
    refused = check_plan(plan, HOME, ARM, Limits())
    assert refused.first_offending_step == 3
    assert "joint_positions[2] is nan" in refused.text
    plan = plan_to(0.2)
    plan[5, 7] = 1.4
    refused = check_plan(plan, HOME, ARM, Limits())
    assert refused.first_offending_step == 5
    assert "gripper_state[0] is 1.400" in refused.text
    assert refused.threshold == 1.0
    plan = plan_to(0.2)
    plan[2:, 1] += 0.8
    refused = check_plan(plan, HOME, ARM, Limits())
    assert refused.first_offending_step == 2
    assert "joint_positions[1] moves" in refused.text
    # A plan that would start with a jump away from where the robot is.
    assert (
        check_plan(plan_to(0.2), HOME + 0.5 * np.eye(8, dtype=np.float32)[0], ARM, Limits()).first_offending_step == 0
    )


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.0, 5.0))
def test_what_the_embodiment_limits_always_passes(seed, scale):
    rng = np.random.default_rng(seed)
    start = np.clip(HOME + rng.normal(size=8), ARM.lower, ARM.upper)
    plan = ARM.limit_plan(HOME + scale * rng.normal(size=(8, 8)), start)
    assert check_plan(plan, start, ARM, Limits()) is None
