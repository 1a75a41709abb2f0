"""Labelled films of frames that belong together."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepverse_ros.errors import ShapeError
from deepverse_ros.evaluation.reporting.film import GAP, HEADING, MARGIN, film, montage, ringed

RED, BLUE = (200, 0, 0), (0, 0, 200)


def frames(colour: tuple[int, int, int], count: int = 3, size: int = 16) -> np.ndarray:
    return np.full((count, size, size, 3), colour, np.uint8)


def test_rows_stand_under_one_another_and_the_goal_beside_them() -> None:
    sheet = np.asarray(montage({"imagined": frames(RED), "real": frames(BLUE)}, ["a", "b", "c"], frames(BLUE)[0]))
    assert sheet.shape == (HEADING + 2 * (16 + GAP), MARGIN + 4 * (16 + GAP), 3)
    assert tuple(sheet[HEADING + 8, MARGIN + 8]) == RED
    assert tuple(sheet[HEADING + 16 + GAP + 8, MARGIN + 2 * (16 + GAP) + 8]) == BLUE
    assert tuple(sheet[HEADING + 8, MARGIN + 3 * (16 + GAP) + 8]) == BLUE
    assert (sheet[:, :MARGIN] < 128).any(), "the labels are written"


def test_frames_of_another_size_are_fitted() -> None:
    sheet = np.asarray(montage({"a": frames(RED), "b": frames(BLUE, size=40)}, ["", "", ""]))
    assert sheet.shape[0] == HEADING + 2 * (16 + GAP)


def test_a_film_has_one_picture_a_step(tmp_path: Path) -> None:
    path = tmp_path / "new" / "film.gif"
    film(path, {"imagined": frames(RED), "real": frames(BLUE)}, ["+0.2 s", "+0.4 s", "+0.6 s"], 0.2, title="a plan")
    with Image.open(path) as pictures:
        assert pictures.n_frames in (1, 2, 3)
        assert pictures.size == (MARGIN + 16 + GAP, 2 * HEADING + 2 * (16 + GAP))


@pytest.mark.parametrize(
    ("rows", "headings", "named"),
    [
        ({"a": frames(RED), "b": frames(BLUE, count=2)}, ["", "", ""], "row 'b'"),
        ({"a": frames(RED).astype(np.float32)}, ["", "", ""], "float32"),
        ({"a": frames(RED)}, [""], "headings"),
    ],
)
def test_what_does_not_fit_is_named(rows: dict[str, np.ndarray], headings: list[str], named: str) -> None:
    with pytest.raises(ShapeError, match=named):
        montage(rows, headings)


def test_rings_are_drawn_around_places_and_none_where_there_is_nothing() -> None:
    plain = frames((0, 0, 0), count=2, size=32)
    pixels = np.array([[[16.0, 10.0], [np.nan, np.nan]], [[20.0, 10.0], [np.nan, np.nan]]])
    shown = ringed(plain, pixels, np.full((2, 2), 4.0))
    assert tuple(shown[0, 10, 12]) == (255, 0, 0)
    assert tuple(shown[1, 10, 24]) == (255, 0, 0)
    assert not shown[:, 20:].any()
    assert not plain.any()
