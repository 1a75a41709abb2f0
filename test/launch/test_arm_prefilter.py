"""arm_mpc.launch.py with the prefilter between planner and robot: what is imagined clear passes, the rest does not."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from architecture import TARGET, figure, topics, used
from arm_launch import arguments, launched, until
from security_policy import allowed
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, Header
from test_arm_mpc_launch import NODES, Peer

from deepverse_ros.msg import PrefilterStatus
from deepverse_ros.nodes.demo.client import FIRST_SEED, LOOK, make_targets
from deepverse_ros.nodes.messages.image import image_from_array, image_from_depth
from deepverse_ros.nodes.runtime import qos


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    log, deaf = tmp_path / "log", tmp_path / "prefilter.yaml"
    deaf.write_text(
        "/**:\n  ros__parameters:\n    embodiment: arm\n    command_timeout: 0.0\n    image_timeout: 0.01\n"
    )
    changes = {"seed": "3", "prefilter": "monitor", "prefilter_params": str(deaf)}
    given = [f"{name}:={value}" for name, value in arguments(**changes).items()]
    with launched(log, "arm_mpc.launch.py", given):
        yield log


def test_by_default_a_goal_is_reached_through_an_enforcing_prefilter(tmp_path):
    seed, (target,), _ = make_targets(FIRST_SEED, 1)
    goal = {
        "goal_image": image_from_array(target.rgb, "rgb8", Header()),
        "goal_depth": image_from_depth(target.depth, "32FC1"),
    }
    given = ["device:=cpu", "rviz:=false", f"seed:={seed}"]
    with launched(tmp_path / "log", "arm_mpc.launch.py", given):
        peer = Peer()
        try:
            peer.wait_for_active()
            status = peer.hear(PrefilterStatus, "/prefilter/status")
            until(lambda: status, 20.0, "the prefilter's status")
            time.sleep(LOOK)
            result = peer.pursue(timeout=120.0, **goal)
            assert result.reached, result.text
            assert {m.mode for m in status} == {PrefilterStatus.ENFORCE}
            assert PrefilterStatus.PASS in {m.state for m in status}
            senders = peer.node.get_publishers_info_by_topic("/joint_trajectory")
            assert [sender.node_name for sender in senders] == ["prefilter"]
            assert peer.node.count_subscribers("/velocity_command") == 0
            for name in ("prefilter", *NODES):
                may = allowed(name)
                for kind, names in used(peer.node, name).items():
                    assert names <= may[kind], f"config/security/policy.xml lets {name} not: {kind}"
                # Only what a parameter or a release of ROS brings may be more than what is used here.
                unused = may["publishes"] | may["hears"]
                for names in used(peer.node, name).values():
                    unused -= names
                assert unused <= {"/clock"}, f"config/security/policy.xml lets {name} more than it needs"
            found = topics({name: used(peer.node, name) for name in ("sim", "world_model", "planner", "prefilter")})
            assert figure(TARGET.read_text(), "topics") == found, "docs/architecture.md: run make docs"
        finally:
            peer.close()


def test_while_nobody_judges_the_planner_moves_nothing(log):
    peer = Peer()
    try:
        peer.wait_for_active()
        until(lambda: peer.state("prefilter") == "active", 60.0, "activating the prefilter")
        joints, status = peer.hear(JointState, "/joint_states"), peer.hear(PrefilterStatus, "/prefilter/status")
        until(lambda: joints and status, 20.0, "joint states and status")

        said: list[str] = []

        def moved() -> float:
            before = np.array(joints[-1].position[:7])
            result = peer.pursue(max_plans=1)
            assert result.plans_accepted == 1, result.text
            said.append(result.text)
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
        assert "kept from going on for pass_timeout: the prefilter is in FALLBACK: " in said[-1], said
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
