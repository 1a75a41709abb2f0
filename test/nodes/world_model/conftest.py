"""A world model node with untrained weights, and the sensors that it sees with."""

import pytest
from sensors import Sensors

from deepverse_ros.nodes.world_model.node import WorldModelNode


@pytest.fixture
def sensors(robot, arm):
    return Sensors(robot, arm)


@pytest.fixture
def start(robot, small_checkpoint):
    def start(**parameters):
        return robot.start(
            WorldModelNode,
            **{"checkpoint": str(small_checkpoint), "max_rate": 20.0, "torch_threads": 1, "service_timeout": 60.0}
            | parameters,
        )

    return start
