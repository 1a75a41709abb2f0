"""The interface files say for every number what it means: a unit, a frame, a range or a count."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(p for folder in ("msg", "srv", "action") for p in (ROOT / folder).iterdir())
FIELD = re.compile(r"^(?P<type>[A-Za-z_/0-9]+(?:\[\d*\])?)\s+(?P<name>[a-z][a-z0-9_]*)\s*(?:#\s*(?P<comment>.*))?$")
CONSTANT = re.compile(r"^uint8\s+[A-Z][A-Z_]*=\d+\s*(?:#.*)?$")


def lines_of(path: Path) -> list[str]:
    """A file's lines, a comment that goes on over several lines joined to the line that it belongs to."""
    out: list[str] = []
    for line in path.read_text().splitlines():
        if line.startswith(" ") and line.strip().startswith("#") and out:
            out[-1] += " " + line.strip("# ")
        else:
            out.append(line)
    return out


def fields_of(path: Path) -> list[re.Match[str]]:
    lines = (line for line in lines_of(path) if line.strip() and not line.startswith(("#", "---")))
    matches = [(line, CONSTANT.match(line), FIELD.match(line)) for line in lines]
    assert all(constant or field for _, constant, field in matches), f"{path.name}: {matches}"
    return [field for _, constant, field in matches if field and not constant]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_a_file_begins_with_what_it_is_for(path: Path) -> None:
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_number_has_a_unit_or_a_meaning(path: Path) -> None:
    for field in fields_of(path):
        if not field["type"].startswith(("float", "int", "uint", "geometry_msgs/", "sensor_msgs/")):
            continue
        group = path.read_text().split(field[0].splitlines()[0])[0].splitlines()[-6:]
        said = (field["comment"] or "") + " ".join(line for line in group if line.startswith("#"))
        if field["name"].startswith("plans_"):
            continue  # counts, as the name says
        assert said, f"{path.name}: '{field['name']}' has no comment"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_lengths_times_and_speeds_name_their_unit(path: Path) -> None:
    for field in fields_of(path):
        comment = field["comment"] or ""
        if re.search(r"(distance|tolerance|positions|uncertainty)$", field["name"]):
            assert "[m" in comment, f"{path.name}: '{field['name']}': {comment}"
        if re.search(r"(_age|^dt)$", field["name"]):
            assert "second" in comment or "[s]" in comment, f"{path.name}: '{field['name']}': {comment}"
        if field["name"].endswith("_ms"):
            assert "[ms]" in comment, f"{path.name}: '{field['name']}': {comment}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_constants_of_one_block_are_numbered_from_zero(path: Path) -> None:
    blocks: list[list[int]] = [[]]
    for line in lines_of(path):
        if match := re.match(r"^uint8\s+[A-Z_]+=(\d+)", line):
            blocks[-1].append(int(match[1]))
        elif not line.strip():
            blocks.append([])
    for block in filter(None, blocks):
        assert block == list(range(len(block)))
