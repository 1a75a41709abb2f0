"""Write docs/field.md: what is taken from and sent to real robots, out of the tables that the code goes by.

A row keeps the version in which it first stood there; a new one gets that of package.xml.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from deepverse_ros.nodes.messages.command_formats import FORMATS
from deepverse_ros.nodes.messages.depth_decoding import ENCODINGS as DEPTH_ENCODINGS
from deepverse_ros.nodes.messages.encodings import ENCODINGS, Family
from deepverse_ros.nodes.planner.parameters import PARAMETERS as PLANNER_PARAMETERS
from deepverse_ros.nodes.prefilter.parameters import PARAMETERS as PREFILTER_PARAMETERS
from deepverse_ros.nodes.runtime.parameters import Parameter
from deepverse_ros.nodes.simulation import node as sim_node
from deepverse_ros.nodes.world_model import node as world_model_node

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "field.md"
NODES = {
    "world_model": world_model_node.PARAMETERS,
    "planner": PLANNER_PARAMETERS,
    "prefilter": PREFILTER_PARAMETERS,
    "sim": sim_node.PARAMETERS,
}
HEADER = """\
# What is taken and sent, since when

Made by `make docs` from the tables that the code goes by. [cameras.md](cameras.md), [controllers.md](controllers.md)
and [prefilter.md](prefilter.md) say what each means.
"""
Row = tuple[str, ...]


def topics() -> Iterable[Row]:
    """Parameters that name a topic or an action, each with the nodes that have it."""
    owners: dict[str, list[str]] = {}
    first: dict[str, Parameter] = {}
    for node, table in NODES.items():
        for parameter in table:
            if parameter.name.endswith(("_topic", "_action")) and not parameter.choices:
                owners.setdefault(parameter.name, []).append(node)
                first.setdefault(parameter.name, parameter)
    for name, parameter in first.items():
        default = f"`{parameter.default}`" if parameter.default else ""
        yield f"`{name}`", ", ".join(owners[name]), default, parameter.description


def encodings() -> Iterable[Row]:
    """A row for every encoding of an image that is read."""
    for name, encoding in ENCODINGS.items():
        bits = 8 * encoding.kind().itemsize
        what = encoding.family.value
        if encoding.family is Family.INTERLEAVED:
            order = encoding.order or ("blue first" if encoding.channels > 2 else "grey")
            what = f"{encoding.channels} x {bits} bits, {order}"
        yield f"`{name}`", "yes", "yes" if name in DEPTH_ENCODINGS else "", what


def choices() -> Iterable[Row]:
    """Parameters that choose how something comes or goes."""
    seen = set()
    for table in NODES.values():
        for parameter in table:
            if parameter.name.endswith(("_transport", "_output")) and parameter.name not in seen:
                seen.add(parameter.name)
                for choice in parameter.choices:
                    yield f"`{parameter.name}: {choice}`", parameter.description


def commands() -> Iterable[Row]:
    """A row for every kind of command that the prefilter takes and sends."""
    for name, kind in FORMATS.items():
        message = kind.message_type  # type: ignore[attr-defined]
        yield f"`{name}`", f"`{message.__module__.split('.')[0]}/{message.__name__}`"


SECTIONS = (
    ("Topics and actions", ("parameter", "of", "default", "what"), topics),
    ("Transports and outputs", ("parameter", "what"), choices),
    ("Commands that the prefilter judges (`command_type`)", ("type", "message"), commands),
    ("Encodings", ("encoding", "picture", "depth", "what"), encodings),
)


def since(text: str) -> dict[tuple[str, str], str]:
    """Section and first column to the version that stands in the last one."""
    out = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif match := re.match(r"\| (`[^|]*`) \|.*\| ([0-9.]+) \|$", line):
            out[section, match[1]] = match[2]
    return out


def table(before: str) -> str:
    """The page. Args: before: as it stood, for the versions."""
    version = ElementTree.parse(ROOT / "package.xml").getroot().findtext("version", "")
    known = since(before)
    lines = [HEADER]
    for title, columns, rows in SECTIONS:
        lines += [f"## {title}", "| " + " | ".join((*columns, "since")) + " |", "|---" * (len(columns) + 1) + "|"]
        for row in rows():
            cells = (*(cell.replace("|", "\\|") for cell in row), known.get((title, row[0]), version))
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Write the page."""
    TARGET.write_text(table(TARGET.read_text() if TARGET.exists() else ""))
    print(f"wrote {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
