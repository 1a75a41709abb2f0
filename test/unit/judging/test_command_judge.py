"""Commands judged by what the shipped model imagines of them, in scenes of the simulated arm whose truth is known."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from deepverse_ros.errors import ConfigError
from deepverse_ros.evaluation.prefilter.pushes import draw_push
from deepverse_ros.evaluation.prefilter.scenarios import Scenario, draw, look, obstacle_zones, tool_zones
from deepverse_ros.judging.command_judge import CommandJudge
from deepverse_ros.judging.command_rollout import CommandRollout
from deepverse_ros.judging.command_stream import SetpointStream
from deepverse_ros.judging.moments import Seen
from deepverse_ros.judging.tracked_command import TrackedCommand
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.planning.robot_control import RobotControl
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.robot.self_filter import RobotSelfFilter
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.commands import Command, Layout
from deepverse_ros.safety.finding import Finding
from deepverse_ros.safety.verdict import Verdict
from deepverse_ros.safety.zones import Zones
from deepverse_ros.simulation.arm.simulation import ArmSimulation
from deepverse_ros.simulation.arm.tasks.push import Push

ARM = Embodiment.load("arm")
LAYOUT = Layout.of(ARM)
BODY, LAYOUT_COURSE = RobotSelfFilter(ARM), CommandRollout(ARM, LAYOUT)
STAMP, NOW = 50.0, 50.2


@dataclass
class Place:
    """The simulated arm, the model that looks at it, and the commands of the scenario that it stands in."""

    simulation: ArmSimulation
    control: RobotControl
    scenario: Scenario | None = None

    def begin(self, number: int) -> TrackedCommand:
        self.scenario = draw(self.simulation, 5, number, 8)
        look(self.simulation, self.control, self.scenario)
        return self.command(self.scenario.commands)

    def command(self, values: np.ndarray) -> TrackedCommand:
        times = ARM.dt * np.arange(1, len(values) + 1)
        return TrackedCommand(
            Command(np.asarray(values, float), times, LAYOUT.names, 0.0, self.simulation.joints), "c1"
        )

    def watch(self, zones: Zones) -> CommandJudge:
        return CommandJudge(self.control.model, ARM, zones, CommandRollout(ARM, LAYOUT))

    def observation(self) -> Observation:
        rgb, depth = self.simulation.render()
        sim = self.simulation
        return Observation.from_numpy(rgb[None], depth[None], sim.intrinsics, sim.camera_to_world)

    def seen(self, watch: CommandJudge) -> Seen:
        joints = self.simulation.joints.astype(np.float32)
        return watch.see(self.control.believe(), self.observation(), joints, STAMP)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with ArmSimulation(width=128, height=128, embodiment=ARM, n_objects=3, n_obstacles=1) as simulation:
        yield Place(simulation, RobotControl(WorldModel.load("models/arm", device="cpu")))
    torch.set_num_threads(threads)


def keep_out(size: list[float], position: list[float], **changes) -> Zones:
    zone = {"name": "box", "type": "stop", "of": "robot", "frame_id": "base_link"} | changes
    return Zones.model_validate(
        {"zones": [zone | {"shape": {"kind": "box", "size": size}, "position": [float(v) for v in position]}]}
    )


@pytest.mark.parametrize("number", [2, 4, 6])
def test_a_command_that_touches_an_obstacle_is_stopped_before_it_does(place, number):
    command = place.begin(number)
    watch = place.watch(obstacle_zones(place.simulation, ARM))
    verdict = watch.judge(place.seen(watch), command, NOW).verdict
    assert not verdict.problem(8)
    assert verdict.finding.action == Action.STOP
    assert verdict.finding.zone == "obstacle_0"
    assert verdict.finding.step * ARM.dt <= place.scenario.touches
    assert (verdict.stamp, verdict.image_stamp, verdict.envelope.start, verdict.plan_id) == (NOW, STAMP, STAMP, "c1")
    # Without a map of anything: what is seen around the hand as it is imagined to go.
    blind_to_maps = place.watch(tool_zones(ARM))
    found = blind_to_maps.judge(place.seen(blind_to_maps), command, NOW).verdict.finding
    assert found.action == Action.STOP
    assert found.zone == "at_the_hand"


@pytest.mark.parametrize("number", [3, 5, 7, 9])
def test_a_harmless_command_is_clear(place, number):
    command = place.begin(number)
    for zones in (obstacle_zones(place.simulation, ARM), tool_zones(ARM)):
        watch = place.watch(zones)
        finding = watch.judge(place.seen(watch), command, NOW).verdict.finding
        assert finding.action == Action.CLEAR, finding


def test_a_stream_is_answered_for_ahead_of_time_and_not_where_a_zone_is(place):
    place.begin(3)
    start, maker = place.simulation.joints.astype(float), SetpointStream(LAYOUT)

    def judged(zones: Zones, refreshed: bool = False) -> tuple[Verdict, np.ndarray]:
        """Of set-points that turn joint 1 by 0.3 rad/s, the newest where the robot is; and the turn of 0.6 s."""
        for k in range(51):
            value = start + 0.3 * (k - 50) * 0.02 * np.eye(8)[0]
            stream = maker.add(Command(value[None], np.array([0.02]), LAYOUT.names), STAMP - 1 + 0.02 * k)
        watch = place.watch(zones)
        watched = TrackedCommand(Command.setpoint(value), stream=replace(stream, lasts=0.6))
        seen = place.seen(watch)
        verdict = watch.judge(seen, watched, NOW).verdict
        return (watch.refresh(seen, watched, NOW) if refreshed else verdict), start + 0.18 * np.eye(8)[0]

    far = keep_out([0.1, 0.1, 0.1], [-1.0, 0.0, 0.5])
    for refreshed in (False, True):
        verdict, turned = judged(far, refreshed)
        assert not verdict.problem(8)
        assert verdict.finding.action == Action.CLEAR
        assert verdict.envelope.tube
        assert verdict.envelope.excess(np.zeros(2), np.stack([start, turned]), 0.3) <= 1
    # Where the hand will be.
    tool = BODY.forward_kinematics(LAYOUT_COURSE.modalities((start + 0.5 * np.eye(8)[0])[None]))["tool0"][0, :3, 3]
    verdict, _ = judged(keep_out([0.1, 0.1, 0.1], tool))
    beyond = np.stack([start, start + 0.5 * np.eye(8)[0]])
    assert verdict.finding.action != Action.CLEAR or verdict.envelope.excess(np.zeros(2), beyond, 0.3) > 1
    here = BODY.forward_kinematics(LAYOUT_COURSE.modalities(start[None]))["tool0"][0, :3, 3]
    verdict, _ = judged(keep_out([0.1, 0.1, 0.1], here))
    assert (verdict.finding.action, verdict.finding.zone) == (Action.STOP, "box")
    assert verdict.envelope.excess(np.zeros(1), start[None], 0.3) <= 1


@pytest.mark.parametrize("held", [0.0, 0.06, 0.3, 0.6])
def test_a_stream_may_go_away_from_a_zone_wherever_it_stands(place, held):
    """There is no place at which nothing passes any more: the tube around its way is wider than the way itself."""
    place.begin(3)
    watch = place.watch(keep_out([0.4, 0.6, 1.0], [-0.55, -0.6, 0.5]))  # behind the arm, turned to by joint 1
    seen, home = place.seen(watch), np.array(ARM.home, float)

    def judged(stands: float, sign: int) -> Verdict:
        """Of a hand that leads joint 1 on at 0.3 rad/s, `held` seconds after the arm has been stopped there."""
        joints, maker = home + (stands - home[0]) * np.eye(8)[0], SetpointStream(LAYOUT)
        for k in range(101):
            value = joints + sign * 0.3 * max(held + (k - 100) * 0.02, 0.0) * np.eye(8)[0]
            stream = maker.add(Command(value[None], np.array([0.02]), LAYOUT.names), STAMP - 2 + 0.02 * k)
        stream = replace(stream, lasts=0.6, places=np.stack([joints, joints]))
        watched = TrackedCommand(Command.setpoint(value), stream=stream)
        return watch.judge_still(replace(seen, joints=joints.astype(np.float32)), watched, NOW)

    clear, stopped = 0, 0
    for stands in np.arange(-1.8, -2.06, -0.01):
        away, towards = judged(stands, 1), judged(stands, -1)
        if held > 0:
            assert away.finding.action == Action.CLEAR or away.finding.leads_out, stands
        assert not towards.finding.leads_out, stands
        clear += away.finding.action == Action.CLEAR
        if not away.finding.leads_out:
            continue
        stopped += 1
        # What leads out answers for the way on, as soon as it can be told, and for none that turns round to the zone.
        joints, lasts = home + (stands - home[0]) * np.eye(8)[0], 0.5 if held >= 0.3 else 0.0
        on, back = (joints + turn * np.eye(8)[0] for turn in (0.3 * (held + lasts), -0.03))
        assert away.envelope.excess(np.zeros(2), np.stack([joints, on]), 0.3) <= 1
        assert away.envelope.excess(np.zeros(1), back[None], 0.3) > 1
    assert clear > 3
    assert stopped > 3 or held == 0


def test_the_robot_does_not_see_itself(place):
    """Every pixel that is nearer than what stands behind the arm shows the arm; none may be left over."""
    watch = place.watch(tool_zones(ARM))
    rng = np.random.default_rng(0)
    with ArmSimulation(width=128, height=128, embodiment=ARM, n_objects=0, n_obstacles=0) as simulation:
        control = RobotControl(place.control.model)
        own, depths = [], []
        for _ in range(40):
            simulation.set_joints(rng.uniform(ARM.lower, ARM.upper))
            rgb, depth = simulation.render()
            joints = simulation.joints
            known = {"intrinsics": simulation.intrinsics, "camera_to_world": simulation.camera_to_world}
            if not depths:
                control.see(rgb, joints, depth, **known)
                belief = replace(control.believe(), novelty=torch.zeros(1))  # where it stretches to is unusual
            seen = watch.see(belief, Observation.from_numpy(rgb[None], depth[None], **known), joints, STAMP)
            own.append(seen.own[0])
            depths.append(seen.depth)
    depth, own = np.nan_to_num(np.stack(depths), nan=np.inf), np.stack(own)
    arm = depth < depth.max(0) - 0.02
    assert arm.sum() > 40 * 60
    assert (arm & ~own).sum() == 0


def test_what_is_seen_in_a_zone_counts_and_what_has_no_place_is_no_point(place):
    place.begin(3)
    obstacle = place.simulation.scene.obstacles[0]
    zones = Zones.model_validate(
        {
            "zones": [
                {
                    "name": "there", "type": "stop", "frame_id": "base_link", "min_points": 4,
                    "shape": {"kind": "box", "size": [0.25, 0.25, 0.3]},
                    "position": [*map(float, obstacle.position[:2]), 0.2],
                }
            ]
        }
    )  # fmt: skip
    watch = place.watch(zones)
    command = place.command(np.repeat(place.simulation.joints[None], 8, 0))
    finding = watch.judge(place.seen(watch), command, NOW).verdict.finding
    assert (finding.action, finding.step, finding.zone) == (Action.STOP, 0, "there")
    # The same future, of a scene in which nobody can tell how far anything is.
    blind = zones.model_copy(update={"min_seen": 500})
    unsure = CommandJudge(
        place.control.model, ARM, blind, CommandRollout(ARM, LAYOUT), replace(watch.settings, max_scale=0.0)
    )
    finding = unsure.judge(place.seen(unsure), command, NOW).verdict.finding
    assert finding.action == Action.STOP
    assert "only 0 points are seen" in finding.text


def test_who_cannot_see_stops(place):
    command = place.begin(3)
    watch = place.watch(tool_zones(ARM))
    belief, seen, joints = place.control.believe(), place.observation(), place.simulation.joints.astype(np.float32)
    noise = np.random.default_rng(0).integers(0, 255, (1, 128, 128, 3), np.uint8)
    sim = place.simulation
    strange = place.control.model.observe(Observation.from_numpy(noise, None, sim.intrinsics, sim.camera_to_world))
    without = (
        (strange, seen, joints, "out of distribution"),
        (belief, replace(seen, depth=None), joints, "no depth"),
        (belief, replace(seen, depth=torch.full_like(seen.depth, torch.nan)), joints, "no depth"),
        (replace(belief, intrinsics=None), seen, joints, "calibration"),
        (replace(belief, camera_to_world=None), seen, joints, "where the camera is"),
        (belief, seen, None, "where the robot is"),
    )
    for how, what, where, said in without:
        judged = watch.judge(watch.see(how, what, where, STAMP), command, NOW)
        assert judged.verdict.finding.action == Action.STOP
        assert said in judged.verdict.finding.text
        assert judged.verdict.finding.text.endswith("blind is not clear")
        assert not judged.verdict.problem(8)
        assert judged.future is None


def test_another_command_is_answered_at_once_where_the_scene_does_not_change_by_it(place):
    harmless = place.begin(3)
    watch = place.watch(obstacle_zones(place.simulation, ARM))
    seen = place.seen(watch)
    assert watch.refresh(seen, harmless, NOW) is None  # nothing was imagined yet
    watch.judge(seen, place.command(np.repeat(place.simulation.joints[None], 8, 0)), NOW)
    quick = watch.refresh(seen, harmless, NOW)
    assert quick.finding.action == Action.CLEAR
    assert quick.image_stamp == STAMP
    assert watch.refresh(replace(seen, stamp=STAMP + 0.1), harmless, NOW) is None
    touching = place.begin(4)
    seen = place.seen(watch)
    watch.judge(seen, place.command(np.repeat(place.simulation.joints[None], 8, 0)), NOW)
    assert watch.refresh(seen, touching, NOW) is None


def test_an_object_that_is_pushed_into_a_zone_stops_the_push_before_it_is_there(place):
    task = Push(place.simulation)
    for number in (0, 1):
        push = draw_push(task, 11, number)
        look(place.simulation, place.control, push)
        watch = place.watch(push.zones)
        seen, command = place.seen(watch), place.command(push.commands)
        assert watch.judge_still(seen, command, NOW).finding.action == Action.CLEAR
        # From rest its end is further than the horizon; as the way goes on it comes nearer.
        actions, entered = [], []
        for k, action in enumerate(push.commands):
            rest = replace(command, command=command.command.remaining(k * ARM.dt, 1.0)) if k else command
            actions.append(watch.judge(seen, rest, NOW).verdict.finding.action)
            place.simulation.step(action)
            entered.append(push.violated(place.simulation))
            rgb, depth = place.simulation.render()
            sim = place.simulation
            place.control.see(rgb, sim.joints, depth, intrinsics=sim.intrinsics, camera_to_world=sim.camera_to_world)
            seen = place.seen(watch)
        if push.dangerous:
            assert actions.index(Action.STOP) <= entered.index(True) - 3
        else:
            assert set(actions) == {Action.CLEAR}
            assert not any(entered)


def test_a_command_that_shoves_something_waits_for_its_own_imagination(place):
    push = draw_push(Push(place.simulation), 11, 0)
    look(place.simulation, place.control, push)
    watch = place.watch(push.zones)
    seen = place.seen(watch)
    stay = place.command(np.repeat(place.simulation.joints[None], 8, 0))
    watch.judge(seen, stay, NOW)
    assert watch.refresh(seen, place.command(push.commands), NOW) is None


def test_an_exclusion_in_an_unknown_frame_is_blind_and_no_error(place):
    command = place.begin(3)
    zones = [
        {"name": "table", "type": "exclusion", "frame_id": "cell"},
        {"name": "box", "type": "stop", "frame_id": "base_link"},
    ]
    watch = place.watch(
        Zones.model_validate({"zones": [z | {"shape": {"kind": "sphere", "radius": 1.0}} for z in zones]})
    )
    finding = watch.judge(place.seen(watch), command, NOW).verdict.finding
    assert finding.action == Action.STOP
    assert "where the frame 'cell'" in finding.text


def test_the_way_between_two_steps_counts(place):
    """A thing so small that a finger is past it from one step to the next."""
    place.begin(5)
    start = place.simulation.joints
    values = np.repeat(start[None], 8, 0)
    values[:, 0] += 0.29 * np.arange(1, 9)
    watch = place.watch(keep_out([0.004, 0.004, 0.004], [0, 0, 2.5]))
    ends, middle = (
        watch.body.forward_kinematics(watch.course.modalities(v)) for v in (values[2:4], values[2:4].mean(0)[None])
    )
    tip = (middle["finger_0"][0] @ (0, 0, 0.09, 1))[:3]
    assert not watch.body.self_mask(np.tile(tip, (2, 1, 1)), ends, 0.005).any()
    watch = place.watch(keep_out([0.004, 0.004, 0.004], tip))
    finding = watch.judge(place.seen(watch), place.command(values), NOW).verdict.finding
    assert (finding.action, finding.step) == (Action.STOP, 3)


def test_a_command_that_leads_out_of_a_zone_says_so(place):
    place.begin(3)
    start = place.simulation.joints
    watch = place.watch(obstacle_zones(place.simulation, ARM))
    at = watch.body.forward_kinematics(watch.course.modalities(start[None]))["tool0"][0, :3, 3]
    watch = place.watch(keep_out([0.1, 0.1, 0.1], at))
    values = np.repeat(start[None], 8, 0)
    values[:, 1] -= 0.12 * np.arange(1, 9)  # backwards and up
    seen = place.seen(watch)
    out = watch.judge(seen, place.command(values), NOW).verdict.finding
    assert (out.action, out.leads_out) == (Action.STOP, True)
    stay = watch.judge(seen, place.command(np.repeat(start[None], 8, 0)), NOW).verdict.finding
    assert (stay.action, stay.leads_out) == (Action.STOP, False)


def test_a_zone_that_goes_with_the_camera_counts_what_is_in_it(place):
    place.begin(3)
    stay = place.command(np.repeat(place.simulation.joints[None], 8, 0))
    in_base = np.append(place.simulation.scene.obstacles[0].position[:2], [0.2, 1.0])
    in_camera = (np.linalg.inv(place.simulation.camera_to_world) @ in_base)[:3]

    def judged(position: np.ndarray) -> Finding:
        zone = {"name": "seen", "type": "stop", "frame_id": "camera_optical_frame", "attached": True, "min_points": 4}
        zone |= {"shape": {"kind": "sphere", "radius": 0.15}, "position": [float(v) for v in position]}
        watch = place.watch(Zones.model_validate({"zones": [zone]}))
        return watch.judge(place.seen(watch), stay, NOW).verdict.finding

    found = judged(in_camera)
    assert (found.action, found.step, found.zone) == (Action.STOP, 0, "seen")
    assert found.points >= 4
    assert judged(in_camera * [1, 1, -1]).action == Action.CLEAR  # behind it
    assert judged(in_base[:3]).action == Action.CLEAR  # the same numbers in another frame are another place


def test_frames_of_zones(place):
    command = place.begin(3)
    with pytest.raises(ConfigError, match=r"zone 'box': frame_id 'lift' moves.*tool0"):
        place.watch(keep_out([1.0, 1.0, 1.0], [0, 0, 0], frame_id="lift", attached=True))
    far = keep_out([0.1, 0.1, 0.1], [0, 0, 0], frame_id="cell")
    unknown = place.watch(far)
    finding = unknown.judge(place.seen(unknown), command, NOW).verdict.finding
    assert finding.action == Action.STOP
    assert "where the frame 'cell' of a zone is is not known" in finding.text
    pose = np.eye(4)
    pose[:3, 3] = 0.0, 0.0, 3.0
    known = CommandJudge(place.control.model, ARM, far, CommandRollout(ARM, LAYOUT), lookup={"cell": pose}.get)
    assert known.judge(place.seen(known), command, NOW).verdict.finding.action == Action.CLEAR
    with pytest.raises(ConfigError, match="describes no body"):
        CommandJudge(place.control.model, Embodiment.load("drone"), far, CommandRollout(ARM, LAYOUT))
