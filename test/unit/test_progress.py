"""What is said of long work where there is no terminal."""

import io

from rich.console import Console

from deepverse_ros.progress import PERIOD, Bars


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines_of(work, terminal: bool = False) -> list[str]:
    clock, out = Clock(), io.StringIO()
    bars = Bars(
        "{task.description}", console=Console(file=out, force_terminal=terminal, width=60), get_time=clock,
        auto_refresh=False,
    )  # fmt: skip
    with bars:
        work(bars, clock)
        return out.getvalue().splitlines()


def test_a_line_now_and_then_with_the_time_that_is_left() -> None:
    def work(bars: Bars, clock: Clock) -> None:
        task = bars.add_task("planning", total=100)
        for done in range(21):
            bars.update(task, completed=done)
            clock.now += PERIOD / 8

    assert lines_of(work) == ["planning: 8 of 100, 0:05:45 left", "planning: 16 of 100, 0:05:15 left"]


def test_what_an_earlier_run_had_done_says_nothing_of_the_speed() -> None:
    def work(bars: Bars, clock: Clock) -> None:
        task = bars.add_task("training", total=1000)
        bars.update(task, completed=900)
        clock.now += PERIOD
        bars.update(task, completed=950)

    assert lines_of(work) == ["training: 950 of 1000, 0:00:30 left"]


def test_tasks_have_lines_of_their_own_and_what_has_no_end_has_no_rest() -> None:
    def work(bars: Bars, clock: Clock) -> None:
        first, second = bars.add_task("one [1]", total=None, text="loss 0.5"), bars.add_task("two", total=4)
        for task in (first, second):
            bars.advance(task, 0)
        clock.now += PERIOD
        bars.advance(first)
        bars.advance(second, 2)
        bars.advance(second)

    assert lines_of(work) == ["one [1]: 1  loss 0.5", "two: 2 of 4, 0:00:30 left"]


def test_a_terminal_has_bars_alone() -> None:
    def work(bars: Bars, clock: Clock) -> None:
        task = bars.add_task("planning", total=10)
        clock.now += 2 * PERIOD
        bars.update(task, completed=5)

    assert not any("of 10" in line for line in lines_of(work, terminal=True))
