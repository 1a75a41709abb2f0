"""The parameter files of this process: whether what they say is for the node that got them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from deepverse_ros.nodes.runtime.parameters import ParameterError


def check_files(argv: Sequence[str], node: str) -> list[str]:
    """Sentences about files whose sections are all for others: ROS passes over them in silence.

    Args: argv: of the process, its own name first. node: the fully qualified name.
    Raises: ParameterError for a section that has the executable's name, which is no node's.
    """
    executable, told = Path(argv[0]).name if argv else "", []
    for file in _files(argv):
        sections = list(_sections(file))
        right = f"the section of {node} is written '{node}:', or '/**:' for every node"
        wrong = [s for s in sections if s.rpartition("/")[2] == executable and not _matches(s, node)]
        if wrong:
            raise ParameterError(
                f"parameter file '{file}': section '{wrong[0].lstrip('/')}' has the name of the executable, and is "
                f"for no node; {right}"
            )
        if sections and not any(_matches(s, node) for s in sections):
            names = ", ".join(f"'{s}'" for s in sections)
            told.append(f"parameter file '{file}' says nothing to {node}: its sections are {names}; {right}")
    return told


def _files(argv: Sequence[str]) -> list[str]:
    """What stands after --params-file in the arguments for ROS."""
    out, ros = [], False
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        ros = argument == "--ros-args" or (ros and argument != "--")
        if ros and argument == "--params-file":
            out.append(following)
    return out


def _sections(file: str) -> Iterator[str]:
    """Full names of the nodes that a file names. One that cannot be read has none: ROS has said so already."""
    try:
        content = yaml.safe_load(Path(file).read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return
    waiting = [("", content)]
    while waiting:
        name, inside = waiting.pop()
        if not isinstance(inside, dict):
            continue
        if "ros__parameters" in inside:
            yield name
        waiting += [
            (f"{name}/{str(key).strip('/')}", value) for key, value in inside.items() if key != "ros__parameters"
        ]


def _matches(section: str, node: str) -> bool:
    """As ROS compares them: * stands for one name, ** for any number of them."""
    pattern = re.escape(section).replace(r"/\*\*", r"(/\w+)*").replace(r"\*", r"\w+")
    return re.fullmatch(pattern, node) is not None
