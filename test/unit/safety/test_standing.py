"""What is in a zone before anything is commanded."""

import numpy as np
from zones_made import BOX, view, zone, zones

from deepverse_ros.safety.standing import standing
from deepverse_ros.safety.view import View

FAR = [9.0, 9.0, 9.0]


def test_what_stands_in_a_zone_is_told_by_number_and_place():
    found = standing(
        zones(zone("table", min_points=3)),
        view([[[0.5, 0.4, 0.1], [0.52, 0.4, 0.1], FAR, [-0.6, 0.0, 0.2], [np.nan] * 3]]),
        0.2,
    )
    assert [s.zone for s in found] == ["table"]
    assert found[0].text == (
        "zone 'table' has 3 points that are not the robot, 3 count: 2 around (0.51, 0.40, 0.10), "
        "1 around (-0.60, 0.00, 0.20) metres in base"
    )


def test_fewer_points_than_count_are_nothing():
    assert not standing(zones(zone(min_points=3)), view([[[0.5, 0.4, 0.1], [0.52, 0.4, 0.1], FAR]]), 0.2)


def test_the_robot_is_not_taken_for_a_thing():
    both = zones(
        zone("cabinet", of="robot"), zone("cell", of="robot", type="keep_in", shape=BOX | {"size": [1.0, 1.0, 1.0]})
    )
    found = standing(both, view([[FAR]], robot=np.array([[[0.9, 0.0, 0.0]]]), robot_radius=0.05), 0.2)
    assert [s.text for s in found] == [
        "the robot itself is in zone 'cabinet', around (0.90, 0.00, 0.00) metres in base",
        "the robot itself is outside of zone 'cell', around (0.90, 0.00, 0.00) metres in base",
    ]


def test_only_what_stops_every_command_counts():
    there = view([[[0.5, 0.4, 0.1]]])
    slow = {"type": "slowdown", "scale": 0.5}
    later = {"window": {"unit": "seconds", "from": 1.0, "to": 2.0}}
    others = zones(zone("slow", **slow), zone("limit", type="limit", max_rate={"*": 1.0}), zone("later", **later))
    assert not standing(others, there, 0.2)
    assert [s.zone for s in standing(zones(zone(type="approach", time=1.0)), there, 0.2)] == ["zone"]
    excluded = zones(zone(), zone("floor", type="exclusion"))
    assert not standing(excluded, there, 0.2)


def test_a_wall_of_points_is_told_in_a_moment():
    points = np.random.default_rng(0).uniform(-1, 1, (1, 20_000, 3))
    (found,) = standing(zones(zone()), View("base", points), 0.2)
    assert found.text.startswith("zone 'zone' has 20000 points")
    assert len(found.text) < 200
