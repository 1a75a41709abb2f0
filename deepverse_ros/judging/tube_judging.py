"""A tube of set-points held against the zones: wherever in it the robot is, at any time of the imagined future."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch

from deepverse_ros.judging.command_rollout import TUBES, CommandRollout
from deepverse_ros.judging.command_stream import Stream, Tube
from deepverse_ros.robot.self_filter import RobotSelfFilter
from deepverse_ros.safety.answer import Action
from deepverse_ros.safety.finding import Finding, judge
from deepverse_ros.safety.view import Slack, View
from deepverse_ros.safety.zones import Zones

_STEP = 0.02  # metres that a ball of the body moves from one place on the tube's way to the next
_TURN = 0.05  # share of the range of a value, the same
_PLACES = 100  # on the whole way, at most: on longer ones they are farther apart
_PARTS = 4  # parts of the way for which zones that move with the robot are held against the scene, at most


class TubeJudging:
    """Judges tubes.

    Args:
        poses: of the links, (S, 4, 4) each, with the robot at joints (S, A).
        transforms: from the base frame to each frame that a zone stands in and that is known, by those poses and the
            camera's (S, 4, 4).
        links: frames that move with the robot.
    """

    def __init__(
        self, zones: Zones, body: RobotSelfFilter | None, course: CommandRollout, links: frozenset[str],
        poses: Callable[[np.ndarray], Mapping[str, np.ndarray]],
        transforms: Callable[[Mapping[str, np.ndarray], torch.Tensor | None], dict[str, np.ndarray]],
    ) -> None:  # fmt: skip
        self._zones = zones
        self._body = body
        self._course = course
        self._poses = poses
        self._transforms = transforms
        self._base = course.embodiment.base_frame
        self._moving = [frame for frame in zones.frames if frame in links and frame != self._base]

    def widest(
        self, stream: Stream, here: np.ndarray, scene: np.ndarray, camera: torch.Tensor, times: np.ndarray
    ) -> tuple[Finding, Tube]:
        """What is found in the widest tube that is clear, or in which nothing slows the stream down, and that tube.

        One that answers for less time counts only where there is none; else the least grave, the widest of such.
        Args: as `judge`.
        """
        found: list[tuple[Finding, Tube]] = []
        tubes = self._course.tubes(stream)
        whole = sum(share == 1 for share, _ in TUBES)
        # The widest first, as it answers longest. Once those that answer for the whole time are through, one in which
        # nothing slows the stream down is better than a narrower one that answers for less.
        for number, tube in enumerate(tubes):
            free = (pair for pair in found if not stream.hindered(pair[0], self._course.layout))
            if number == whole and (pair := next(free, None)) is not None:
                return pair
            finding = self.judge(tube, here, scene, camera, times)
            if finding.action == Action.CLEAR:
                return finding, tube
            found.append((finding, tube))
        # None is clear: the least grave of the findings counts.
        best = min(found, key=lambda pair: (pair[0].action, -pair[0].scale))
        # What stops it in the narrowest stops it in all: that is what it is near to.
        return (found[-1][0], best[1]) if best[0].action == Action.STOP else best

    def judge(
        self, tube: Tube, here: np.ndarray, scene: np.ndarray, camera: torch.Tensor, times: np.ndarray
    ) -> Finding:
        """The worst that the zones find. Every frame of a zone has to be known.

        Args:
            here: (A,) where the robot is at the image.
            scene: (H, N, 3) imagined points without the robot's own, at `times` (H,) seconds from the image.
            camera: (H, 4, 4) to the base frame.
        """
        # The body may be anywhere in the tube at every step, so the same spheres stand for all of them. A zone that
        # moves with the robot is somewhere else for each part of the tube, and each part is judged.
        steps = len(times)
        centres, radii = self._collision_spheres(tube, here, steps)
        parts = self._parts(tube) if self._moving else [(tube.begin, tube.half_width)]
        findings = []
        for place, off in parts:
            poses: dict[str, np.ndarray] = {}
            slack: dict[str, Slack] = {}
            if self._body is not None:
                still = {name: pose[0] for name, pose in self._poses(place[None]).items()}
                poses = {name: np.broadcast_to(pose, (steps, 4, 4)) for name, pose in still.items()}
                slack = {frame: self._slack(frame, poses, np.repeat(off[None], steps, 0)) for frame in self._moving}
            # The scene (H, N, 3) against the zones as they stand with the robot in the middle of this part.
            transforms = self._transforms(poses, camera)
            findings.append(judge(self._zones, View(self._base, scene, centres, radii, transforms, slack), times))
        # One finding for the tube: the gravest, with the least speed, time and rates of all parts.
        worst = max(findings, key=lambda f: (f.action, -f.scale))
        rates = {name for f in findings for name in f.max_rate}
        return replace(
            worst, scale=min(f.scale for f in findings), time_to_enter=min(f.time_to_enter for f in findings),
            stops=tuple(dict.fromkeys(name for f in findings for name in f.stops)),
            max_rate={n: min(f.max_rate.get(n, f.max_rate.get("*", np.inf)) for f in findings) for n in rates},
        )  # fmt: skip

    def _parts(self, tube: Tube) -> list[tuple[np.ndarray, np.ndarray]]:
        """Places (A,) along the way, and how far the robot may be from each (A,): together they are the tube."""
        # Each part is as long as the tube is wide, where that does not take too many; half of it widens the part.
        way = np.abs(tube.end - tube.begin)
        count = int(np.clip(np.ceil((way / np.maximum(2 * tube.half_width, 1e-9)).max()), 1, _PARTS))
        ends = tube.along(count + 1)
        return [(middle, tube.half_width + way / (2 * count)) for middle in (ends[1:] + ends[:-1]) / 2]

    def _collision_spheres(
        self, tube: Tube, here: np.ndarray, steps: int
    ) -> tuple[np.ndarray | None, np.ndarray | float]:
        """Centres (H, M, 3) and radii (H, M) of balls that cover the body on its way into the tube and wherever it is.

        They are placed along the way, and each reaches half the way to the next one and to the one before.
        """
        if self._body is None or not self._zones.watches("robot"):
            return None, 0.0
        way = self._way(self._body, tube, here)
        widths = np.repeat(tube.half_width[None], len(way), 0)
        centres, radii = self._body.collision_spheres(self._poses(way), self._course.modalities(widths))
        # Each sphere (K, M) reaches half the way to both of its neighbours: nothing between two places is left out.
        half = np.linalg.norm(np.diff(centres, axis=0), axis=-1) / 2
        reach = np.zeros_like(radii)
        reach[1:] = half
        reach[:-1] = np.maximum(reach[:-1], half)
        radii = radii + reach
        return (np.broadcast_to(centres.reshape(1, -1, 3), (steps, radii.size, 3)),
                np.broadcast_to(radii.reshape(1, -1), (steps, radii.size)))  # fmt: skip

    def _way(self, body: RobotSelfFilter, tube: Tube, here: np.ndarray) -> np.ndarray:
        """(K, A) places from where the robot is to where the tube begins, and along it.

        They are near enough to each other that straight lines between them hold, and that what a ball has to reach for
        the next one is not much: that is room which the robot does not have.
        """
        corners = np.stack([here.astype(float), tube.begin, tube.end])
        still = self._course.modalities(np.zeros_like(corners))
        # How far the balls (3, M, 3) move from corner to corner, and by which share of its range a value does.
        centres, _ = body.collision_spheres(self._poses(corners), still)
        moved = np.linalg.norm(np.diff(centres, axis=0), axis=-1).max(1)
        turned = np.abs(np.diff(corners, axis=0) / (self._course.layout.upper - self._course.layout.lower)).max(1)
        wanted = np.maximum(moved / _STEP, turned / _TURN)
        # On a way that would need too many they are farther apart.
        counts = np.maximum(np.ceil(wanted * min(1.0, _PLACES / max(wanted.sum(), 1.0))), 1).astype(int)
        legs = zip(corners[:-1], corners[1:], counts, strict=True)
        return np.concatenate([corners[:1], *(np.linspace(a, b, 1 + n)[1:] for a, b, n in legs)])

    def _slack(self, frame: str, poses: Mapping[str, np.ndarray], off: np.ndarray) -> Slack:
        assert self._body is not None
        deviation = self._course.modalities(off)
        shift = self._body.shift(frame, poses[frame][:, None, :3, 3], poses, deviation)[:, 0]
        return Slack(shift, self._body.turn(frame, deviation))
