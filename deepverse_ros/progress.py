"""Progress of long work: bars in a terminal, and a line now and then where nobody could see a bar."""

from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TaskID

PERIOD = 30.0
"""Seconds between two lines about a task."""


class Bars(Progress):
    """rich's progress bars, which a file, a pipe or a service's log would show only when all is done.

    There, a line a task is printed at most every PERIOD seconds, with the time that is left at the speed since the
    task's first update: what an earlier run had done already says nothing of it.
    """

    def __init__(self, *columns: str | ProgressColumn, console: Console, **options: Any) -> None:
        super().__init__(*columns, console=console, **options)
        self._began: dict[TaskID, tuple[float, float]] = {}
        self._said: dict[TaskID, float] = {}

    def update(self, task_id: TaskID, **fields: Any) -> None:
        super().update(task_id, **fields)
        self._say(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._say(task_id)

    def _say(self, task_id: TaskID) -> None:
        now = self.get_time()
        task = self._tasks[task_id]
        began, had = self._began.setdefault(task_id, (now, task.completed))
        if self.console.is_terminal or now - self._said.setdefault(task_id, now) < PERIOD:
            return
        self._said[task_id] = now
        line = f"{task.description}: {task.completed:g}" + (f" of {task.total:g}" if task.total else "")
        if task.total and task.completed > had:
            left = (now - began) / (task.completed - had) * (task.total - task.completed)
            line += f", {timedelta(seconds=round(left))} left"
        self.console.print(f"{line}  {task.fields.get('text', '')}".rstrip(), markup=False, highlight=False)
