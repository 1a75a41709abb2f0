"""The world model's side of the safety prefilter: imagines what a command leads to, and holds that against the zones.

Everything is in the robot's base frame, metres. The future of a command is judged twice over: by what the world model
imagines of the scene (points of its depth pictures that are not the robot), and by where the command takes the robot's
own body (kinematics alone, which needs no picture).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch

from deepverse_ros import geometry
from deepverse_ros.errors import ConfigError
from deepverse_ros.judging import push_prediction
from deepverse_ros.judging.command_rollout import CommandRollout
from deepverse_ros.judging.command_stream import Tube
from deepverse_ros.judging.moments import Imagined, Judged, JudgeSettings, Seen
from deepverse_ros.judging.occlusion_memory import OccludedPoints, hidden
from deepverse_ros.judging.tracked_command import TrackedCommand
from deepverse_ros.judging.tube_judging import TubeJudging
from deepverse_ros.model.belief import Belief
from deepverse_ros.model.future import Future
from deepverse_ros.model.memory import Memory
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.robot.self_filter import RobotSelfFilter
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.finding import Finding, judge
from deepverse_ros.safety.standing import Standing, standing
from deepverse_ros.safety.verdict import Verdict
from deepverse_ros.safety.view import Slack, View
from deepverse_ros.safety.zones import Zones

_FAR = 0.98  # share of the camera's range from which on depth says "that far or farther"
_SAME = 0.02  # metres of depth within which a pixel still shows what it showed


class CommandJudge:
    """Judges commands by their imagined future.

    Args:
        embodiment: with the body that the checkpoint's own may lack.
        course: what commands mean.
        lookup: (4, 4) from a frame to the base frame, None where it is not known: for zones in frames that are neither
            the base, a link nor the camera.
    Raises: ConfigError for zones that can not be judged with this robot.
    """

    def __init__(
        self, model: WorldModel, embodiment: Embodiment, zones: Zones, course: CommandRollout,
        settings: JudgeSettings | None = None,
        lookup: Callable[[str], np.ndarray | None] = lambda frame: None,
    ) -> None:  # fmt: skip
        self.model = model
        self.embodiment = embodiment
        self.zones = zones
        self.course = course
        self.settings = settings or JudgeSettings()
        self._lookup = lookup
        self.body = RobotSelfFilter(embodiment) if embodiment.body is not None or zones.watches("robot") else None
        self._links = {embodiment.base_frame} | ({link.name for link in self.body.body.links} if self.body else set())
        for zone in zones.zones:
            known = zone.frame_id in self._links or zone.frame_id == embodiment.camera.frame_id
            if zone.attached and not known:
                raise ConfigError(
                    f"zone '{zone.name}': frame_id '{zone.frame_id}' moves, and where it will be is not known; known "
                    f"are {', '.join(sorted(self._links))} and {embodiment.camera.frame_id}"
                )
        steps = np.arange(1, self.settings.horizon + 1)
        zones.windows(embodiment.dt * steps)  # a zone that would never count is named here, not in the first verdict
        self._last: tuple[float, np.ndarray] | None = None
        self._around = OccludedPoints(self.body, self._poses) if self.body is not None else None
        links = frozenset(self._links)
        self._tubes = TubeJudging(zones, self.body, course, links, self._poses, self._transforms)

    # ---- seeing

    def see(self, belief: Belief, observation: Observation, joints: np.ndarray | None, stamp: float) -> Seen:
        """Args: observation: that the belief is of, batch of one; joints (A,) measured at its newest frame."""
        depth: torch.Tensor | None = None
        if observation.depth is not None:
            c = self.model.config
            newest = replace(observation, rgb=observation.rgb[:, -1:], depth=observation.depth[:, -1:])
            depth = newest.fitted(c.height, c.width).depth
        reasons = (
            (belief.out_of_distribution, f"the picture is out of distribution: it {belief.doubt}"),
            (depth is None or not bool(torch.isfinite(depth).any()), "the newest picture has no depth"),
            (belief.intrinsics is None, "the camera's calibration is not known"),
            (belief.camera_to_world is None, "it is not known where the camera is"),
            (joints is None, "it is not known where the robot is"),
        )
        blind = next((text for wrong, text in reasons if wrong), "")
        if blind or depth is None or joints is None or belief.camera_to_world is None:
            return Seen(belief, stamp, joints, blind)
        picture = depth[0].float().cpu().numpy()
        camera = belief.camera_to_world[:1]
        measured, points = self._lift(picture, belief, camera, self.settings.stride)
        own = self._own(points, joints[None], self.settings.margin)
        return Seen(
            belief, stamp, joints, "", measured[0], points, own, *self._things(picture, belief, camera, joints, stamp)
        )

    def _things(
        self, picture: np.ndarray, belief: Belief, camera: torch.Tensor, joints: np.ndarray, stamp: float
    ) -> tuple[np.ndarray, float]:
        """See `Seen.things`. Measured depth is exact: what is a centimetre from the robot is not the robot."""
        nothing = np.zeros((0, 3), np.float32), 0.0
        if self.body is None or not self.zones.watches("scene"):
            return nothing
        depth, points = self._lift(picture, belief, camera, 1)
        poses = self._poses(joints[None])
        transforms = self._transforms(poses, camera)
        if self._unknown(transforms):
            return nothing
        view = View(self.embodiment.base_frame, points, transforms=transforms)
        own = self.body.self_mask(points, poses, push_prediction.TOUCH)
        other = np.isfinite(depth) & ~own & ~self.zones.ignored(view, np.zeros(1), "scene")
        assert belief.intrinsics is not None
        intrinsics, pose = belief.intrinsics.double().cpu().numpy(), camera[0].double().cpu().numpy()
        pixel = float(np.median(depth[other])) / intrinsics[0, 0] if other.any() else 0.0

        def hides(known: np.ndarray) -> np.ndarray:
            return hidden(known, own.reshape(picture.shape[1:]), picture[0], intrinsics, pose)

        assert self._around is not None
        return self._around.see(points[other], pixel, hides, joints, stamp), pixel

    def forget(self) -> None:
        """What was seen and imagined last belongs to another scene."""
        self._last = None
        if self._around is not None:
            self._around.forget()

    def standing(self, seen: Seen) -> tuple[Standing, ...]:
        """What is in zones at the seen moment and stops every command; nothing where that cannot be told."""
        if seen.no_observation:
            return ()
        present = self.present(seen)
        return () if self._unknown(present.transforms) else standing(self.zones, present, self.embodiment.dt)

    # ---- judging

    def judge(
        self,
        seen: Seen,
        watched: TrackedCommand,
        now: float,
        memory: Memory | None = None,
        imagined: Imagined | None = None,
    ) -> Judged:
        """Imagine what the command leads to from the seen moment on, on the fine level, and judge it.

        Args: now: ROS seconds, the verdict's stamp. imagined: of this moment and command, where it was imagined before.
        """
        if seen.no_observation:
            return Judged(self.no_observation(seen.no_observation, watched, seen.stamp, now))
        # What the command tells the robot, (H, A), and what that leads to. The scene (H, N, 3) is kept for `refresh`.
        plan = self.plan(seen, watched)
        imagined = imagined or self.imagine(seen, plan, memory)
        self._last = (seen.stamp, imagined.scene)
        camera = imagined.future.camera_to_world
        assert camera is not None
        # What the body pushes along is added by geometry, (H, K, 3): a thing may be too small to be imagined.
        scene = np.concatenate([imagined.scene, self._pushed_points(seen, watched)], 1)
        return Judged(self._verdict(seen, watched, imagined.joints, scene, camera[0], now), imagined.future)

    def plan(self, seen: Seen, watched: TrackedCommand) -> np.ndarray:
        """(H, A) what the command tells the robot in the steps after the seen moment."""
        assert seen.joints is not None
        return self.course.plan(watched, seen.stamp, seen.joints, self._ahead(1))

    def imagine(self, seen: Seen, plan: np.ndarray, memory: Memory | None = None) -> Imagined:
        """What a plan (H, A) leads to, on the fine level."""
        future = self.model.imagine(seen.belief, plan[None], memory)
        states = future.states[0].float().cpu().numpy()
        joints = np.where(np.isfinite(states), states, plan) if states.shape == plan.shape else plan
        return Imagined(future, joints, self._scene(future, seen, joints))

    def _pushed_points(self, seen: Seen, watched: TrackedCommand) -> np.ndarray:
        """(H, K, 3) points of what the body shoves along, NaN while it has not moved."""
        if self.body is None or not len(seen.things):
            return np.zeros((self.settings.horizon, 0, 3), np.float32)
        _, told = self._told(seen, watched)
        count = self.settings.substeps
        return push_prediction.pushed_points(seen.things, seen.pixel, self.body, self._poses(told))[count - 1 :: count]

    def _told(self, seen: Seen, watched: TrackedCommand) -> tuple[np.ndarray, np.ndarray]:
        """Moments (M + 1,), seconds from the image, several a step, and where the command has the robot, (M + 1, A)."""
        assert seen.joints is not None
        fine = np.concatenate([[0.0], self._ahead(self.settings.substeps)])
        told = self.course.plan(watched, seen.stamp, seen.joints, fine).astype(float)
        told[0] = seen.joints
        return fine, told

    def refresh(self, seen: Seen, watched: TrackedCommand, now: float) -> Verdict | None:
        """A verdict without another fine imagination, in a few milliseconds, where one can be given; else None.

        The scene is taken as it was imagined last from the same picture, for another command; the body goes where this
        command leads. That is right as long as neither command changes the scene, so there is no verdict where this
        one's body meets imagined points, or the coarse level sees it near something or doubts where it will be.
        """
        # Only the same picture may lend its scene to another command.
        if seen.no_observation or self._last is None or self._last[0] != seen.stamp:
            return None
        if seen.belief.camera_to_world is None:
            return None
        # The coarse level looks whether this command comes near to anything: then it could change the scene.
        settings = self.settings
        scene = self._last[1]
        plan = self.plan(seen, watched)
        coarse = self.model.imagine_coarse(seen.belief, plan[None])
        if float(coarse.readout["clearance"].min()) < settings.refresh_clearance:
            return None
        if self.body is not None:
            # A tool that is imagined elsewhere than kinematics has it tells of a robot that something holds up.
            poses = self._poses(plan)
            if self.embodiment.tool_frame in poses:
                tool = coarse.readout["tool_position"][0].float().cpu().numpy()
                off = np.linalg.norm(tool - poses[self.embodiment.tool_frame][:, :3, 3], axis=-1)
                if off.max() > settings.refresh_tool:
                    return None
            # Imagined points (H, N) that the body would go through stop it or are pushed: the scene changes.
            ahead = self._ahead(1)
            view = View(self.embodiment.base_frame, scene, transforms=self._transforms(poses, None))
            met = self.body.self_mask(scene, poses, 0.0) & ~self.zones.ignored(view, ahead, "scene")
            if (met.sum(1) > settings.refresh_points).any() or self._pushed_points(seen, watched).size:
                return None
        # Nothing is changed by this command, so the scene stands, and the camera with it.
        camera = seen.belief.camera_to_world.expand(len(plan), 4, 4)
        return self._verdict(seen, watched, plan, scene, camera, now)

    def judge_still(self, seen: Seen, watched: TrackedCommand, now: float) -> Verdict:
        """Without any imagination: the scene stays as it is seen, and the body goes where the command leads.

        What a prefilter without a world model can do; it knows nothing of what moves by itself or is moved.
        """
        if seen.no_observation:
            return self.no_observation(seen.no_observation, watched, seen.stamp, now)
        assert seen.belief.camera_to_world is not None
        plan = self.plan(seen, watched)
        scene = np.where(seen.own[..., None], np.float32(np.nan), seen.points).repeat(len(plan), 0)
        return self._verdict(seen, watched, plan, scene, seen.belief.camera_to_world.expand(len(plan), 4, 4), now)

    def no_observation(self, why: str, watched: TrackedCommand, stamp: float, now: float) -> Verdict:
        """The verdict of who cannot see: stop. Args: why: half a sentence; stamp: of the newest image, ROS seconds."""
        finding = Finding(Action.STOP, scale=0.0, time_to_enter=0.0, text=f"{why}; blind is not clear")
        return self.wrap(finding, watched, stamp, now)

    def _verdict(
        self,
        seen: Seen,
        watched: TrackedCommand,
        imagined: np.ndarray,
        scene: np.ndarray,
        camera: torch.Tensor,
        now: float,
    ) -> Verdict:
        future = self._view(seen, watched, imagined, scene, camera)
        if isinstance(future, str):
            return self.no_observation(future, watched, seen.stamp, now)
        present = self.present(seen)
        if watched.stream is not None:
            assert seen.joints is not None
            finding, tube = self._tubes.widest(watched.stream, seen.joints, scene, camera, self._ahead(1))
            if finding.action == Action.STOP:
                # It may go on as it goes now, and only so, where that leads away from all that stops it.
                way = judge(self.zones, future, self._ahead(1), present, self.settings.min_gain, finding.stops)
                finding = replace(finding, leads_out=way.leads_out, gain=way.gain)
                tube = self.course.way_ahead(watched.stream) if way.leads_out else tube
            return self.wrap(finding, watched, seen.stamp, now, tube)
        finding = judge(self.zones, future, self._ahead(1), present, self.settings.min_gain)
        sure = max(finding.time_to_enter - self.course.time_slack, 0.0)  # a command may be early
        finding = replace(finding, time_to_enter=sure)
        return self.wrap(finding, watched, seen.stamp, now)

    def wrap(
        self, finding: Finding, watched: TrackedCommand, stamp: float, now: float, tube: Tube | None = None
    ) -> Verdict:
        """A finding as the verdict on a command, or on the set-points of its stream that are in a tube.

        Args: stamp: of the image that it rests on, ROS seconds.
        """
        duration = self.settings.horizon * self.embodiment.dt
        envelope = self.course.envelope(watched, stamp, duration)
        if tube is not None:
            envelope = self.course.tube_envelope(tube, stamp, duration)
        return Verdict(now, stamp, self.settings.valid_for, envelope, finding, watched.plan_id)

    # ---- views

    def _ahead(self, substeps: int) -> np.ndarray:
        """(H · substeps,) seconds from the image."""
        return self.embodiment.dt / substeps * np.arange(1, self.settings.horizon * substeps + 1)

    def _scene(self, future: Future, seen: Seen, joints: np.ndarray) -> np.ndarray:
        """(H, N, 3) imagined points without the robot's own, NaN for no point. Args: joints (H, A) in these pictures.

        What stands still is not taken for the robot where that comes near it or drives into it: a pixel of a fixed
        camera that shows something else now, and still does, is not the robot.
        """
        assert future.camera_to_world is not None
        sure = future.depth_scale[0] <= self.settings.max_scale
        depth = torch.where(sure, future.depth[0], torch.nan).float().cpu().numpy()
        ahead, points = self._lift(depth, seen.belief, future.camera_to_world[0], self.settings.stride)
        own = self._own(points, joints, self.settings.margin)
        if self.embodiment.camera.fixed:
            with np.errstate(invalid="ignore"):
                own &= seen.own | ~(np.abs(ahead - seen.depth) < _SAME)
        points[own] = np.nan
        return points

    def _lift(
        self, depth: np.ndarray, belief: Belief, camera: torch.Tensor, stride: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Depth (S, N) metres of the pixels that are used, NaN unknown, and the points (S, N, 3) that they show.

        Args: depth (S, h, w) metres; camera (S, 4, 4) to the base frame.
        """
        assert belief.intrinsics is not None
        whole = geometry.Intrinsics.from_matrix(belief.intrinsics.cpu(), depth.shape[2], depth.shape[1])
        rays = whole.rays()[::stride, ::stride].reshape(-1, 3).numpy()
        depth = depth[:, ::stride, ::stride].reshape(len(depth), -1)
        with np.errstate(invalid="ignore"):
            known = (depth > 0) & (depth < _FAR * self.embodiment.camera.far)
        depth = np.where(known, depth, np.nan).astype(np.float32)
        pose = camera.float().cpu().numpy()
        return depth, (depth[..., None] * rays) @ pose[:, :3, :3].swapaxes(1, 2) + pose[:, None, :3, 3]

    def _poses(self, joints: np.ndarray) -> Mapping[str, np.ndarray]:
        """Of all links with the robot at `joints` (S, A)."""
        assert self.body is not None
        return self.body.forward_kinematics(self.course.modalities(joints.astype(float)))

    def _own(self, points: np.ndarray, joints: np.ndarray, margin: float) -> np.ndarray:
        """(S, N) bool: which points are within `margin` metres of the robot at `joints` (S, A)."""
        if self.body is None:
            return np.zeros(points.shape[:2], bool)
        poses = self._poses(joints)
        return self.body.self_mask(points, poses, margin)

    def _view(
        self, seen: Seen, watched: TrackedCommand, imagined: np.ndarray, scene: np.ndarray, camera: torch.Tensor
    ) -> View | str:
        """The future, or why there is none. Args: imagined (H, A): where the robot is when the scene is as imagined."""
        # The body: where its links are, by how much each may be elsewhere for commands at the envelope's border, and,
        # where a zone asks for the robot, spheres (H, M) that cover it on its way.
        poses: Mapping[str, np.ndarray] = {}
        slack: dict[str, Slack] = {}
        centres: np.ndarray | None = None
        radii: np.ndarray | float = 0.0
        if self.body is not None:
            poses = self._poses(imagined)
            off = self.course.deviation(self._ahead(1))
            slack = self._slacks(poses, off)
            if self.zones.watches("robot"):
                centres, radii = self._collision_spheres(seen, watched, poses, off)
        # The zones: each frame that one stands in must be known for every step, or nothing can be promised.
        transforms = self._transforms(poses, camera)
        unknown = self._unknown(transforms)
        if unknown:
            return f"where the frame '{unknown}' of a zone is is not known"
        return View(self.embodiment.base_frame, scene, centres, radii, transforms, slack)

    def _slacks(self, poses: Mapping[str, np.ndarray], off: np.ndarray) -> dict[str, Slack]:
        """Of every link that a zone stands in. Args: off (S, A) by how much each value may be off."""
        moving = self._links - {self.embodiment.base_frame}
        return {frame: self._slack(frame, poses, off) for frame in self.zones.frames if frame in moving}

    def _slack(self, frame: str, poses: Mapping[str, np.ndarray], off: np.ndarray) -> Slack:
        assert self.body is not None
        deviation = self.course.modalities(off)
        shift = self.body.shift(frame, poses[frame][:, None, :3, 3], poses, deviation)[:, 0]
        return Slack(shift, self.body.turn(frame, deviation))

    def _collision_spheres(
        self, seen: Seen, watched: TrackedCommand, imagined: Mapping[str, np.ndarray], off: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Centres (H, M, 3) and radii (H, M) of balls that cover the body on its way through each step.

        That is where the command has it, at several moments between which each ball reaches half the way to the next,
        and, at the end of the step, where it is imagined: a robot that lags or is blocked is at one or on the way.
        """
        assert self.body is not None
        fine, told = self._told(seen, watched)
        deviation = self.course.modalities(self.course.deviation(fine))
        poses = self._poses(told)
        centres, radii = self.body.collision_spheres(poses, deviation)
        half = np.linalg.norm(np.diff(centres, axis=0), axis=-1) / 2
        radii[1:] += half
        radii[1:-1] = np.maximum(radii[1:-1], radii[1:-1] - half[:-1] + half[1:])
        steps = self.settings.horizon
        # Each step begins with where the last one ended: nothing between two steps is left out.
        centres, radii = (part[1:].reshape(steps, -1, *part.shape[2:]) for part in (centres, radii))
        there, wide = self.body.collision_spheres(imagined, self.course.modalities(off))
        return np.concatenate([centres, there], 1), np.concatenate([radii, wide], 1)

    def present(self, seen: Seen) -> View:
        """The moment of the image, as measured; frames and body as wide as at the end of the future's first step.

        Args: seen: not blind. Frames of zones that are not known are left out.
        """
        assert seen.joints is not None
        assert seen.belief.camera_to_world is not None
        camera = seen.belief.camera_to_world[:1]
        scene = np.where(seen.own[..., None], np.float32(np.nan), seen.points)
        poses: Mapping[str, np.ndarray] = {}
        slack: dict[str, Slack] = {}
        centres: np.ndarray | None = None
        radii: np.ndarray | float = 0.0
        if self.body is not None:
            poses = self._poses(seen.joints[None])
            off = self.course.deviation(self._ahead(1)[:1])
            slack = self._slacks(poses, off)
            if self.zones.watches("robot"):
                centres, radii = self.body.collision_spheres(poses, self.course.modalities(off))
        return View(self.embodiment.base_frame, scene, centres, radii, self._transforms(poses, camera), slack)

    def _unknown(self, transforms: Mapping[str, np.ndarray]) -> str:
        """A frame of a zone that is not known; empty for none."""
        known = {*transforms, self.embodiment.base_frame}
        return next((frame for frame in self.zones.frames if frame not in known), "")

    def _transforms(self, poses: Mapping[str, np.ndarray], camera: torch.Tensor | None) -> dict[str, np.ndarray]:
        """From the base frame to each frame that a zone stands in and that is known."""
        out = {}
        for frame in self.zones.frames:
            pose: np.ndarray | None
            if frame in poses:
                pose = poses[frame]
            elif frame == self.embodiment.camera.frame_id and camera is not None:
                pose = camera.double().cpu().numpy()
            else:
                pose = self._lookup(frame)
            if pose is not None:
                out[frame] = np.linalg.inv(pose)
        return out
