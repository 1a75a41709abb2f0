"""The demo: a simulated arm moves to six goal pictures by imagination, and refuses one inside an obstacle."""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from std_msgs.msg import Header

from deepverse_ros.action import PlanToGoal
from deepverse_ros.errors import DeepverseError
from deepverse_ros.evaluation.reporting.film import film, montage
from deepverse_ros.evaluation.reporting.report import write_json
from deepverse_ros.msg import PlanVerdict
from deepverse_ros.nodes.demo.recorder import DemoRecorder
from deepverse_ros.nodes.messages.image import image_from_array, image_from_depth
from deepverse_ros.planning.verdicts.verdict import Reason
from deepverse_ros.simulation.arm.goals import impossible_goal, sample_goal
from deepverse_ros.simulation.arm.simulation import ArmSimulation

FIRST_SEED = 1_000_000
"""Training scenes have smaller seeds, so that the demo's are never among them."""
SCENES = 1000
"""From where the scene of one SEED is looked for to where that of the next is."""
OBJECTS, OBSTACLES = 3, 1
"""As config/nodes/sim.yaml has them."""
REACHED = 0.05
"""Metres of the true tool to the true goal that count as reached."""
SPARE = 6
"""One goal in so many may be missed."""
START_TIMEOUT, GOAL_TIMEOUT, END_TIMEOUT = 240.0, 60.0, 45.0
LOOK = 1.0
"""Seconds for which the planner looks before the first goal: four frames at the model's rate take 0.8 s."""
REASONS = {getattr(PlanVerdict, reason.name): reason.name for reason in Reason}


class DemoError(DeepverseError, RuntimeError):
    """The demo could not be carried out."""


@dataclass(frozen=True)
class Target:
    """A goal picture, rgb (H, W, 3) uint8 and depth (H, W) metres, and where its tool truly is, (3,) metres."""

    rgb: np.ndarray
    depth: np.ndarray
    tool: np.ndarray


@dataclass
class Outcome:
    """What became of one goal. distance_m: true tool to true goal. imagined_error_m: imagined end to true end."""

    reached: bool
    distance_m: float
    start_distance_m: float
    plans_accepted: int
    plans_rejected: int
    reasons: dict[str, int] = field(default_factory=dict)
    plan_ms: float | None = None
    imagine_ms: float | None = None
    seconds: float = 0.0
    text: str = ""


# Goals --------------------------------------------------------------------------------------------------------------
def make_targets(first: int, count: int) -> tuple[int, list[Target], Target]:
    """`count` reachable goals, each within one plan of the one before, and an impossible one.

    Returns: the seed of their scene, the first from `first` on that has them all; the goals; the impossible one.
    Raises: DemoError where none of many scenes has them.
    """
    with ArmSimulation(first, n_objects=OBJECTS, n_obstacles=OBSTACLES) as simulation:
        for seed in range(first, first + SCENES):
            simulation.reset(seed)
            targets, joints = [], simulation.joints
            try:
                for number in range(count):
                    joints = sample_goal(simulation, seed + 1 + number, start=joints)
                    targets.append(Target(*simulation.goal_frame(joints)))
                return seed, targets, Target(*impossible_goal(simulation, seed + 1 + count))
            except RuntimeError:  # no room for such goals
                continue
    raise DemoError(f"no scene of {first} to {first + SCENES - 1} has {count} goals and an impossible one")


# The robot ----------------------------------------------------------------------------------------------------------
@contextmanager
def robot(arguments: dict[str, str], log: Path) -> Iterator[subprocess.Popen]:
    """arm_mpc.launch.py without a display, as a process group of its own that is ended by Ctrl-C's signal."""
    command = ["ros2", "launch", "deepverse_ros", "arm_mpc.launch.py", *(f"{k}:={v}" for k, v in arguments.items())]
    # A signal that is handled here is at its default in the child; one that is ignored would stay ignored there.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(END_TIMEOUT)
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"the robot did not end within {END_TIMEOUT:.0f} s and is killed\n")
    try:
        os.killpg(process.pid, signal.SIGKILL)  # whoever is left of the group; normally nobody
    except ProcessLookupError:
        return
    process.wait()


def wait_until(condition: Callable[[], Any], timeout: float, what: str, process: subprocess.Popen, log: Path) -> None:
    """Raises: DemoError with the log's last lines when the time is up or the robot has ended."""
    end = time.monotonic() + timeout
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            lines = "\n".join(log.read_text().splitlines()[-15:])
            problem = "ended" if process.poll() is not None else f"took longer than {timeout:.0f} s"
            raise DemoError(f"{what}: the robot {problem}; the end of {log}:\n{lines}")
        time.sleep(0.02)


# One goal -----------------------------------------------------------------------------------------------------------
class Demo:
    """Hands goals to the planner and keeps what came of them."""

    def __init__(self, recorder: DemoRecorder, process: subprocess.Popen, out: Path, console: Console) -> None:
        self.recorder, self.process, self.out, self.console = recorder, process, out, console
        self.log = out / "launch.log"

    def wait(self, condition: Callable[[], Any], timeout: float, what: str) -> None:
        wait_until(condition, timeout, what, self.process, self.log)

    def ready(self) -> None:
        recorder = self.recorder
        self.wait(lambda: recorder.planner.wait_for_server(timeout_sec=0.1), START_TIMEOUT, "starting the planner")
        self.wait(lambda: recorder.tool is not None and recorder.newest_frame() is not None, 20.0, "first camera image")
        self.wait(lambda: "planner is active" in self.log.read_text(), START_TIMEOUT, "activating the planner")
        active = time.monotonic()
        self.wait(lambda: time.monotonic() > active + LOOK, 2 * LOOK, "looking on")

    def pursue(self, target: Target, name: str, max_plans: int = 0) -> Outcome:
        """Send one goal, wait for its end, measure, and write its pictures."""
        recorder, begin = self.recorder, time.monotonic()
        start = self._distance(target)
        with recorder.lock:
            recorder.verdicts.clear()
            first_imagined = len(recorder.imagine_ms)
        before = recorder.newest_frame()
        goal = PlanToGoal.Goal(
            goal_image=image_from_array(target.rgb, "rgb8", Header()),
            goal_depth=image_from_depth(target.depth, "32FC1"),
            max_plans=max_plans,
        )
        sent = recorder.planner.send_goal_async(goal)
        self.wait(sent.done, 10.0, f"sending {name}")
        handle = sent.result()
        if not handle.accepted:
            raise DemoError(f"{name}: the planner refused the goal")
        waiting = handle.get_result_async()
        shown, canceled = None, False
        while not waiting.done():
            seconds = time.monotonic() - begin
            if seconds > GOAL_TIMEOUT and not canceled:
                handle.cancel_goal_async()
                canceled = True
            if seconds > GOAL_TIMEOUT + 10.0 or self.process.poll() is not None:
                raise DemoError(f"{name}: no result after {seconds:.0f} s; see {self.log}")
            shown = shown or self._show(name, target)
            time.sleep(0.05)
        result = waiting.result().result
        time.sleep(0.3)
        shown = shown or self._show(name, target)
        with recorder.lock:
            verdicts, imagine_ms = list(recorder.verdicts), recorder.imagine_ms[first_imagined:]
        if shown is None and before is not None:
            self._show_rejected(name, target, verdicts, before)
        distance = self._distance(target)
        return Outcome(
            reached=distance <= REACHED,
            distance_m=round(distance, 4),
            start_distance_m=round(start, 4),
            plans_accepted=int(result.plans_accepted),
            plans_rejected=int(result.plans_rejected),
            reasons=dict(Counter(REASONS[v.reason] for v in verdicts)),
            plan_ms=_median(searches(verdicts)),
            imagine_ms=_median(imagine_ms),
            seconds=round(time.monotonic() - begin, 2),
            text=result.text,
        )

    def _distance(self, target: Target) -> float:
        with self.recorder.lock:
            tool = self.recorder.tool
        return float(np.linalg.norm(tool - target.tool)) if tool is not None else float("nan")

    def _show(self, name: str, target: Target) -> str | None:
        """Pictures of the first executed plan, once the camera saw all of it. Returns: its id."""
        recorder = self.recorder
        with recorder.lock:
            mine = [v.plan_id for v in recorder.verdicts if v.accepted and v.plan_id in recorder.plans]
            plan = recorder.plans[mine[0]] if mine else None
        if plan is None or recorder.now() < plan.begin + plan.dt * (plan.steps + 1):
            return None
        real, imagined = recorder.real_frames(mine[0]), recorder.imagined_frames(mine[0])
        if real is None or imagined is None:
            return None
        rows = {"imagined": imagined[: len(real)], "real": real}
        self._write(name, rows, [f"+{plan.dt * (t + 1):.1f} s" for t in range(len(real))], target, "accepted, executed")
        return mine[0]

    def _show_rejected(self, name: str, target: Target, verdicts: list[PlanVerdict], now: np.ndarray) -> None:
        """Pictures of the best plan that was not executed: its imagined outcome above the robot that stayed."""
        for verdict in reversed(verdicts):
            imagined = self.recorder.imagined_frames(verdict.plan_id)
            if imagined is not None:
                after = self.recorder.newest_frame()
                real = np.repeat((now if after is None else after)[None], len(imagined), axis=0)
                headings = [f"step {t + 1}" for t in range(len(imagined))]
                title = f"rejected, {REASONS[verdict.reason]}"
                self._write(name, {"imagined": imagined, "real": real}, headings, target, title)
                return

    def _write(self, name: str, rows: dict[str, np.ndarray], headings: list[str], target: Target, title: str) -> None:
        title = f"{name.replace('_', ' ')}: {title}"
        montage(rows, headings, target.rgb, title).save(self.out / f"{name}.png")
        film(self.out / f"{name}.gif", rows, headings, 0.2, target.rgb, title)


def searches(verdicts: list[PlanVerdict]) -> list[float]:
    """Milliseconds of each call's first search: candidates x steps x iterations, from the request to the verdict."""
    return [v.latency_ms for v in verdicts if v.plan_id.endswith(".0") and v.latency_ms == v.latency_ms]


def _median(values: list[float]) -> float | None:
    return round(float(np.median(values)), 1) if values else None


# Figures ------------------------------------------------------------------------------------------------------------
def summarise(
    goals: list[Outcome], impossible: Outcome, recorder: DemoRecorder, plan_ms: list[float]
) -> dict[str, Any]:
    """What summary.json holds."""
    with recorder.lock:
        at, imagine_ms = list(recorder.imagined_at), list(recorder.imagine_ms)
    rate = (len(at) - 1) / (at[-1] - at[0]) if len(at) > 1 and at[-1] > at[0] else 0.0
    return {
        "goals": [asdict(goal) for goal in goals],
        "impossible_goal": asdict(impossible),
        "imagine_ms_p50": _median(imagine_ms),
        "plan_ms_p50": _median(plan_ms),
        "predicted_frames_hz": round(rate, 2),
    }


def table(goals: list[Outcome], impossible: Outcome) -> Table:
    """The figures for people."""
    out = Table(title="Goals by imagination", title_justify="left")
    for heading in (
        "goal",
        "reached",
        "before [cm]",
        "after [cm]",
        "accepted",
        "rejected",
        "plan [ms]",
        "imagine [ms]",
    ):
        out.add_column(heading, justify="left" if heading == "goal" else "right")
    out.add_column("verdicts")
    for name, outcome in [*((str(i + 1), g) for i, g in enumerate(goals)), ("impossible", impossible)]:
        right = outcome.reached if name != "impossible" else not outcome.plans_accepted
        said = ("yes" if outcome.reached else "no") if name != "impossible" else "refused" if right else "accepted"
        out.add_row(
            name,
            f"[{'green' if right else 'red'}]{said}[/]",
            f"{100 * outcome.start_distance_m:.1f}",
            f"{100 * outcome.distance_m:.1f}",
            str(outcome.plans_accepted),
            str(outcome.plans_rejected),
            "-" if outcome.plan_ms is None else f"{outcome.plan_ms:.0f}",
            "-" if outcome.imagine_ms is None else f"{outcome.imagine_ms:.0f}",
            ", ".join(f"{count} {reason}" for reason, count in outcome.reasons.items()),
        )
    return out


def failures(summary: dict[str, Any]) -> list[str]:
    """Why the demo did not succeed; empty when it did."""
    goals, reached = len(summary["goals"]), sum(goal["reached"] for goal in summary["goals"])
    needed, out = goals - goals // SPARE, []
    if reached < needed:
        out.append(f"{reached} of {goals} goals were reached; at least {needed} are needed")
    if summary["impossible_goal"]["plans_accepted"]:
        out.append("a plan for the impossible goal was accepted")
    elif not summary["impossible_goal"]["plans_rejected"]:
        out.append("no plan for the impossible goal was judged")
    return out


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Launch the arm, pursue all goals, and write pictures and summary. Returns: the summary."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    for old in [*out.glob("goal_*.*"), *out.glob("impossible_goal.*"), out / "summary.json"]:
        old.unlink(missing_ok=True)
    seed, targets, impossible = make_targets(FIRST_SEED + SCENES * options.seed, options.goals)
    arguments = {"seed": str(seed), "rviz": "false", "checkpoint": options.checkpoint, "device": options.device}
    arguments |= dict(argument.split(":=", 1) for argument in options.launch_arguments)
    console.print(f"starting the simulated arm, scene {seed}; its log: {out / 'launch.log'}", soft_wrap=True)
    with robot(arguments, out / "launch.log") as process:
        recorder = DemoRecorder()
        try:
            demo = Demo(recorder, process, out, console)
            demo.ready()
            goals, plan_ms = [], []
            for number, target in enumerate([*targets, impossible]):
                name = f"goal_{number + 1}" if number < len(targets) else "impossible_goal"
                outcome = demo.pursue(target, name)
                plan_ms += searches(recorder.verdicts)
                goals.append(outcome)
                console.print(f"{name}: {outcome.text} ({outcome.seconds:.0f} s)", highlight=False)
            summary = summarise(goals[:-1], goals[-1], recorder, plan_ms)
        finally:
            recorder.close()
    write_json(out / "summary.json", summary)
    console.print(table(goals[:-1], goals[-1]))
    console.print(
        f"imagining 8 RGB-D frames: {summary['imagine_ms_p50']} ms, planning: {summary['plan_ms_p50']} ms (medians); "
        f"predicted frames at {summary['predicted_frames_hz']} Hz; pictures and summary.json in {out}",
        highlight=False,
    )
    return summary


def main() -> None:
    """The command: exits with 1 where a goal was missed or the impossible one accepted."""
    parser = argparse.ArgumentParser(prog="ros2 run deepverse_ros demo_client", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or 0), help="other scene, other goals")
    parser.add_argument("--goals", type=int, default=6, help="goal pictures to move to")
    parser.add_argument("--out", default="demo", help="folder for pictures and summary.json")
    parser.add_argument("--checkpoint", default="models/arm", help="folder of the world model")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("launch_arguments", nargs="*", metavar="NAME:=VALUE", help="more launch arguments")
    options = parser.parse_args()
    # Without a terminal (CI, a log file) rich assumes 80 columns, which cut the table.
    console = Console() if sys.stdout.isatty() else Console(width=120)
    try:
        problems = failures(run(options, console))
    except DeepverseError as error:
        problems = [str(error)]
    except KeyboardInterrupt:
        sys.exit(130)
    for problem in problems:
        console.print(f"[red]failed:[/] {problem}", highlight=False)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
