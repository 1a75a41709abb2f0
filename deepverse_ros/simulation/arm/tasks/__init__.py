"""What a planner is measured on: tasks of the simulated arm, drawn from seeds, judged by the simulation's truth."""

from deepverse_ros.simulation.arm.simulation import ArmSimulation
from deepverse_ros.simulation.arm.tasks.avoid import Avoid
from deepverse_ros.simulation.arm.tasks.base import Task
from deepverse_ros.simulation.arm.tasks.push import Push
from deepverse_ros.simulation.arm.tasks.reach import Impossible, Reach

TASKS: dict[str, type[Task]] = {task.name: task for task in (Reach, Push, Avoid, Impossible)}


def make_task(name: str, simulation: ArmSimulation) -> Task:
    """The task `name`, to be `reset` before use. Raises: ValueError for a name that is not in `TASKS`."""
    if name not in TASKS:
        raise ValueError(f"task: expected one of {', '.join(TASKS)}, got '{name}'")
    return TASKS[name](simulation)
