"""The prefilter and commands that go on until another comes: twists and a vehicle's control."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Twist, TwistStamped, Vector3
from prefilter_world import BAD, Surroundings, heartbeat, moves, verdict

from deepverse_ros import resources
from deepverse_ros.msg import PrefilterStatus, VehicleControl
from deepverse_ros.nodes.messages.time import stamp_seconds
from deepverse_ros.nodes.prefilter.node import PrefilterNode
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.finding import Finding

SLOWLY = Finding(Action.SLOW, "near", 1, 20, 15, 0.5)
BASE = """
name: base
dt: 0.1
base_frame: odom
tool_frame: base_link
home: [0.0, 0.0]
modalities:
  - {name: linear_x, units: m/s, lower: [-0.5], upper: [1.0], max_rate: [20.0]}
  - {name: angular_z, units: rad/s, lower: [-1.0], upper: [1.0], max_rate: [40.0]}
camera: {frame_id: camera, near: 0.3, far: 10.0}
"""
VEHICLE = {"embodiment": "vehicle", "command_type": "vehicle_control"}


@pytest.fixture
def base(tmp_path: Path) -> str:
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return str(path)


def driven(world: Surroundings, message: Callable[[], object], values: list[float], width: float) -> Surroundings:
    """The world model judges commands within `width` of these values; `message` makes what is sent."""
    names, robot = world.node.gate.layout.names, world.node._embodiment.name
    world.commanded = message
    world.judgement = lambda: verdict(
        world.now, world.finding, np.array(values), width=width, names=names, frame="odom", robot=robot
    )
    world.open()
    world.drive(0.4)  # it goes faster by its largest rates
    return world


def test_how_twists_are_read_and_written(robot, base):
    node = robot.start(
        PrefilterNode, embodiment=base, command_type="twist_stamped", command_frame="base_link", mode="monitor"
    )
    assert node.gate.layout.names == ("linear_x", "angular_z")
    assert not node.gate.layout.position.any()

    def read(frame: str = "base_link", **values: float) -> str:
        message = TwistStamped()
        message.header.frame_id = frame
        for name, value in values.items():
            part, axis = name.split("_")
            setattr(getattr(message.twist, part), axis, value)
        incoming = node.format.read(message, None)
        return incoming.problem or str(incoming.command.values[0].tolist())

    assert read(linear_x=0.5, angular_z=-0.2) == "[0.5, -0.2]"
    assert "frame_id is 'map'; expected 'base_link'" in read("map")
    assert "linear_y is 0.1; this robot has only linear_x, angular_z" in read(linear_y=0.1)
    assert "linear_z is nan" in read(linear_z=math.nan)
    rest = node.format.write(node._rest(), node.get_clock().now().to_msg())
    assert rest.header.frame_id == "base_link"
    assert rest.twist.linear.x == rest.twist.angular.z == 0.0


@pytest.mark.parametrize(("kind", "name"), [(Twist, "twist"), (TwistStamped, "twist_stamped")])
def test_a_base_that_is_driven_by_twists(robot, base, kind, name):
    world = Surroundings(robot, kind, embodiment=base, command_type=name)

    def message() -> Twist | TwistStamped:
        twist = Twist(linear=Vector3(x=0.5), angular=Vector3(z=-0.2))
        return twist if kind is Twist else TwistStamped(header=heartbeat(world.now), twist=twist)

    def velocities(sent: Twist | TwistStamped) -> list[float]:
        assert kind is Twist or (
            sent.header.frame_id == "base_link" and 0 <= world.now - stamp_seconds(sent.header.stamp) < 1
        )
        twist = sent if kind is Twist else sent.twist
        return [getattr(vector, axis) for vector in (twist.linear, twist.angular) for axis in "xyz"]

    driven(world, message, [0.5, -0.2], 0.02)
    passed = world.drive(0.3)
    assert passed
    assert all(velocities(m) == [0.5, 0, 0, 0, 0, -0.2] for m in passed)
    world.finding = SLOWLY
    world.drive_until(lambda: world.state == PrefilterStatus.SLOW)
    assert velocities(world.drive(0.2)[-1]) == [0.25, 0, 0, 0, 0, -0.1]
    world.finding = BAD
    world.drive_until(lambda: world.state == PrefilterStatus.STOP)
    assert {tuple(velocities(m)) for m in world.drive(0.3)} == {(0.0,) * 6}
    world.finding = Finding(Action.CLEAR)
    world.open()
    world.judged = False
    world.drive_until(lambda: world.state == PrefilterStatus.FALLBACK)
    assert {tuple(velocities(m)) for m in world.drive(0.3)} == {(0.0,) * 6}


def control(
    steering: float, throttle: float, brake: float, now: float = 0.0, frame: str = "base_link"
) -> VehicleControl:
    header = heartbeat(now)
    header.frame_id = frame
    return VehicleControl(header=header, steering=steering, throttle=throttle, brake=brake)


def told(message: VehicleControl) -> tuple[float, float, float]:
    return message.steering, message.throttle, message.brake


@pytest.mark.parametrize("turned", [False, True])
def test_how_a_vehicles_control_is_read_and_written(robot, tmp_path, turned):
    file = tmp_path / "vehicle.yaml"
    description = yaml.safe_load(resources.find("config/embodiments/vehicle.yaml").read_text())
    if turned:
        description["modalities"].reverse()
    file.write_text(yaml.safe_dump(description))
    node = robot.start(PrefilterNode, command_frame="base_link", mode="monitor", **VEHICLE | {"embodiment": str(file)})
    layout, names = node.gate.layout, ("steering", "throttle", "brake")
    order = [layout.names.index(name) for name in names]
    assert not layout.position.any()
    assert layout.scaled[order].tolist() == [False, True, False]
    np.testing.assert_array_equal(layout.rest[order], [math.nan, 0, 1])
    incoming = node.format.read(control(0.2, 0.3, 0.1, 5.5), None)
    assert (incoming.problem, incoming.command.names, incoming.command.stamp) == ("", names, 5.5)
    assert incoming.command.values.tolist() == [[0.2, 0.3, 0.1]]
    sent = node.format.write(incoming.command, Time(sec=7))
    assert told(sent) == (0.2, 0.3, 0.1)
    assert (sent.header.frame_id, sent.header.stamp.sec) == ("base_link", 7)
    assert "frame_id is 'map'; expected 'base_link'" in node.format.read(control(0, 0, 1, frame="map"), None).problem
    assert math.isnan(node.format.read(control(0, math.nan, 1), None).command.values[0, 1])


@pytest.fixture
def vehicle(robot) -> Surroundings:
    world = Surroundings(robot, VehicleControl, **VEHICLE)
    return driven(world, lambda: control(0.2, 0.4, 0.0, world.now), [0.2, 0.4, 0.0], 0.05)


def test_a_vehicle_goes_while_verdicts_are_clear_and_slows_by_its_throttle_only(vehicle):
    passed = vehicle.drive(0.3)
    assert passed
    assert {told(m) for m in passed} == {(0.2, 0.4, 0.0)}
    vehicle.finding = SLOWLY
    vehicle.drive_until(lambda: vehicle.state == PrefilterStatus.SLOW)
    assert told(vehicle.drive(0.2)[-1]) == (0.2, 0.2, 0.0)


def test_a_vehicle_that_must_not_go_on_brakes_and_keeps_its_steering(vehicle):
    vehicle.finding = BAD
    vehicle.drive_until(lambda: vehicle.state == PrefilterStatus.STOP)
    # The verdict answers for this one as well, and it does not pass: not even its steering.
    stopped = vehicle.drive(0.3, control(0.22, 0.4, 0.0))
    assert stopped
    assert {told(m) for m in stopped} == {(0.2, 0.0, 1.0)}
    assert vehicle.status[-1].zone == "person"


def test_a_vehicle_brakes_when_verdicts_commands_or_the_prefilter_cease(vehicle):
    vehicle.judged = False
    vehicle.drive_until(lambda: vehicle.state == PrefilterStatus.FALLBACK)
    assert {told(m) for m in vehicle.drive(0.3)} == {(0.2, 0.0, 1.0)}
    vehicle.judged = True
    vehicle.open()
    vehicle.robot.until(lambda: vehicle.around() or not moves(vehicle.out[-1][1]))  # nobody commands it any more
    assert told(vehicle.out[-1][1]) == (0.2, 0.0, 1.0)
    vehicle.open()
    vehicle.node.trigger_deactivate()
    vehicle.robot.until(lambda: not moves(vehicle.out[-1][1]))
    assert told(vehicle.out[-1][1]) == (0.2, 0.0, 1.0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.2, math.nan, 0.0), "throttle is nan"),
        ((0.2, 1.5, 0.0), "throttle is 1.5, allowed are 0 to 1"),
        ((-0.9, 0.4, 0.0), "steering is -0.9, allowed are -0.6 to 0.6"),
        ((-0.6, 0.4, 0.0), "steering changes by"),
    ],
)
def test_a_vehicles_control_that_is_wrong_makes_it_brake(vehicle, values, said):
    begin = len(vehicle.out)
    vehicle.commands.publish(control(*values))
    vehicle.robot.until(lambda: vehicle.state == PrefilterStatus.FALLBACK)
    vehicle.robot.until(lambda: len(vehicle.out) > begin and told(vehicle.out[-1][1]) == (0.2, 0.0, 1.0))
    assert said in vehicle.status[-1].text
