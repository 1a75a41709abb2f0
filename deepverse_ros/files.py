"""Files that anybody may have written, or half written: read within bounds, and replaced whole or not at all.

What is no regular file is never opened, so that neither a pipe nor a device holds a reader up; a size is compared with
a bound before anything is read; and whatever is wrong ends in an error of this package that names the file.
"""

import fcntl
import json
import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml
from pydantic import ValidationError

from deepverse_ros.errors import BusyError, ConfigError, DeepverseError, ResourceError, WriteError

MOST_TEXT = 256 << 10
"""Bytes of a file that people write."""
MOST_DEPTH, MOST_NODES = 32, 100_000
"""Of a YAML or JSON file: how deep values lie in each other, and how many there are when aliases are written out."""
MOST_DIGITS = 100
"""Characters of a number."""
LOCK = ".lock"

Wrong = type[DeepverseError]


def require_regular(path: Path, most_bytes: int, wrong: Wrong = ConfigError) -> int:
    """The size of a file in bytes. Raises: ResourceError where there is none; `wrong` for what is no file to read."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ResourceError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:  # also a name that no system takes, and links in a circle
        raise wrong(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(found.st_mode):
        raise wrong(f"{path}: {_kind(found.st_mode)}, expected a file")
    if found.st_size > most_bytes:
        raise wrong(f"{path}: has {found.st_size} bytes, more than the {most_bytes} that are read")
    return found.st_size


def read_bytes(path: Path, most_bytes: int, wrong: Wrong = ConfigError) -> bytes:
    """Raises: as `require_regular`."""
    require_regular(path, most_bytes, wrong)
    try:
        # Should a pipe have taken the file's place meanwhile, opening it does not wait for a writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise wrong(f"{path}: expected a file")
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise wrong(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > most_bytes:
        raise wrong(f"{path}: grew beyond the {most_bytes} bytes that are read")
    return data


def read_text(path: Path, most_bytes: int = MOST_TEXT, wrong: Wrong = ConfigError) -> str:
    """UTF-8. Raises: as `require_regular`."""
    try:
        return read_bytes(path, most_bytes, wrong).decode()
    except UnicodeDecodeError as error:
        raise wrong(f"{path}: not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}") from error


def read_yaml(path: Path, wrong: Wrong = ConfigError) -> dict[str, Any]:
    """A mapping of plain values: text, numbers, true, false, null, lists, mappings. A date is text.

    Numbers may be infinite or NaN: whoever knows the fields says which may be so.

    Raises: as `require_regular`; `wrong` naming file and line, or file and field, for what is not valid, for keys that
    stand twice, tags, and for what is too deep or, with its aliases, too much.
    """
    text = read_text(path, MOST_TEXT, wrong)
    try:
        values = yaml.load(text, _Plain)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise wrong(f"{path}: not valid YAML: {error}") from error
    return _mapping(path, values, wrong, finite=False)


def read_json(
    path: Path, most_bytes: int = MOST_TEXT, wrong: Wrong = ConfigError, *, finite: bool = True
) -> dict[str, Any]:
    """An object. Args: finite: NaN and Infinity, which are not JSON, are refused. Raises: as `read_yaml`."""
    text = read_text(path, most_bytes, wrong)
    try:
        values = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise wrong(f"{path}: not valid JSON: {error}") from error
    return _mapping(path, values, wrong, finite)


def fields(error: ValidationError) -> str:
    """Wrong fields in a sentence: each by its path, with what is allowed and what stands there."""
    said = []
    for one in error.errors(include_url=False):
        where = ".".join(map(str, one["loc"])) or "file"
        given = one["input"]
        got = f", got {shown(given)}" if given is None or isinstance(given, bool | int | float | str) else ""
        said.append(f"{where}: {one['msg'].removeprefix('Value error, ')}{got}")
    return "; ".join(said[:10]) + (f"; and {len(said) - 10} more" if len(said) > 10 else "")


def shown(value: object) -> str:
    """A value for an error's text, without line breaks, and not long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _kind(mode: int) -> str:
    kinds: tuple[tuple[Callable[[int], bool], str], ...] = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((name for test, name in kinds if test(mode)), "a device")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {shown(next(n for n in names if names.count(n) > 1))} stands twice")
    return out


def _mapping(path: Path, values: Any, wrong: Wrong, finite: bool) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise wrong(f"{path}: expected a mapping of fields, got {type(values).__name__}")
    for where, depth, value in _walk(values):
        if depth > MOST_DEPTH:
            raise wrong(f"{path}: {where[:200]}: more than {MOST_DEPTH} values within each other")
        if finite and isinstance(value, float) and not math.isfinite(value):
            raise wrong(f"{path}: {where}: {value} is not finite")
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    raise wrong(f"{path}: {where or 'file'}: the key {shown(key)} is no text")
    return values


def _walk(values: Any) -> Iterator[tuple[str, int, Any]]:
    """(path, depth, value) of every value; stops going deeper at what is too deep."""
    waiting: list[tuple[str, int, Any]] = [("", 0, values)]
    while waiting:
        where, depth, value = waiting.pop()
        yield where, depth, value
        if isinstance(value, dict | list):
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(f"{where}.{shown(k).strip(chr(39))}".lstrip("."), depth + 1, v) for k, v in parts]


class _Plain(yaml.SafeLoader):
    """YAML without what no configuration needs, and without what makes a small file a large value."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = self._nodes = 0
        self._sizes: dict[str, int | None] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        mark = event.start_mark
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            size = self._sizes.get(event.anchor or "", 0)
            if size is None:
                raise yaml.composer.ComposerError(None, None, f"*{anchor} stands within itself", mark)
            self._grow(size, mark)
            return super().compose_node(parent, index)
        self._grow(1, mark)
        before = self._nodes
        if anchor:
            self._sizes[anchor] = None
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"more than {MOST_DEPTH} values within each other", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if anchor:
            self._sizes[anchor] = self._nodes - before + 1
        return node

    def _grow(self, nodes: int, mark: Any) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            raise yaml.composer.ComposerError(None, None, f"more than {MOST_NODES} values, aliases written out", mark)

    def plain_mapping(self, node: yaml.MappingNode) -> dict[Any, Any]:
        """Raises: ConstructorError for a key that stands twice; what is merged in by << may be written anew."""
        seen = set()
        for key, _ in node.value:
            wrong = None
            if not isinstance(key, yaml.ScalarNode):
                wrong = "a key must be text"
            elif key.value in seen:
                wrong = f"the key {shown(key.value)} stands twice"
            if wrong:
                raise yaml.constructor.ConstructorError(None, None, wrong, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=True)

    def plain_list(self, node: yaml.SequenceNode) -> list[Any]:
        return super().construct_sequence(node, deep=True)

    def plain_scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            if node.tag in _NUMBERS and len(node.value) > MOST_DIGITS:
                raise ValueError
            return yaml.SafeLoader.yaml_constructors[node.tag](self, node)
        except (ValueError, KeyError, IndexError) as error:  # such as !!int "x"
            said = f"{shown(node.value)} is no {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, said, node.start_mark) from error

    def no_tag(self, node: yaml.Node) -> Any:
        raise yaml.constructor.ConstructorError(None, None, f"the tag {shown(node.tag)} is not taken", node.start_mark)


_TAG = "tag:yaml.org,2002:"
_NUMBERS = {f"{_TAG}int", f"{_TAG}float"}
_Plain.yaml_constructors = {
    f"{_TAG}map": _Plain.plain_mapping,
    f"{_TAG}seq": _Plain.plain_list,
    **{f"{_TAG}{name}": _Plain.plain_scalar for name in ("null", "bool", "int", "float", "str")},
    None: _Plain.no_tag,
}
_Plain.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in entries if tag != f"{_TAG}timestamp"]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


# ---- writing


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to beside `path`. It takes that one's place, whole and on the disk, where the block ends well.

    Raises: WriteError naming the file, such as on a full disk; what stood there stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def cannot_write(path: Path, error: Exception) -> WriteError:
    """An error of the system, or of a library that writes, in this package's words."""
    return WriteError(f"{path}: could not be written: {getattr(error, 'strerror', None) or error}")


@contextmanager
def locked(folder: Path, work: str) -> Iterator[None]:
    """Only one process at a time works in a folder. Args: work: what it does there, such as "a training".

    Raises: BusyError naming the folder and the process that works there; WriteError where no file can be made.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _locked_file(path)
    except BlockingIOError as error:
        owner = read_text(path, MOST_TEXT, BusyError).strip() or "another process"
        raise BusyError(
            f"{folder}: {owner} works there; wait for it or end it, or give {work} another folder"
        ) from error
    except OSError as error:
        raise cannot_write(path, error) from error
    with file:
        try:
            file.write(f"{work} (process {os.getpid()})\n")
            file.flush()
            yield
        finally:
            path.unlink(missing_ok=True)  # still locked: whoever opened it meanwhile sees that it is gone


def _locked_file(path: Path) -> IO[str]:
    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BaseException:
            file.close()
            raise
        file.close()
