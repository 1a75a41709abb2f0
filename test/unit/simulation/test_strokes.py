"""Ways of the tool through things and around them."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from deepverse_ros.simulation.arm import strokes
from deepverse_ros.simulation.arm.scene import Item
from deepverse_ros.simulation.arm.strokes import Fast, Thing

ITEM = Item("box", (0.03, 0.03, 0.04), (0.5, 0.1, 0.04), 0.0, (1.0, 0.0, 0.0))
THING = Thing(0, np.array(ITEM.position), 0.04, ITEM.footprint, ITEM)
START, END = np.array([0.5, -0.05, 0.03]), np.array([0.5, 0.2, 0.15])


def dense(points: np.ndarray) -> np.ndarray:
    return np.concatenate([a + (b - a) * np.linspace(0, 1, 50)[:, None] for a, b in pairwise(points)])


def distance(points: np.ndarray) -> float:
    """From the axis of the thing, below its top."""
    low = dense(points)
    low = low[low[:, 2] < THING.top + strokes.TIP]
    return float(np.linalg.norm(low[:, :2] - THING.place[:2], axis=1).min())


def test_all_begin_and_end_at_the_same_points() -> None:
    ways = (
        strokes.through(START, END),
        strokes.over(START, END, THING.top),
        strokes.beside(START, END, THING, 1, 0.1),
        strokes.short(START, END, THING, 0.08),
    )
    for way in ways:
        np.testing.assert_array_equal(way[0], START)
        np.testing.assert_array_equal(way[-1], END)


def test_only_the_way_through_meets_the_thing() -> None:
    assert distance(strokes.through(START, END)) < 0.01
    assert distance(strokes.over(START, END, THING.top)) > 0.09
    assert distance(strokes.short(START, END, THING, 0.08)) == pytest.approx(0.08)
    assert distance(strokes.beside(START, END, THING, 1, 0.1)) > 0.08
    left = dense(strokes.beside(START, END, THING, 1, 0.1))[:, 0].min()
    right = dense(strokes.beside(START, END, THING, -1, 0.1))[:, 0].max()
    assert (left, right) == pytest.approx((0.4, 0.6))


def test_over_something_higher_than_the_end() -> None:
    way = strokes.over(START, END, 0.3)
    assert way[1:3, 2].min() > 0.3 + strokes.TIP


def test_paces_meet_every_corner_and_wait_where_two_are_the_same() -> None:
    points = np.array([[0, 0, 0], [0, 0, 0.1], [0, 0, 0.1], [0.3, 0, 0.1]])
    way = strokes.paced(points, 5)
    assert way is not None
    np.testing.assert_allclose(way[0], points[1])
    np.testing.assert_allclose(way[1], points[1])
    np.testing.assert_allclose(np.diff(way[1:, 0]), 0.1)
    assert strokes.paced(points, 2) is None


def test_what_stands_fast_is_as_high_as_its_top_within_the_hands_radius() -> None:
    wall = Fast(np.array([[0.5, 0.0]]), np.array([[0.1, 0.01]]), np.array([0.2]), np.array([np.pi / 2]))
    points = np.array([[0.5, 0.09], [0.5, 0.14], [0.55, 0.0], [0.505, 0.0]])
    np.testing.assert_array_equal(strokes.fast_height(wall, points, 0.03), [0.2, 0.0, 0.0, 0.2])
    nothing = Fast(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    np.testing.assert_array_equal(strokes.fast_height(nothing, points, 0.03), np.zeros(4))


def test_an_open_hand_is_broader() -> None:
    assert strokes.hand_radius(1.0) > strokes.hand_radius(0.0) + 0.03
    assert replace(THING, half_height=0.05).bottom == pytest.approx(-0.01)
