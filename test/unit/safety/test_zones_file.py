"""Files of zones: the example is what it says, and what is wrong is named."""

import numpy as np
import pytest
import yaml
from zones_made import EXAMPLE, TIMES, example

from deepverse_ros.errors import ConfigError, ResourceError
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.robot.self_filter import RobotSelfFilter
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.finding import judge
from deepverse_ros.safety.view import View
from deepverse_ros.safety.zones import Zones


def by_name(values, name):
    return next(z for z in values["zones"] if z["name"] == name)


def test_the_example_shows_every_type_and_knows_its_frames():
    loaded = Zones.load(EXAMPLE)
    assert {z.type for z in loaded.zones} == {"stop", "slowdown", "limit", "approach", "keep_in", "exclusion"}
    assert loaded.frames == {"base_link": False, "tool0": True}
    assert [z.name for z in loaded.checked] == [z.name for z in loaded.zones if z.type != "exclusion"]
    assert loaded.windows(TIMES).any(1).all()


def test_the_arm_at_home_enters_no_zone_of_the_example():
    arm = Embodiment.load("arm")
    body, home = RobotSelfFilter(arm), np.array([arm.home])
    values = {name: home[:, part] for name, part in arm.slices.items()}
    centres, radii = body.collision_spheres(
        body.forward_kinematics(values), {name: 1e-3 * np.ones_like(v) for name, v in values.items()}
    )
    view = View("base_link", np.zeros((1, 0, 3)), centres, radii, {"tool0": np.eye(4)})
    assert not Zones.load(EXAMPLE).count(view, TIMES[:1]).any()


def test_the_example_lets_an_empty_table_pass_and_stops_for_a_person():
    loaded = Zones.load(EXAMPLE)
    rng = np.random.default_rng(0)
    table = np.concatenate([rng.uniform((-0.5, -1, -0.01), (1.2, 1, 0.01), (4, 600, 3))])
    robot = np.tile([[[0.4, 0.0, 0.5], [0.0, 0.0, 0.3]]], (4, 1, 1))
    tool = np.tile(np.eye(4), (4, 1, 1))
    tool[:, :3, 3] = [-0.4, 0.0, -0.5]  # from the base's frame to the tool's
    empty = View("base_link", table, robot, 0.08, {"tool0": tool})
    assert judge(loaded, empty, TIMES).action == Action.CLEAR
    person = table.copy()
    person[2:, :80] = [1.0, 0.1, 0.3]
    found = judge(loaded, View("base_link", person, robot, 0.08, {"tool0": tool}), TIMES)
    assert (found.action, found.zone, found.step, found.points, found.threshold) == (Action.STOP, "person", 2, 80, 70)
    assert found.scale == 0
    robot = robot.copy()
    robot[3, 0] = [-0.5, -0.5, 0.4]
    found = judge(loaded, View("base_link", table, robot, 0.08, {"tool0": tool}), TIMES)
    assert (found.zone, found.step) == ("cabinet", 3)


WRONG = [
    ("person", lambda z: z.update(colour="red"), "zone 'person': colour: .*not permitted.*got 'red'"),
    ("person", lambda z: z.update(type="halt"), "zone 'person': .*'halt'.*'type'.*'stop', 'slowdown'"),
    ("person", lambda z: z.pop("type"), "zone 'person': .*'type'"),
    ("person", lambda z: z.pop("frame_id"), "zone 'person': frame_id: .*required"),
    ("person", lambda z: z.update(min_points=0), "zone 'person': min_points: .*greater than or equal to 1, got 0"),
    ("person", lambda z: z.update(min_points=1.5), "zone 'person': min_points: .*integer, got 1.5"),
    ("person", lambda z: z.update(attached="maybe"), "zone 'person': attached: .*boolean, got 'maybe'"),
    ("person", lambda z: z.update(of="people"), "zone 'person': of: .*'scene' or 'robot', got 'people'"),
    ("person", lambda z: z.update(position=[0, 0]), "zone 'person': position.2: .*required"),
    ("person", lambda z: z["shape"].update(bottom=float("nan")), "zone 'person': shape.bottom: .*finite.*got nan"),
    ("person", lambda z: z["shape"].update(bottom=2), "zone 'person': shape: bottom .2.0 m. must be below top .0.8 m."),
    ("person", lambda z: z["shape"].update(vertices=[[0, 0], [1, 0]]), "'person': shape.vertices: .*at least 3 items"),
    (
        "person",
        lambda z: z["shape"].update(vertices=[[0, 0], [2, 0], [0.5, 0.5], [0, 2]]),
        "'person': shape: vertices: the polygon must be convex; it turns the other way at corner 2",
    ),
    (
        "person",
        lambda z: z["shape"].update(vertices=[[0, 0], [1, 1], [1, 0], [0, 1]]),
        "'person': shape: vertices: the polygon must not intersect itself",
    ),
    (
        "person",
        lambda z: z["shape"].update(
            vertices=[[np.cos(a).item(), np.sin(a).item()] for a in np.arange(5) * 0.8 * np.pi]
        ),
        "'person': shape: vertices: the polygon must not intersect itself",
    ),
    (
        "person",
        lambda z: z["shape"].update(vertices=[[0, 0], [1, 0], [2, 0]]),
        "'person': shape: vertices: the polygon must",
    ),
    ("person", lambda z: z["shape"].update(vertices=[[0, 0], [0, 0], [2, 1]]), "'person': shape: .*the same point"),
    ("at_the_gripper", lambda z: z["shape"].update(radius=-0.1), "shape.radius: .*greater than 0, got -0.1"),
    ("at_the_gripper", lambda z: z["shape"].update(radius=True), "shape.radius: .*valid number, got True"),
    ("at_the_gripper", lambda z: z["shape"].update(radius="0.1"), "shape.radius: .*valid number, got '0.1'"),
    ("at_the_gripper", lambda z: z["shape"].update(kind="ball"), "'at_the_gripper': shape: .*'ball'.*'kind'.*'sphere'"),
    ("at_the_gripper", lambda z: z["shape"].update(height=1.0), "shape.height: .*not permitted"),
    ("at_the_gripper", lambda z: z.update(scale=1.0), "'at_the_gripper': scale: .*less than 1, got 1.0"),
    (
        "at_the_gripper",
        lambda z: z["window"].update({"from": 2.0}),
        "window: from .2 seconds. must not be after to .0.8",
    ),
    ("at_the_gripper", lambda z: z["window"].update(unit="hours"), "window.unit: .*'seconds' or 'steps', got 'hours'"),
    ("at_the_gripper", lambda z: z["window"].update({"from": -1}), "window.from: .*greater than or equal to 0, got -1"),
    ("at_the_gripper", lambda z: z["window"].update(unit="steps"), "window: from, to: steps are whole numbers, .*0.8"),
    ("low", lambda z: z.update(max_rate={}), "zone 'low': max_rate: .*at least 1 item"),
    ("low", lambda z: z.update(max_rate={"*": 0.0}), "zone 'low': max_rate.*: .*greater than 0, got 0.0"),
    ("coming_person", lambda z: z.update(stop_time=1.0), "'coming_person': stop_time .1 s. must be below time .1 s."),
    ("workspace", lambda z: z.update(of="scene"), "'workspace': of: a keep_in zone .* must be robot, got scene"),
    ("workspace", lambda z: z.update(scale=0.5), "zone 'workspace': scale: .*not permitted"),
    ("table", lambda z: z.update(name="low"), "zone 'low': name: every name may stand once, this one stands 2"),
    ("person", lambda z: z.update(name=""), "zone number 3: name: .*at least 1 character, got ''"),
    ("person", lambda z: z.update(name="  "), "zone number 3: name: .*at least 1 character"),
    ("person", lambda z: z.update(name=5), "zone number 3: name: .*string, got 5"),
]


@pytest.mark.parametrize(("name", "change", "message"), WRONG)
def test_a_wrong_field_is_named(tmp_path, name, change, message):
    values = example()
    change(by_name(values, name))
    path = tmp_path / "zones.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=message) as error:
        Zones.load(path)
    assert str(path) in str(error.value)
    assert "<" not in str(error.value)  # no object's repr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("zones: [", "not valid YAML"),
        ("- 1", "expected a mapping of fields, got list"),
        ("", "expected a mapping"),
        ("zones: []", "at least one is needed"),
        ("zones: 7", "zones: .*got 7"),
        ("zones: [7]", "zone number 1: .*got 7"),
        ("zones: []\nlimits: 1", "limits: .*not permitted"),
        ("min_seen: 0\nzones: []", "min_seen: .*got 0"),
        ("{zones: [{name: a, type: exclusion, frame_id: b, shape: {kind: sphere, radius: 1}}]}", "not an exclusion"),
    ],
)
def test_a_file_without_zones_is_named(tmp_path, content, message):
    path = tmp_path / "zones.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        Zones.load(path)


def test_a_file_that_is_missing_is_named():
    with pytest.raises(ResourceError, match=r"nowhere\.yaml"):
        Zones.load("nowhere.yaml")
