"""Some hundred damaged files of every kind: each reader ends soon, in little memory, with an error that names the file.

`make fuzz` runs thousands, in processes of their own.
"""

from pathlib import Path

import pytest
from fuzz_files import GOOD, KINDS, MEMORY, bounded, run, untouched

CASES = 26
"""Of each kind."""


@pytest.mark.parametrize("kind", list(KINDS))
def test_damaged_files_are_refused_or_still_valid(tmp_path: Path, kind: str) -> None:
    untouched(kind)
    number, bad, ends = list(KINDS).index(kind), [], set()
    for case in range(CASES):
        folder = tmp_path / str(case)
        folder.mkdir()
        with bounded(5.0, MEMORY):
            ended, text = run(1, number + case * len(KINDS), folder)
        ends.add(ended)
        if ended not in GOOD:
            bad.append(f"{ended}: {text}")
    assert not bad, "\n".join(bad)
    assert "refused" in ends
