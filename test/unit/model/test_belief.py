"""Whether the robot is where its joints say: with the shipped model, which knows the robot's body."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from deepverse_ros.data.collect import EpisodeGenerator
from deepverse_ros.data.store import Episode
from deepverse_ros.model.belief import LEAST_SHOWN, Belief
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment

FRAMES = 2
TURNED = np.array(
    [0.0, 0.9, 0.0, 0.9, 0.0, 0.0, 0.0, 0.0]
)  # rad: upper arm down and forearm up, or the other way round


@pytest.fixture(scope="module")
def model() -> WorldModel:
    return WorldModel.load("models/arm", device="cpu")


@pytest.fixture(scope="module")
def generator() -> Iterator[EpisodeGenerator]:
    generator = EpisodeGenerator(Embodiment.load("arm"))
    yield generator
    generator.close()


@pytest.fixture(scope="module")
def shifted(generator: EpisodeGenerator) -> Episode:
    """The whole arm stands 27 cm beside where it should."""
    episode = generator.record(9101, 2, FRAMES, free=1.0)
    assert np.linalg.norm(episode.state["base_position"][0]) > 0.2
    return episode


@pytest.fixture(scope="module", params=[3, 4, 5])
def episode(request: pytest.FixtureRequest, generator: EpisodeGenerator) -> Episode:
    return generator.record(9101, request.param, FRAMES, free=1.0)


def cut(episode: Episode, frames: int) -> Episode:
    """Its first frames."""
    return replace(
        episode,
        rgb=episode.rgb[:frames],
        depth=episode.depth[:frames],
        actions=episode.actions[:frames],
        segmentation=None,
        camera_to_world=episode.camera_to_world[:frames],
        state={name: values[:frames] for name, values in episode.state.items()},
    )


def seen(model: WorldModel, episode: Episode, off: np.ndarray | float = 0.0, depth: bool = True) -> Belief:
    """What is made of an episode's beginning, in which the joints (rad) are `off` from where they are told to be."""
    joints = np.concatenate([episode.state["joint_positions"], episode.state["gripper_state"]], 1) + off
    observation = Observation.from_numpy(
        episode.rgb, episode.depth / np.float32(1000) if depth else None, episode.intrinsics, episode.camera_to_world
    )
    return model.observe(observation, torch.from_numpy(joints[None, 1:].astype(np.float32)))


def test_a_robot_that_is_where_its_joints_say_is_seen_there(model: WorldModel, episode: Episode) -> None:
    belief = seen(model, episode)
    assert belief.things is not None
    assert float(belief.things.shown[0]) > LEAST_SHOWN + 0.1
    assert not belief.out_of_distribution
    assert belief.doubt == ""


def test_a_robot_that_is_not_where_its_joints_say_is_out_of_distribution(model: WorldModel, episode: Episode) -> None:
    worst = max((seen(model, episode, sign * TURNED) for sign in (-1, 1)), key=lambda b: b.ood_score)
    assert worst.out_of_distribution
    assert worst.ood_score > float(worst.novelty[0])
    assert worst.things is not None
    assert f"shows no robot in {1 - float(worst.things.shown[0]):.0%} of where" in worst.doubt
    assert "joints' zeros" in worst.doubt


def test_an_arm_that_was_moved_away_is_out_of_distribution(model: WorldModel, shifted: Episode) -> None:
    belief = seen(model, shifted)
    assert not belief.displaced.any()  # two frames do not tell how far
    assert belief.out_of_distribution
    assert "extrinsics" in belief.doubt


def test_without_depth_nobody_can_tell(model: WorldModel, episode: Episode) -> None:
    belief = seen(model, episode, TURNED, depth=False)
    assert belief.things is not None
    assert bool(torch.isnan(belief.things.shown).all())
    assert torch.equal(belief.strangeness, belief.novelty)


def test_what_is_strange_for_its_looks_is_called_so(model: WorldModel, episode: Episode) -> None:
    belief = replace(seen(model, episode), novelty=torch.tensor([1.7]))
    assert belief.ood_score == pytest.approx(1.7)
    assert belief.doubt == "is unlike anything the model was trained on (score 1.70, at most 1)"


def test_a_picture_of_the_same_scene_looks_as_the_newest_frame_does_and_one_of_another_does_not(
    model: WorldModel, generator: EpisodeGenerator
) -> None:
    """However the arm stands in it; a robot whose camera moves is shown its goals from elsewhere."""
    episodes = [generator.record(9102, number, 12, free=1.0) for number in range(4)]
    goals = [model.encode_goal(e.rgb[-1], None, e.intrinsics, e.camera_to_world[-1]).frame for e in episodes]
    told_apart = 0
    for number, episode in enumerate(episodes):
        belief = seen(model, cut(episode, FRAMES))
        alike = [belief.agreement(goal) for goal in goals]
        assert alike[number] > 0.6
        assert belief.agreement(None) == 1.0
        told_apart += sum(share < 0.55 for share in alike)
    assert told_apart >= 10  # of 12; two grey tables are alike
