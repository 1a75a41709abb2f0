"""arm_mpc.launch.py with the prefilter between planner and robot: monitoring lets the arm move, enforcing does not."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from arm_launch import arguments, launched, until
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from test_arm_mpc_launch import Peer

from deepverse_ros.msg import PrefilterStatus
from deepverse_ros.nodes import qos


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    log, deaf = tmp_path / "log", tmp_path / "prefilter.yaml"
    deaf.write_text("/**:\n  ros__parameters:\n    verdict_topic: nobody/command_verdict\n")
    changes = {"seed": "3", "prefilter": "monitor", "prefilter_params": str(deaf)}
    given = [f"{name}:={value}" for name, value in arguments(**changes).items()]
    with launched(log, "arm_mpc.launch.py", given):
        yield log


def test_the_planners_commands_go_through_the_prefilter(log):
    peer = Peer()
    try:
        peer.wait_for_active()
        until(lambda: peer.state("prefilter") == "active", 60.0, "activating the prefilter")
        joints, status = peer.hear(JointState, "/joint_states"), peer.hear(PrefilterStatus, "/prefilter/status")
        until(lambda: joints and status, 20.0, "joint states and status")

        def moved() -> float:
            before = np.array(joints[-1].position[:7])
            result = peer.pursue(max_plans=1)
            assert result.plans_accepted == 1, result.message
            time.sleep(1.0)
            return float(np.abs(np.array(joints[-1].position[:7]) - before).max())

        assert moved() > 0.05
        assert status[-1].mode == PrefilterStatus.MONITOR
        set_mode = ["ros2", "param", "set", "/prefilter", "mode", "enforce"]
        subprocess.run(set_mode, check=True, timeout=60, capture_output=True)
        until(lambda: status[-1].mode == PrefilterStatus.ENFORCE, 20.0, "enforcing")
        # Nobody says what this command leads to.
        assert moved() < 0.02
        assert status[-1].state == PrefilterStatus.FALLBACK
        # Nor does anything else move the arm.
        before = np.array(joints[-1].position[:7])
        velocity = peer.node.create_publisher(Float64MultiArray, "/velocity_command", qos.command())
        for _ in range(20):
            velocity.publish(Float64MultiArray(data=[0.5] + [0.0] * 6))
            time.sleep(0.05)
        assert velocity.get_subscription_count() == 0
        assert np.abs(np.array(joints[-1].position[:7]) - before).max() < 0.02
    finally:
        peer.close()
