"""Where things are imagined to end, and which of them the robot is imagined to touch, beside where they really did."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from deepverse_ros.evaluation.prediction.windows import Windows
from deepverse_ros.model.things.slots import Things

MOVED, MOVED_LITTLE = 0.05, 0.03
"""Metres from which on the place of a thing counts."""
SAME = 0.06
"""Metres: a thing is known by a place that is so near to where it really is."""
_LIKELY = 0.5

DEFINITIONS = {
    "things": f"things that are {100 * MOVED:g} cm or more away from where they were in the last seen frame when the "
    f"last step ends, and that some seen frame shows ({100 * MOVED_LITTLE:g} cm in moved_3cm); error_m: distance of "
    "their true place and where the model's future says (model), the coarse level says (coarse), the model's reader of "
    "things sees them in the imagined picture (pictures) or the true one (reader), or where they were (persistence); "
    f"a thing of the model is the true one within {100 * SAME:g} cm in the last seen frame, one to one, nearest first; "
    "one that is read is the nearest true one, if no farther from it than what that moved and "
    f"{100 * SAME:g} cm; missed: true ones that have none, and count with the error of persistence; n: things that "
    "count; left out are hidden, those that no seen frame shows, and gone, those that end beside the picture; null "
    "where nobody knows",
    "contact": "of the things that some seen frame shows, which the robot touches by the last step: precision and "
    "recall of the imagined touches; touched, said: how many are true and imagined",
    "moving": f"share of the windows in which a thing is {100 * MOVED_LITTLE:g} cm or more away from where it was in "
    "the last seen frame when the last step ends; where episodes tell what their pictures show, windows are drawn so "
    "that it is half, if there are enough",
}


@dataclass(frozen=True)
class Imagined:
    """What a model says of things; None where it says nothing.

    seen_at: (B, 8, 3) metres in the base frame, where they are in the last seen frame, NaN where nothing is.
    future: at the last step, (B, 8), the same slots.
    coarse: the same of the coarse level.
    read_pictures, read_truth: (B, 8) that its reader sees in the last imagined and the last true frame, slots of their
    own.
    """

    seen_at: np.ndarray
    future: Things | None = None
    coarse: Things | None = None
    read_pictures: Things | None = None
    read_truth: Things | None = None


class ThingErrors:
    """Errors of the places of things and of touches, gathered window by window."""

    def __init__(self) -> None:
        self._known = False
        self._rows: list[tuple[float, dict[str, float]]] = []  # metres moved; error by way, NaN missed
        self._hidden: list[float] = []
        self._gone: list[float] = []
        self._touches: np.ndarray | None = None  # (3,) right, touched, said

    def add(self, windows: Windows, imagined: Imagined | None) -> None:
        sight, stays = windows.in_sight, windows.in_picture
        if windows.things is None or sight is None or stays is None:
            return
        self._known = True
        for b, (first, last) in enumerate(zip(windows.things[:, 0], windows.things[:, -1], strict=True)):
            moved = np.linalg.norm(last - first, axis=-1)
            errors = {} if imagined is None else _errors(imagined, b, first, last)
            for k in np.flatnonzero(moved >= MOVED_LITTLE):
                if not sight[b, k]:
                    self._hidden.append(moved[k])
                elif not stays[b, k]:
                    self._gone.append(moved[k])
                else:
                    self._rows.append((moved[k], {"persistence": moved[k], **{n: e[k] for n, e in errors.items()}}))
            if windows.touched is not None and imagined is not None and imagined.future is not None:
                self._count(imagined, imagined.future, b, first, windows.touched[b].any(0) & sight[b], ~sight[b])

    def _count(
        self, imagined: Imagined, future: Things, b: int, first: np.ndarray, touched: np.ndarray, unseen: np.ndarray
    ) -> None:
        said = _array(future.touched[b]) > _LIKELY
        said &= np.isfinite(imagined.seen_at[b]).all(-1)
        slots = assigned(first, imagined.seen_at[b], np.full(len(first), SAME))
        said[slots[unseen & (slots >= 0)]] = False
        right = sum(bool(said[slots[k]]) for k in np.flatnonzero(touched) if slots[k] >= 0)
        counts = np.array([right, touched.sum(), said.sum()])
        self._touches = counts if self._touches is None else self._touches + counts

    def figures(self) -> dict[str, Any] | None:
        """Of the things that moved; None where no window told where they are."""
        if not self._known:
            return None
        return {**self._moved(MOVED), "moved_3cm": self._moved(MOVED_LITTLE)}

    def contact(self) -> dict[str, Any] | None:
        """Of touches; None where nobody imagines or knows them."""
        if self._touches is None:
            return None
        right, touched, said = (int(v) for v in self._touches)
        return {
            "precision": right / said if said else None,
            "recall": right / touched if touched else None,
            "touched": touched,
            "said": said,
        }

    def _moved(self, least: float) -> dict[str, Any]:
        rows = [errors for moved, errors in self._rows if moved >= least]
        names = sorted({name for errors in rows for name in errors})
        stays = np.array([errors["persistence"] for errors in rows])
        error: dict[str, Any] = dict.fromkeys(("model", "coarse", "pictures", "reader", "persistence"))
        missed: dict[str, int] = {}
        for name in names:
            values = np.array([errors.get(name, np.nan) for errors in rows])
            filled = np.where(np.isnan(values), stays, values)
            error[name] = {"median": float(np.median(filled)), "mean": float(filled.mean())}
            missed[name] = int(np.isnan(values).sum())
        hidden, gone = (sum(1 for moved in group if moved >= least) for group in (self._hidden, self._gone))
        return {"error_m": error, "missed": missed, "n": len(rows), "hidden": hidden, "gone": gone}


def assigned(true: np.ndarray, found: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Which of some places is which true one: one to one, the nearest pair first.

    Args: true (K, 3), found (M, 3) metres, NaN where there is none; within (K,) metres, no pair is farther apart.
    Returns: (K,) indices of `found`, -1 for none.
    """
    apart = np.linalg.norm(true[:, None] - found[None], axis=-1)
    apart = np.where(apart <= within[:, None], apart, np.inf)
    out = np.full(len(true), -1)
    while apart.size and np.isfinite(apart).any():
        k, m = np.unravel_index(apart.argmin(), apart.shape)
        out[k] = m
        apart[k], apart[:, m] = np.inf, np.inf
    return out


def places(things: Things) -> np.ndarray:
    """(..., 8, 3) metres, NaN where nothing is."""
    return np.where(_array(things.there)[..., None] > _LIKELY, _array(things.position), np.nan)


def _errors(imagined: Imagined, b: int, first: np.ndarray, last: np.ndarray) -> Mapping[str, np.ndarray]:
    """(K,) metres by way of knowing, NaN for a thing that it lacks."""
    slots = assigned(first, imagined.seen_at[b], np.full(len(first), SAME))
    travel = np.linalg.norm(last - first, axis=-1)
    out = {}
    for name, things in (("model", imagined.future), ("coarse", imagined.coarse)):
        if things is not None:
            out[name] = _distance(last, _array(things.position[b]), slots)
    for name, things in (("pictures", imagined.read_pictures), ("reader", imagined.read_truth)):
        if things is not None:
            read = places(things)[b]
            out[name] = _distance(last, read, assigned(last, read, travel + SAME))
    return out


def _distance(true: np.ndarray, found: np.ndarray, which: np.ndarray) -> np.ndarray:
    """(K,) from each true place to the one that is assigned to it."""
    return np.where(which >= 0, np.linalg.norm(true - found[which], axis=-1), np.nan)


def _array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
