"""What the arm does in episodes: mostly motions that touch things, or pass close by them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from deepverse_ros.simulation.arm import strokes
from deepverse_ros.simulation.arm.course import FREE, Course, Waypoint
from deepverse_ros.simulation.arm.grasps import grasp
from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.simulation.arm.motions import MotionGenerator
from deepverse_ros.simulation.arm.postures import Postures
from deepverse_ros.simulation.arm.scene import Item
from deepverse_ros.simulation.arm.simulation import ArmSimulation
from deepverse_ros.simulation.arm.strokes import Thing, hand_radius, things_of
from deepverse_ros.simulation.base import Script

# Of the episodes. In those of "random" and "reach" contacts happen by chance.
SHARES = {
    "push": 0.22, "topple": 0.08, "two": 0.10, "past": 0.12, "hold": 0.14, "drop": 0.06, "slip": 0.05, "miss": 0.05,
    "blocked": 0.08, "random": 0.06, "reach": 0.04,
}  # fmt: skip
BY_CHANCE = ("random", "reach")
CHANCE_SPEED = 0.4  # m/s of the tool near things, where contacts happen by chance
NEAR = 0.04  # metres from something: near, for that speed
_STARTS_NEAR = 0.75  # of the episodes with contact begin beside the thing
REACHED = 0.33, 0.86  # metres from the base to things that are handled
_TRIES = 20
_BLOCKED_PUSHES = 0.15  # of the strokes are drawn without a look at whether something fast stands in their way
_NEXT = ("push", "push", "topple", "two", "past", "hold")  # what follows within an episode
_PUSH_SPEEDS = (0.08, 0.4)  # m/s
_LOWEST_BLOCK = 0.008  # metres: half the height of what an arm is driven into
_FARTHEST = 0.35  # metres between two things that one stroke goes through
# Where the tool goes where contacts are left to chance, metres from the base: among the things.
_WORKSPACE = np.array([0.35, -0.35, 0.03]), np.array([0.75, 0.35, 0.30])


@dataclass(frozen=True)
class Motion:
    """waypoints: of the hand. leaves: where each thing that is handled is likely to lie afterwards, by its index.

    holds: a thing at its end, which another motion would throw away.
    """

    waypoints: list[Waypoint]
    leaves: dict[int, np.ndarray]
    holds: bool = False


class Handling:
    """Makes the commands of one episode, from what stands in the scene at its beginning."""

    def __init__(
        self, simulation: ArmSimulation, kinematics: ArmKinematics, rng: np.random.Generator, wide: bool = False
    ) -> None:
        """Args: wide: reach beyond the workspace where contacts are left to chance."""
        self._simulation = simulation
        self._kinematics = kinematics
        self._rng = rng
        self._chance = MotionGenerator(simulation, kinematics, rng, wide, _WORKSPACE)
        self._postures = Postures(
            simulation.embodiment, float(rng.normal(0, 0.2)), tuple(np.clip(rng.normal(0, 0.08, 2), -0.2, 0.2))
        )
        self._things = things_of(simulation)
        self._fast = strokes.fast_of(simulation)
        self._handled: set[int] = set()
        self._holds = False

    def begin(self, kind: str, frames: int) -> Script:
        """Put the arm where an episode of `kind` begins.

        Returns: (frames, 8) commands. Their kind is another where the scene leaves no room for `kind`.
        """
        for tried in () if kind in BY_CHANCE else (kind, "push", "blocked"):
            course = self._begun(tried)
            if course is not None:
                self._continue(course, frames)
                return self._script(tried, course.commands(frames))
        kind = kind if kind in BY_CHANCE else "reach"
        self._start_anywhere()
        return self._script(kind, self._slowed(self._chance.generate(kind, frames)))

    def _script(self, kind: str, plan: np.ndarray) -> Script:
        return Script(kind, self._simulation.embodiment.limit_plan(plan, self._simulation.joints))

    def _begun(self, kind: str) -> Course | None:
        """The first motion, the arm put where it begins."""
        for _ in range(_TRIES):
            motion = self._draw(kind)
            if motion is not None and self._may_go(kind, motion) and self._start(motion.waypoints[0]):
                course = Course(self._simulation, self._kinematics, self._postures, self._rng)
                if self._follow(course, motion):
                    return course
        return None

    def _start(self, first: Waypoint) -> bool:
        """Put the arm near the first waypoint of a motion, or anywhere. Returns: whether it touches nothing there."""
        rng = self._rng
        if rng.random() > _STARTS_NEAR:
            return self._start_anywhere()
        pose = first.pose + np.append(rng.normal(0, (0.04, 0.04, 0.0, 0.4)), 0.0)
        pose[2] += rng.uniform(0.0, 0.15)
        joints = self._postures.joints(pose[None])[0]
        if not np.isfinite(joints).all() or self._simulation.clearance_at(joints) < FREE:
            return False
        self._simulation.set_joints(joints)
        return True

    def _start_anywhere(self) -> bool:
        """Often where the arm is, otherwise at a drawn configuration. Returns: whether it touches nothing there."""
        if self._rng.random() < 0.6:
            joints = np.append(self._chance.configuration(*_WORKSPACE), self._chance.random_opening())
            if self._simulation.clearance_at(joints) > FREE:
                self._simulation.set_joints(joints)
        return self._simulation.clearance > 0

    def _continue(self, course: Course, frames: int) -> None:
        """Further motions, until the episode is full or none is found."""
        for _ in range(_TRIES // 2):
            if len(course) >= frames or self._holds:
                return
            kind = str(self._rng.choice(_NEXT)) if self._things else "blocked"
            motion = self._draw(kind)
            if motion is not None and self._may_go(kind, motion):
                self._follow(course, motion)

    def _may_go(self, kind: str, motion: Motion) -> bool:
        """Whether nothing fast is in the way, except where that is meant and in some of the motions."""
        meant = kind == "blocked" or self._rng.random() < _BLOCKED_PUSHES
        return meant or not self._runs_into_something_fast(motion.waypoints)

    def _runs_into_something_fast(self, waypoints: list[Waypoint]) -> bool:
        """Whether an obstacle, a rim or a platform is in the way of the fingers from a waypoint to the next."""
        poses = np.stack([w.pose for w in waypoints])
        between = np.concatenate([a + (b - a) * np.linspace(0, 1, 6)[:, None] for a, b in pairwise(poses)])
        radius = hand_radius(poses[0, 4])
        return bool((strokes.fast_height(self._fast, between[:, :2], radius) > between[:, 2] - strokes.TIP).any())

    def _follow(self, course: Course, motion: Motion) -> bool:
        """Returns: whether it goes. Then the things of what follows lie where this motion is likely to leave them."""
        goes = course.follow(motion.waypoints)
        if goes:
            self._holds = motion.holds
            self._handled |= set(motion.leaves)
            self._things = [replace(t, place=motion.leaves.get(t.index, t.place)) for t in self._things]
        return goes

    # --- contacts by chance -------------------------------------------------------------------------------------

    def _slowed(self, plan: np.ndarray) -> np.ndarray:
        """`plan` (T, 8) stretched in time where the tool would be fast near something; what no longer fits is cut."""
        simulation = self._simulation
        rows = np.concatenate([simulation.joints[None], plan])
        tools = np.array([self._kinematics.tool_position(row) for row in rows])
        clear = np.array([simulation.clearance_at(row) for row in rows])
        travel = np.linalg.norm(np.diff(tools, axis=0), axis=1)
        near = np.minimum(clear[1:], clear[:-1]) < NEAR + travel / 2
        dt = simulation.embodiment.dt
        times = np.concatenate([[0], np.cumsum(np.where(near, np.maximum(dt, travel / CHANCE_SPEED), dt))])
        moments = dt * np.arange(1, len(rows))
        return np.stack([np.interp(moments, times, column) for column in rows.T], axis=1)

    # --- motions ------------------------------------------------------------------------------------------------

    def _draw(self, kind: str) -> Motion | None:
        """A motion of one kind, at the end of which the hand is raised; None where there is nothing for it."""
        if kind == "blocked":
            return self._blocked()
        if not self._things:
            return None
        thing = self._thing(tall=kind == "topple")
        makers: dict[str, Callable[[Thing], Motion]] = {
            "push": self._push,
            "topple": lambda thing: self._push(thing, high=True),
            "two": self._two,
            "past": self._past,
        }
        if kind in makers:
            return makers[kind](thing)
        waypoints = grasp(thing, kind, self._rng, self._postures)
        if not waypoints:
            return None
        return Motion(waypoints, {thing.index: thing.place}, holds=kind != "miss" and waypoints[-1].pose[4] < 1)

    def _thing(self, tall: bool = False) -> Thing:
        """One that the arm can reach, if there are any; rather one that was not handled yet, or one that is `tall`."""
        near = [t for t in self._things if REACHED[0] < np.hypot(*t.place[:2]) < REACHED[1]] or self._things
        near = [t for t in near if t.half_height > 1.3 * min(t.item.extents[:2])] or near if tall else near
        fresh = [t for t in near if t.index not in self._handled] or near
        return fresh[self._rng.integers(len(fresh))]

    def _push(self, thing: Thing, high: bool = False) -> Motion:
        """From any side, at its lower half so that it slides, or `high` so that it may topple."""
        rng = self._rng
        heading = rng.uniform(-np.pi, np.pi)
        opening = self._opening()
        ahead = np.array([np.cos(heading), np.sin(heading)])
        aside = rng.normal(0, 0.35) * thing.radius * np.array([-ahead[1], ahead[0]])
        reach = thing.radius + hand_radius(opening)
        start = thing.place[:2] + aside - (reach + rng.uniform(0.015, 0.08)) * ahead
        end = thing.place[:2] + aside + (rng.uniform(0.03, 0.18) - hand_radius(opening)) * ahead
        height = self._height(thing, rng.uniform(1.2, 1.75) if high else rng.uniform(0.0, 0.9), opening)
        points = strokes.through(np.append(start, height), np.append(end, self._raised(thing)))
        return Motion(self._stroke(points, opening), {thing.index: _pushed(thing, ahead, end, reach)})

    def _two(self, thing: Thing) -> Motion:
        """Through two things at once: one is pushed into the other."""
        others = [t for t in self._things if 0 < np.linalg.norm((t.place - thing.place)[:2]) < _FARTHEST]
        if not others:
            return self._push(thing)
        other = others[self._rng.integers(len(others))]
        ahead = (other.place - thing.place)[:2]
        distance = float(np.linalg.norm(ahead))
        ahead /= distance
        opening = self._opening()
        reach = thing.radius + hand_radius(opening)
        start = thing.place[:2] - (reach + self._rng.uniform(0.015, 0.06)) * ahead
        end = thing.place[:2] + (distance - reach + self._rng.uniform(0.02, 0.15)) * ahead
        height = self._height(thing, self._rng.uniform(0.0, 0.9), opening)
        raised = max(self._raised(thing), self._raised(other))
        points = strokes.through(np.append(start, height), np.append(end, raised))
        leaves = {
            thing.index: _pushed(thing, ahead, end, reach),
            other.index: _pushed(other, ahead, end, reach + thing.radius + other.radius),
        }
        return Motion(self._stroke(points, opening), leaves)

    def _past(self, thing: Thing) -> Motion:
        """Close over a thing, around it, short of it, or straight past, where some graze it."""
        rng = self._rng
        heading = rng.uniform(-np.pi, np.pi)
        ahead = np.array([np.cos(heading), np.sin(heading)])
        left = np.array([-ahead[1], ahead[0]])
        opening = self._opening()
        reach = thing.radius + hand_radius(opening)
        gap = reach + rng.uniform(-0.01, 0.05)
        before, after = reach + rng.uniform(0.01, 0.08), reach + rng.uniform(0.0, 0.1)
        height = self._height(thing, rng.uniform(0.0, 1.0), opening)
        start = np.append(thing.place[:2] - before * ahead, height)
        end = np.append(thing.place[:2] + after * ahead, self._raised(thing))
        side = int(rng.choice((-1, 1)))
        way = rng.choice(("over", "around", "short", "straight"))
        if way == "over":
            points = strokes.over(start, end, thing.top + rng.uniform(-0.015, 0.03))
        elif way == "around":
            points = strokes.beside(start, end, thing, side, gap)
        elif way == "short":
            points = strokes.short(start, end, thing, gap)
        else:
            shift = np.append(side * gap * left, 0.0)
            points = strokes.through(start + shift, end + shift)
        return Motion(self._stroke(points, opening), {})

    def _blocked(self) -> Motion:
        """Into something that stands fast, from the side or from above, or down upon a thing or the table.

        The arm presses for a while, and comes back.
        """
        rng = self._rng
        scene = self._simulation.scene
        fixed = [*scene.obstacles, *(item for item in scene.fixtures if item.extents[2] > _LOWEST_BLOCK)]
        what = rng.random()
        opening = self._opening()
        if fixed and what < 0.5:
            outside, inside = self._into(fixed[rng.integers(len(fixed))], opening)
        elif self._things and what < 0.7:
            thing = self._thing()
            depth = rng.uniform(0.2, 1.5) * thing.half_height
            inside, outside = self._from_above(thing.place[:2], thing.top, depth)
        else:
            place = rng.uniform(_WORKSPACE[0][:2], _WORKSPACE[1][:2])
            inside, outside = self._from_above(place, 0.0, rng.uniform(0.0, 0.08))
            outside[:2] += rng.normal(0, 0.03, 2)
        turn, speed = rng.uniform(-np.pi, np.pi), rng.uniform(*_PUSH_SPEEDS)
        points = (outside, inside, outside, np.append(outside[:2], outside[2] + rng.uniform(0.0, 0.1)))
        stays = (0, int(rng.integers(1, 5)), 0, 0)
        poses = [np.array([*point, turn, opening]) for point in points]
        return Motion([Waypoint(pose, speed, stay) for pose, stay in zip(poses, stays, strict=True)], {})

    def _into(self, item: Item, opening: float) -> tuple[np.ndarray, np.ndarray]:
        """Tool places (3,) outside of what stands fast and, where it cannot get, inside of it."""
        rng = self._rng
        middle = np.asarray(item.position) - self._simulation.base_position
        top = float(middle[2]) + item.extents[2]
        if rng.random() < 0.35:
            inside, outside = self._from_above(middle[:2], top, rng.uniform(0.01, 0.06))
            return outside, inside
        heading, hand = rng.uniform(-np.pi, np.pi), hand_radius(opening)
        ahead = np.array([np.cos(heading), np.sin(heading)])
        away = item.footprint + hand + rng.uniform(0.02, 0.08)
        height = max(self._postures.depth(middle, hand) + 0.01, rng.uniform(0.3, 0.9) * top)
        inside = np.append(middle[:2] + rng.uniform(-0.5, 0.5) * item.footprint * ahead, height)
        return np.append(middle[:2] - away * ahead, height), inside

    def _from_above(self, place: np.ndarray, top: float, depth: float) -> tuple[np.ndarray, np.ndarray]:
        """Tool places (3,): with the fingers' ends `depth` below `top`, and above it."""
        return np.append(place, top + strokes.TIP - depth), np.append(place, top + self._rng.uniform(0.06, 0.2))

    # --- parts --------------------------------------------------------------------------------------------------

    def _stroke(self, points: np.ndarray, opening: float) -> list[Waypoint]:
        """Waypoints at `points` (N, 3); rather with the hand's broad side ahead."""
        rng = self._rng
        ahead = points[-1] - points[0]
        turn = np.arctan2(ahead[1], ahead[0]) + np.pi / 2
        turn += rng.normal(0, 0.2) if rng.random() < 0.5 else rng.uniform(-np.pi / 2, np.pi / 2)
        speed = rng.uniform(*_PUSH_SPEEDS)
        return [Waypoint(np.array([*point, turn, opening]), speed) for point in points]

    def _opening(self) -> float:
        return float(self._rng.choice((0.0, 0.0, 0.0, 1.0, self._rng.random())))

    def _height(self, thing: Thing, part: float, opening: float) -> float:
        """Of the tool, such that the fingers' ends are at `part` (0 to 2) of the half height above its bottom."""
        depth = self._postures.depth(thing.place, hand_radius(opening))
        return thing.bottom + depth + max(0.006, part * thing.half_height)

    def _raised(self, thing: Thing) -> float:
        return thing.top + strokes.TIP + self._rng.uniform(0.02, 0.08)


def _pushed(thing: Thing, ahead: np.ndarray, end: np.ndarray, reach: float) -> np.ndarray:
    """Where `thing` is likely to lie after a stroke along `ahead` (2,) that ends at `end` (2,), base frame."""
    along = max(0.0, float((end - thing.place[:2]) @ ahead) + reach)
    return thing.place + np.append(along * ahead, 0.0)
