"""The launch files under launch_pytest, where it is installed: what their tests ask, asked by the same functions.

launch_pytest comes with an installed ROS 2 and is in no wheel: without it conftest.py leaves this module out, and the
same is asked by launch_testing in test_arm_mpc_launch, test_imagine_launch and test_rviz.
"""

from collections.abc import Iterator

import launch_pytest
import pytest
from arm_launch import include
from launch import LaunchDescription
from launch.actions import RegisterEventHandler
from launch.event_handlers import OnProcessExit
from test_arm_mpc_launch import NODES, Peer, a_goal_moves_the_arm
from test_imagine_launch import Observer, description
from test_rviz import Displays


def ready(launched: LaunchDescription) -> tuple[LaunchDescription, list[int]]:
    """Args: launched: is added to. Returns: also a list that the exit codes of its processes will be in."""
    codes: list[int] = []
    exits = OnProcessExit(on_exit=lambda event, _context: codes.append(event.returncode))
    launched.add_action(RegisterEventHandler(exits))
    launched.add_action(launch_pytest.actions.ReadyToTest())
    return launched, codes


@launch_pytest.fixture
def arm_mpc() -> tuple[LaunchDescription, list[int]]:
    return ready(include(seed="3"))


@launch_pytest.fixture
def imagine_sim() -> tuple[LaunchDescription, list[int]]:
    return ready(description("sim"))


@launch_pytest.fixture
def imagine_replay() -> tuple[LaunchDescription, list[int]]:
    return ready(description("replay"))


@pytest.mark.launch(fixture=arm_mpc)
def test_a_goal_moves_the_arm(arm_mpc: tuple[LaunchDescription, list[int]]) -> Iterator[None]:
    peer = Peer()
    try:
        peer.wait_for_active()
        a_goal_moves_the_arm(peer)
    finally:
        peer.close()
    yield  # what follows is run after the shutdown
    assert arm_mpc[1] == [0] * len(NODES)


@pytest.mark.launch(fixture=arm_mpc)
def test_rviz_finds_its_topics() -> None:
    displays = Displays()
    try:
        displays.what_a_user_wants_to_see_is_there_and_switched_on()
        displays.every_topic_has_the_type_of_its_display()
        displays.every_display_can_hear_its_publisher()
        displays.the_fixed_frame_is_published()
    finally:
        displays.close()


@pytest.mark.launch(fixture=imagine_sim)
def test_the_simulated_arm_is_imagined(imagine_sim: tuple[LaunchDescription, list[int]]) -> Iterator[None]:
    observer = Observer()
    try:
        observer.futures_arrive_and_only_strange_input_is_called_strange("sim")
    finally:
        observer.close()
    yield
    assert imagine_sim[1] == [0, 0]


@pytest.mark.launch(fixture=imagine_replay)
def test_a_recording_is_called_strange() -> None:
    observer = Observer()
    try:
        observer.futures_arrive_and_only_strange_input_is_called_strange("replay")
    finally:
        observer.close()
