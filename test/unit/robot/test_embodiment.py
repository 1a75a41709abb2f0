"""The shipped robot is sound, wrong YAML is named, and limited plans obey the limits."""

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepverse_ros import resources
from deepverse_ros.errors import EmbodimentError
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
ATOL = 1e-5


def values():
    return yaml.safe_load(resources.find("config/embodiments/arm.yaml").read_text())


def write(tmp_path, content):
    path = tmp_path / "robot.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_the_arm_is_consistent():
    assert ARM.name == "arm"
    assert ARM.action_dim == 8
    assert len(ARM.joint_names) == 7
    assert ARM.slices == {"joint_positions": slice(0, 7), "gripper_state": slice(7, 8)}
    assert (ARM.lower < ARM.home).all()
    assert (np.asarray(ARM.home) <= ARM.upper).all()
    assert ARM.max_step[0] == pytest.approx(1.483 * 0.2)
    assert ARM.max_step[7] == pytest.approx(0.5)


def test_joints_and_gripper_are_found_by_what_they_are_and_not_by_a_name(tmp_path):
    renamed = values()
    renamed["modalities"] = [
        m | {"name": name} for m, name in zip(renamed["modalities"], ("angles", "grip"), strict=True)
    ]
    del renamed["body"]
    robot = Embodiment.load(write(tmp_path, renamed))
    assert (robot.joint_names, robot.joints, robot.gripper.name) == (ARM.joint_names, slice(0, 7), "grip")
    for name in ("drone", "vehicle"):
        other = Embodiment.load(name)
        assert (other.joint_names, other.joints, other.gripper) == ((), slice(0, 0), None)


def test_a_description_that_names_the_joints_beside_the_modalities_is_the_same_robot(tmp_path):
    old = values()
    old["joint_names"] = old["modalities"][0].pop("joints")
    del old["modalities"][1]["opening"]
    assert Embodiment.load(write(tmp_path, old)) == ARM
    old["joint_names"] = old["joint_names"][:5]
    with pytest.raises(EmbodimentError, match=r"joint_names: 5 names, and no modality has as many values: \[7, 1\]"):
        Embodiment.load(write(tmp_path, old))
    old["joint_names"] = 3
    with pytest.raises(EmbodimentError, match="joint_names: expected a list of names, got 3"):
        Embodiment.load(write(tmp_path, old))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m[1].update(joints=["finger"]), "joint_positions and gripper_state have joints; one may"),
        (lambda m: m[1].update(upper=[2.0]), "modality 'gripper_state': an opening is one value from 0 to 1"),
        (lambda m: m.append(m[1] | {"name": "other"}), "gripper_state and other have an opening; one may"),
    ],
)
def test_two_of_a_kind_and_an_opening_that_is_none_are_named(tmp_path, change, said):
    changed = values()
    change(changed["modalities"])
    changed["home"] = changed["home"] + [1.0] * (len(changed["modalities"]) - 2)
    with pytest.raises(EmbodimentError, match=said):
        Embodiment.load(write(tmp_path, changed))


def test_a_modality_without_a_rate_may_cross_its_whole_range(tmp_path):
    changed = values()
    del changed["modalities"][1]["max_rate"]
    assert Embodiment.load(write(tmp_path, changed)).max_step[7] == pytest.approx(1.0)


def test_robots_compare_by_what_they_are_also_after_use(tmp_path):
    a, b = Embodiment.load("arm"), Embodiment.load("arm")
    assert len(a.lower) == 8  # cached in a only
    assert a == b
    assert hash(a) == hash(b)
    changed = values()
    changed["dt"] = 0.1
    assert Embodiment.load(write(tmp_path, changed)) != a
    assert a != "arm"


plans = arrays(np.float32, (5, 8), elements=st.floats(-10, 10, width=32))


@given(plans)
def test_limited_plans_obey_position_and_rate(plan):
    start = np.asarray(ARM.home, np.float32)
    out = ARM.limit_plan(plan, start)
    assert out.dtype == np.float32
    assert out.shape == plan.shape
    assert (out >= ARM.lower - ATOL).all()
    assert (out <= ARM.upper + ATOL).all()
    steps = np.diff(np.vstack([start, out]), axis=0)
    assert (np.abs(steps) <= ARM.max_step + ATOL).all()


@given(plans)
def test_limiting_twice_changes_nothing(plan):
    start = np.asarray(ARM.home, np.float32)
    once = ARM.limit_plan(plan, start)
    assert np.allclose(ARM.limit_plan(once, start), once, atol=ATOL)


@given(st.integers(0, 2**32 - 1))
def test_a_plan_within_the_limits_is_left_alone(seed):
    rng = np.random.default_rng(seed)
    start = np.asarray(ARM.home, np.float32)
    plan = np.clip(start + np.cumsum(rng.uniform(-0.9, 0.9, (8, 8)) * ARM.max_step, axis=0), ARM.lower, ARM.upper)
    assert np.allclose(ARM.limit_plan(plan, start), plan, atol=ATOL)


@given(st.integers(0, 2**32 - 1))
def test_batches_are_limited_each_from_its_own_start(seed):
    rng = np.random.default_rng(seed)
    batch = rng.normal(0, 2, (3, 4, 5, 8))
    starts = rng.uniform(ARM.lower, ARM.upper, (3, 4, 8))
    out = ARM.limit_plan(batch, starts)
    assert np.allclose(out[2, 1], ARM.limit_plan(batch[2, 1], starts[2, 1]))
    shared = ARM.limit_plan(batch, starts[0, 0])
    assert np.allclose(shared[1, 3], ARM.limit_plan(batch[1, 3], starts[0, 0]))


def test_a_robot_that_starts_outside_its_limits_is_brought_back_inside():
    start = ARM.upper + 1
    out = ARM.limit_plan(np.tile(ARM.upper, (3, 1)), start)
    assert (out <= ARM.upper).all()


def test_the_body_is_the_one_of_the_file_that_describes_this_very_robot():
    bodiless = ARM.model_copy(update={"body": None})
    assert bodiless.with_known_body() == ARM
    assert ARM.with_known_body() == ARM
    slower = bodiless.model_copy(update={"dt": 0.1})
    assert slower.with_known_body() is slower, "it has the name of a robot that it is not"
    stranger = bodiless.model_copy(update={"name": "submarine"})
    assert stranger.with_known_body() is stranger


def test_actions_place_the_body_where_they_are_what_moves_its_links():
    assert ARM.actions_place_body
    assert not ARM.model_copy(update={"body": None}).actions_place_body
    only_gripper = {"modalities": ARM.modalities[1:], "proprioception": ARM.modalities, "home": ARM.home[7:]}
    assert not ARM.model_copy(update=only_gripper).actions_place_body
    plans = np.arange(48.0).reshape(2, 3, 8)
    np.testing.assert_array_equal(ARM.action_values(plans)["gripper_state"], plans[..., 7:])
    np.testing.assert_array_equal(ARM.action_values(plans)["joint_positions"], plans[..., :7])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["modalities"][0].update(lower=[0.0]), "joint_positions.*lower has 1 values, upper has 7"),
        (lambda v: v["modalities"][1].update(lower=[1.0]), "gripper_state.*below"),
        (lambda v: v["modalities"][1].update(max_rate=[1.0, 2.0]), "gripper_state.*max_rate has 2"),
        (lambda v: v["modalities"][1].update(max_rate=[-1.0]), "gripper_state.*positive"),
        (lambda v: v["modalities"][1].update(name="joint_positions"), "every name may stand once"),
        (lambda v: v.update(home=[0.0]), "home: expected 8 values .* got 1"),
        (lambda v: v["camera"].update(near=9.0), "near .9.0 m. must be below far"),
        (lambda v: v.update(dt=0), "dt: .*greater than or equal to 0.001"),
        (lambda v: v.update(wheels=4), "wheels: .*not permitted"),
        (lambda v: v.pop("camera"), "camera: .*required"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, change, message):
    changed = values()
    change(changed)
    path = write(tmp_path, changed)
    with pytest.raises(EmbodimentError, match=message) as error:
        Embodiment.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(("content", "message"), [("a: [1", "not valid YAML"), ("- 1", "expected a mapping")])
def test_a_file_that_is_no_robot_is_named(tmp_path, content, message):
    with pytest.raises(EmbodimentError, match=message):
        Embodiment.load(write(tmp_path, content))


def test_an_unknown_robot_is_named():
    with pytest.raises(EmbodimentError, match=r"unknown embodiment 'submarine'.*not found"):
        Embodiment.load("submarine")
