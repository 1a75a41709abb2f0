"""The first table of an evaluation: whether what moves is imagined."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = tuple[str, str, str]
"""What is measured, the model's figure, and what it is to be compared with."""

_PAIR_PARTS = {"the one that moves": "moves_right", "the one that leaves": "leaves_right", "copy, both": "copy_right"}


def moving_rows(figures: Mapping[str, Any]) -> list[Row]:
    """The figures of what moves, as far as an evaluation has them; those of before they were there have none."""
    rows = []
    for name, make in (
        ("counterfactual", _pair_rows),
        ("world", _world_rows),
        ("things", _thing_rows),
        ("contact", _contact_rows),
        ("blocked", _blocked_rows),
    ):
        found = figures.get(name)
        if found:
            rows += make(found)
    return rows


def world_rows(figures: Mapping[str, Any]) -> list[tuple[str, str, Sequence[float | None]]]:
    """The rows of a table over the steps: (name, number format, one value a step)."""
    world = figures.get("world")
    if not world:
        return []
    rows: list[tuple[str, str, Sequence[float | None]]] = []
    rows.append(("world pixels, MSE gap closed [%]", ".0f", _times(100, world["gap_closed"])))
    for kind, title, number, factor in (("mse", "MSE {} [1e-4]", ".0f", 1e4), ("depth_m", "depth {} [cm]", ".1f", 100)):
        for name in ("model", "persistence", "copy", "codec"):
            if world[kind][name] is not None:
                rows.append((f"world pixels, {title.format(name)}", number, _times(factor, world[kind][name])))
    return rows


def _pair_rows(pairs: Mapping[str, Any]) -> list[Row]:
    count = pairs["pairs"]
    if not count:
        return []
    text = f"{100 * pairs['right'] / count:.0f} % of {count}"
    parts = ", ".join(f"{name} {100 * pairs[key] / count:.0f} %" for name, key in _PAIR_PARTS.items())
    return [("counterfactual pairs, both futures right", text, parts)]


def _world_rows(world: Mapping[str, Any]) -> list[Row]:
    mse = {name: "-" if v is None else _number(v[-1], 1e4, ".0f") for name, v in world["mse"].items()}
    steps = len(world["gap_closed"])
    others = f"persistence {mse['persistence']}, codec {mse['codec']}"
    against = None if world["against_copy"] is None else world["against_copy"][-1]
    return [
        (
            f"world pixels, step {steps}: gap to the codec closed [%]",
            _number(world["gap_closed"][-1], 100, ".0f"),
            f"MSE [1e-4]: model {mse['model']}, {others}",
        ),
        (
            f"world pixels, step {steps}: MSE / that of kinematics + copy",
            _number(against, 1, ".2f"),
            f"MSE [1e-4]: copy {mse['copy']}",
        ),
    ]


def _thing_rows(things: Mapping[str, Any]) -> list[Row]:
    error = things["error_m"]
    others = ", ".join(f"{n} {_centimetres(error[n])}" for n in ("persistence", "pictures", "reader") if error[n])
    rows = [
        (
            f"place of things that moved 5 cm (n = {things['n']}), median / mean [cm]",
            _centimetres(error["model"]),
            others,
        )
    ]
    if error["coarse"]:
        rows.append(("the same on the coarse level", _centimetres(error["coarse"]), ""))
    return rows if things["n"] else []


def _contact_rows(contact: Mapping[str, Any]) -> list[Row]:
    found = " / ".join(_number(contact[name], 100, ".0f") for name in ("precision", "recall"))
    return [("touches, precision / recall [%]", found, f"touched {contact['touched']}, said {contact['said']}")]


def _blocked_rows(blocked: Mapping[str, Any]) -> list[Row]:
    return [
        (
            f"tool of {kind} robot, median [cm] (n = {of['n']})",
            _number(of["error_m"]["model"], 100, ".1f"),
            f"kinematics {_number(of['error_m']['kinematics'], 100, '.1f')}",
        )
        for kind, of in (("a blocked", blocked), ("a free", blocked["free"]))
    ]


def _centimetres(error: Mapping[str, float] | None) -> str:
    return " / ".join(_number(error[name], 100, ".1f") for name in ("median", "mean")) if error else "-"


def _number(value: float | None, factor: float, number: str) -> str:
    return "-" if value is None else format(factor * value, number)


def _times(factor: float, values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else factor * value for value in values]
