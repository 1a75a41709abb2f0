"""Command sequences of an arm that goes anywhere, drives into things, or leaves and comes back."""

from collections.abc import Callable

import numpy as np

from deepverse_ros.simulation.arm.kinematics import ArmKinematics
from deepverse_ros.simulation.arm.simulation import ArmSimulation
from deepverse_ros.simulation.base import REVISIT

# Where the tool goes by default, metres in the frame of the arm's base.
WORKSPACE_LOWER = np.array([0.35, -0.45, 0.08])
WORKSPACE_UPPER = np.array([0.75, 0.45, 0.55])

# Of a REVISIT.
REVISIT_FRAMES = 40
AWAY_FRAMES = 14  # at least: more than the 4 frames that are observed and the 8 that are imagined
_SEEN_FRAMES, _BACK_FRAMES, _TRAVEL_FRAMES = 5, 3, 8
_APART = np.deg2rad(60.0)  # in the base joint
_CLOSED, _OPEN = 0.0, 1.0


class MotionGenerator:
    """Makes commands for one arm: (T, 8) joint targets within the embodiment's limits.

    With `wide` the arm also stretches out to all sides, beyond the workspace.
    """

    def __init__(
        self,
        simulation: ArmSimulation,
        kinematics: ArmKinematics,
        rng: np.random.Generator,
        wide: bool = False,
        workspace: tuple[np.ndarray, np.ndarray] = (WORKSPACE_LOWER, WORKSPACE_UPPER),
    ) -> None:
        """Args: workspace: corners (3,) of where the tool goes, metres, relative to the arm's base."""
        self._simulation = simulation
        self._kinematics = kinematics
        self._rng = rng
        self._wide = wide
        self._workspace = workspace
        self._embodiment = simulation.embodiment
        self._home = np.asarray(self._embodiment.home)
        self._rate = self._embodiment.max_step[:7].astype(float)

    def generate(self, kind: str, frames: int) -> np.ndarray:
        """(frames, 8) float32 commands of a kind, "random", "reach", "collide" or REVISIT, from where the arm is now.

        Raises: ValueError if a revisit does not fit into so few frames.
        """
        makers: dict[str, Callable[[int], np.ndarray]] = {
            "random": self._random,
            "reach": self._reach,
            "collide": self._collide,
            REVISIT: self._revisit,
        }
        arm = makers[kind](frames)
        plan = np.concatenate([arm, self._gripper(frames)[:, None]], axis=1)
        return self._embodiment.limit_plan(plan, self._simulation.joints)

    def stretched(self) -> np.ndarray:
        """Joints (7,) with the tool 0.5 to 1 m from the base in any direction but backwards, pointing outwards."""
        rng = self._rng
        for _ in range(20):
            heading, distance = rng.uniform(-1.9, 1.9), rng.uniform(0.5, 1.0)
            position = np.array([distance * np.cos(heading), distance * np.sin(heading), rng.uniform(0.1, 0.6)])
            start = self._home[:7] + np.array([heading, 0.4, 0, 0.7, 0, -0.3, rng.uniform(-1.5, 1.5)])
            joints = self._kinematics.inverse(position, _approach(rng.uniform(0.5, 1.7), heading), start)
            if joints is not None:
                return joints
        return self.configuration()

    def _configuration(self) -> np.ndarray:
        return self.stretched() if self._wide and self._rng.random() < 0.7 else self.configuration(*self._workspace)

    def configuration(self, lower: np.ndarray = WORKSPACE_LOWER, upper: np.ndarray = WORKSPACE_UPPER) -> np.ndarray:
        """Joints (7,) with the tool somewhere in a box (metres, relative to the arm's base), near the home posture.

        The tool points roughly down in most and anywhere up to sideways in some.
        """
        rng = self._rng
        for _ in range(20):
            position = rng.uniform(lower, upper)
            tilt = abs(rng.normal(0, 0.25)) if rng.random() < 0.8 else rng.uniform(0, 1.4)
            approach = _approach(tilt, rng.uniform(-np.pi, np.pi))
            start = self._home[:7] + rng.normal(0, 0.35, 7)
            start[0] += np.arctan2(position[1], position[0])
            start[6] = rng.uniform(-1.5, 1.5)
            joints = self._kinematics.inverse(position, approach, start)
            if joints is not None and np.all(np.abs(joints - self._home[:7]) < (1.6, 1.3, 1.3, 1.2, 1.8, 1.2, 2.4)):
                return joints
        return self._home[:7] + rng.normal(0, 0.2, 7)

    def aside(self) -> np.ndarray:
        """Joints (7,) with the tool above the table's left or right side, from where a revisit can begin."""
        rng = self._rng
        for _ in range(20):
            heading, distance = rng.choice([-1, 1]) * rng.uniform(1.1, 1.7), rng.uniform(0.4, 0.65)
            position = np.array([distance * np.cos(heading), distance * np.sin(heading), rng.uniform(0.25, 0.45)])
            approach = _approach(rng.uniform(0, 0.4), rng.uniform(-np.pi, np.pi))
            joints = self._kinematics.inverse(position, approach, self._toward(position))
            if joints is not None and self._before_an_object(joints, 40) is not None:
                return joints
        return self._toward(position)

    def tool_position(self, joints: np.ndarray) -> np.ndarray:
        """(3,) metres from the arm's base."""
        return self._kinematics.tool_position(joints)

    def random_opening(self) -> float:
        """Of the gripper: often fully open or closed."""
        return float(self._rng.choice([_CLOSED, _OPEN, self._rng.random()]))

    # --- the kinds ----------------------------------------------------------------------------------------------

    def _random(self, frames: int) -> np.ndarray:
        style = self._rng.random()
        if style < 0.4:
            return self._smooth(frames)
        if style < 0.85:
            return self._planner_like(frames)
        return self._walk(frames)

    def _smooth(self, frames: int) -> np.ndarray:
        """Minimum-jerk moves between random configurations at different speeds, with pauses."""
        rng = self._rng
        at = self._now()
        out: list[np.ndarray] = []
        while len(out) < frames:
            if rng.random() < 0.15:
                out += [at] * int(rng.integers(1, 4))
                continue
            goal = self._configuration()
            shortest = np.max(np.abs(goal - at) / self._rate)
            steps = int(np.ceil(shortest * 1.875 * rng.uniform(0.8, 2.0))) + 1
            out += [at + (goal - at) * _minimum_jerk((k + 1) / steps) for k in range(steps)]
            at = goal
        return np.array(out[:frames])

    def _planner_like(self, frames: int) -> np.ndarray:
        """What a sampling planner tries: a nominal plan to somewhere plus noise held over a few steps."""
        rng = self._rng
        at = self._now()
        out: list[np.ndarray] = []
        while len(out) < frames:
            steps = int(rng.integers(4, 10))
            goal = self._configuration()
            speed = self._rate * rng.uniform(0.3, 1.0)
            scale = self._rate * rng.choice([0.1, 0.25, 0.5, 0.9])
            knots = rng.normal(size=(steps, 7)) * scale
            hold = int(rng.integers(1, 5))
            noise = np.repeat(knots[:: max(1, hold)], hold, axis=0)[:steps]
            for k in range(steps):
                move = goal - at
                move = move / max(1.0, np.max(np.abs(move) / speed))
                at = at + np.clip(move + noise[k], -self._rate, self._rate)
                at = np.clip(at, self._home[:7] - 1.6, self._home[:7] + 1.6)
                out.append(at)
        return np.array(out[:frames])

    def _walk(self, frames: int) -> np.ndarray:
        """A random walk in joint velocity, pulled back towards the home posture."""
        rng = self._rng
        at = self._now()
        velocity = np.zeros(7)
        keep = rng.uniform(0.5, 0.95)
        out = []
        for _ in range(frames):
            velocity = keep * velocity + (1 - keep**2) ** 0.5 * rng.normal(size=7) * self._rate * 0.6
            velocity += 0.04 * (self._home[:7] - at)
            at = at + np.clip(velocity, -self._rate, self._rate)
            out.append(at)
        return np.array(out)

    def _reach(self, frames: int) -> np.ndarray:
        """Straight in joint space to a pose over the table, wait, and on to the next."""
        rng = self._rng
        at = self._now()
        out: list[np.ndarray] = []
        while len(out) < frames:
            goal = self._configuration()
            out += self._straight(at, goal, rng.uniform(0.4, 1.0)) + [goal] * int(rng.integers(0, 4))
            at = goal
        return np.array(out[:frames])

    def _collide(self, frames: int) -> np.ndarray:
        """Drive into the table, an obstacle or an object, press for a while, come back."""
        rng = self._rng
        at = self._now()
        out: list[np.ndarray] = []
        scene = self._simulation.scene
        base = self._simulation.base_position
        things = [np.asarray(item.position) - base for item in (*scene.obstacles, *scene.objects)]
        while len(out) < frames:
            if things and rng.random() < 0.6:
                # Obstacles first: they stand before the objects in the list.
                target = things[0 if rng.random() < 0.6 else rng.integers(len(things))] + rng.normal(0, 0.02, 3)
            else:
                target = rng.uniform((0.35, -0.45, -0.12), (0.75, 0.45, -0.02))
            approach = _approach(rng.uniform(0, 0.7), rng.uniform(-np.pi, np.pi))
            goal = self._kinematics.inverse(target, approach, self._toward(target))
            if goal is None:
                goal = self._configuration()
            away = self.configuration(upper=np.array([0.75, 0.45, 0.4]))
            speed = rng.uniform(0.4, 1.0)
            out += self._straight(at, goal, speed) + [goal] * int(rng.integers(1, 5))
            out += self._straight(goal, away, speed)
            at = away
        return np.array(out[:frames])

    def _revisit(self, frames: int) -> np.ndarray:
        """Stay, go and stand before an object for at least `AWAY_FRAMES`, come back to where it began and stay.

        What is uncovered at the end was last seen before the arm went away.
        """
        rng = self._rng
        at = self._now()
        away = self._before_an_object(at, 200)
        if away is None:  # no object, or no free way to one: it turns away, raised
            away = at - (np.copysign(1.3 * _APART, at[0]), at[1], 0, 0, 0, 0, 0)
        go = self._straight(at, away, rng.uniform(0.9, 1.0))
        back = self._straight(away, at, rng.uniform(0.9, 1.0))
        spare = frames - (_SEEN_FRAMES + len(go) + AWAY_FRAMES + len(back) + _BACK_FRAMES)
        if spare < 0:
            raise ValueError(f"frames: a revisit takes at least {frames - spare} here, got {frames}")
        before, longer, after = rng.multinomial(spare, [0.25, 0.25, 0.5])
        stay = [at] * (_SEEN_FRAMES + before), [away] * (AWAY_FRAMES + longer), [at] * (_BACK_FRAMES + after)
        return np.array(stay[0] + go + stay[1] + back + stay[2])

    # --- parts --------------------------------------------------------------------------------------------------

    def _now(self) -> np.ndarray:
        return self._simulation.joints[:7]

    def _toward(self, point: np.ndarray) -> np.ndarray:
        """Home posture turned towards `point`, a start for inverse kinematics."""
        start = self._home[:7].copy()
        start[0] = np.arctan2(point[1], point[0])
        start[6] = self._rng.uniform(-1.0, 1.0)
        return start

    def _before_an_object(self, at: np.ndarray, tries: int) -> np.ndarray | None:
        """Joints (7,) far from `at` with the hand between the camera and an object, on a way that touches nothing."""
        rng = self._rng
        simulation = self._simulation
        camera = simulation.scene.camera_position - simulation.base_position
        objects = simulation.object_positions - simulation.base_position
        for _ in range(tries if len(objects) else 0):
            thing, height = objects[rng.integers(len(objects))], rng.uniform(0.15, 0.40)
            # On the line of sight; the tool is a little below it, because the hand is above the tool.
            point = thing + (camera - thing) * (height - thing[2]) / (camera[2] - thing[2]) - (0, 0, 0.06)
            approach = _approach(rng.uniform(0, 0.3), rng.uniform(-np.pi, np.pi))
            joints = self._kinematics.inverse(point, approach, self._toward(point))
            if joints is None or abs(joints[0] - at[0]) < _APART:
                continue
            way = [at, *self._straight(at, joints, 1.0)]
            if len(way) <= _TRAVEL_FRAMES + 1 and all(simulation.clearance_at(np.append(j, _OPEN)) > 0.02 for j in way):
                return joints
        return None

    def _straight(self, start: np.ndarray, goal: np.ndarray, speed: float) -> list[np.ndarray]:
        """Evenly spaced targets from `start` (excluded) to `goal` at `speed` times the largest rate."""
        steps = max(1, int(np.ceil(np.max(np.abs(goal - start) / (self._rate * speed)))))
        return [start + (goal - start) * (k + 1) / steps for k in range(steps)]

    def _gripper(self, frames: int) -> np.ndarray:
        """(frames,) opening commands that change now and then."""
        rng = self._rng
        value = self._simulation.joints[7]
        out = np.empty(frames)
        for t in range(frames):
            if rng.random() < 0.12:
                value = self.random_opening()
            out[t] = value
        return out


def _approach(tilt: float, heading: float) -> np.ndarray:
    """Unit vector (3,) that points down, tilted by `tilt` rad towards `heading` rad."""
    return np.array([np.sin(tilt) * np.cos(heading), np.sin(tilt) * np.sin(heading), -np.cos(tilt)])


def _minimum_jerk(s: float) -> float:
    """Position along a smooth move, s and the result in 0..1; the fastest point runs at 1.875 times the mean speed."""
    return s * s * s * (10 + s * (6 * s - 15))
