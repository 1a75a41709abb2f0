"""Zones, and points in and beside them, as the tests of zones need them."""

import numpy as np
import yaml
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepverse_ros import resources
from deepverse_ros.safety.view import View
from deepverse_ros.safety.zones import Zones

EXAMPLE = "config/safety/arm_zones.yaml"
BOX = {"kind": "box", "size": [2.0, 2.0, 2.0]}
TIMES = 0.2 * np.arange(1, 5)
FAR = np.array([9.0, 9.0, 9.0])

coordinate = st.floats(-2, 2).map(lambda x: round(x, 3))
points = arrays(float, (2, 12, 3), elements=st.one_of(coordinate, st.just(np.nan)))


def zone(name="zone", **changes):
    return {"name": name, "type": "stop", "frame_id": "base", "shape": BOX} | changes


def zones(*items, **top):
    return Zones.model_validate({"zones": list(items), **top})


def scene(*inside, points=4):
    """(S, N, 3): in step s, `inside[s]` points at the origin and the others far away."""
    return np.array([[np.zeros(3) if n < k else FAR for n in range(points)] for k in inside])


def view(points, **more):
    return View("base", np.asarray(points, float), **more)


def pose(xyz, rpy):
    """(4, 4) by the textbook: yaw, then pitch, then roll."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    out = np.eye(4)
    out[:3, :3] = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    out[:3, 3] = xyz
    return out


def example():
    return yaml.safe_load(resources.find(EXAMPLE).read_text())
