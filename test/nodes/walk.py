"""Which files something passes on its way through running nodes, as somebody who reads the code would follow it."""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import deepverse_ros

PACKAGE = Path(deepverse_ros.__file__).parent
GENERATED = {PACKAGE / kind for kind in ("action", "msg", "srv")}


class Walk:
    """Notes the files of functions that are handed what walks, or give it on, in every thread.

    Helpers that are handed numbers do not count.

    Args: begins: functions in which it begins; only what is called from there counts. steps: functions of which the
    inside is another walk. walks: whether a value is what walks, or what became of it.
    """

    def __init__(
        self, begins: Iterable[Callable], steps: Iterable[Callable], walks: Callable[[Any], bool]
    ) -> None:  # fmt: skip
        self.files: dict[str, set[str]] = {}
        self._begins, self._steps = _codes(begins), _codes(steps)
        self._walks = walks
        self._on = False
        self._depth = threading.local()

    @contextmanager
    def noted(self) -> Iterator[None]:
        """What is called meanwhile counts; threads must have been started within `watched`."""
        self._on = True
        try:
            yield
        finally:
            self._on = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        threading.setprofile(self._look)
        sys.setprofile(self._look)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]

    def _look(self, frame: FrameType, event: str, result: Any) -> None:
        if event not in ("call", "return"):
            return
        code, here = frame.f_code, self._depth
        entered = 1 if event == "call" else -1
        if code in self._begins:
            here.begun = getattr(here, "begun", 0) + entered
        within = getattr(here, "within", 0)
        if code in self._steps:
            here.within = within + entered
            within = min(within, here.within)  # the step itself is on the way
        if self._on and getattr(here, "begun", 0) > 0 and within == 0:
            self._note(frame, result if event == "return" else None)

    def _note(self, frame: FrameType, result: Any) -> None:
        code, file = frame.f_code, Path(frame.f_code.co_filename)
        if not file.is_relative_to(PACKAGE) or file.parent in GENERATED or code.co_name.startswith("<"):
            return
        given = [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
        if code.co_varnames[:1] == ("self",):
            given = given[1:]
        if any(self._walks(part) for value in [*given, result] for part in _parts(value)):
            self.files.setdefault(str(file.relative_to(PACKAGE)), set()).add(code.co_name)


def _codes(functions: Iterable[Callable]) -> set[CodeType]:
    return {function.__code__ for function in functions}


def _parts(value: Any) -> Iterable[Any]:
    return value if isinstance(value, tuple | list) and len(value) < 20 else (value,)
