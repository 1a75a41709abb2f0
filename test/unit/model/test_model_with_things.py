"""A world model that knows things, untrained: what holds for any weights."""

import numpy as np
import pytest
import torch

from deepverse_ros.data.collect import EpisodeGenerator
from deepverse_ros.data.store import Episode
from deepverse_ros.evaluation.prediction.evaluate import windows_of
from deepverse_ros.evaluation.prediction.windows import Windows
from deepverse_ros.model.config import ThingsConfig, WorldModelConfig
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.things.slots import MOST
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment

ARM = Embodiment.load("arm")
SIZE = 64


@pytest.fixture(scope="module")
def model() -> WorldModel:
    torch.manual_seed(0)
    config = WorldModelConfig.small_test(ARM, SIZE).model_copy(update={"things": ThingsConfig(), "posed": True})
    model = WorldModel(config)
    assert model.things is not None
    # So that pixels found things: what they are is another matter.
    model.things.reader.head.bias.data[0] = 1.0
    model.things.reader.head.weight.data[0] = 0
    torch.manual_seed(1)
    for parameter in model.things.contact.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.prepare(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def episode() -> Episode:
    generator = EpisodeGenerator(ARM, (SIZE, SIZE))
    try:
        return generator.record(3, 1, 16)
    finally:
        generator.close()


@pytest.fixture(scope="module")
def windows(model: WorldModel, episode: Episode) -> Windows:
    found = windows_of(model, episode, stride=2)
    assert found is not None
    return found


def test_things_are_found_and_carried_along_both_levels(model: WorldModel, windows: Windows) -> None:
    one = windows.only(0)
    belief = model.observe(one.seen, one.past)
    assert belief.things is not None
    assert bool(belief.things.slots.there.any())
    plans = np.repeat(one.plans, 3, 0)
    fine, coarse = model.imagine(belief, plans), model.imagine_coarse(belief, plans)
    assert fine.things is not None
    assert coarse.things is not None
    for things in (fine.things, coarse.things):
        assert things.position.shape == (3, one.plans.shape[1], MOST, 3)
        assert bool(torch.isfinite(things.position).all())
        assert torch.equal(things.there[0, 0] > 0.5, belief.things.slots.there[0])
    assert fine.rgb.shape == (3, one.plans.shape[1], 3, SIZE, SIZE)


def require_alike(pictures: torch.Tensor, others: torch.Tensor) -> None:
    """But for a pixel at an outline, which a millionth of a metre may give to one side or the other."""
    off = (pictures - others).abs()
    assert float((off > 2e-3).float().mean()) < 2e-4
    assert float(off.max()) < 0.05


def test_plans_share_a_belief_and_change_nothing_for_each_other(model: WorldModel, windows: Windows) -> None:
    one = windows.only(0)
    belief = model.observe(one.seen, one.past)
    plans = np.concatenate([one.plans, one.plans + np.float32(0.05)])
    together = model.imagine(belief, plans)
    for k in range(2):
        alone = model.imagine(belief, plans[k : k + 1])
        assert alone.things is not None
        assert together.things is not None
        torch.testing.assert_close(together.things.position[k], alone.things.position[0], atol=1e-4, rtol=0)
        require_alike(together.rgb[k], alone.rgb[0])
        require_alike(together.select([k]).rgb, alone.rgb)


def test_a_batch_of_beliefs_imagines_what_each_would(model: WorldModel, windows: Windows) -> None:
    count = len(windows)
    assert count > 1
    together = model.imagine(model.observe(windows.seen, windows.past), windows.plans)
    for k in range(count):
        one = windows.only(k)
        alone = model.imagine(model.observe(one.seen, one.past), one.plans)
        assert alone.things is not None
        assert together.things is not None
        torch.testing.assert_close(together.things.position[k], alone.things.position[0], atol=1e-4, rtol=0)
        require_alike(together.rgb[k], alone.rgb[0])


def test_without_depth_there_are_no_things_and_still_a_future(model: WorldModel, windows: Windows) -> None:
    one = windows.only(0)
    blind = Observation(one.seen.rgb, None, one.seen.intrinsics, one.seen.camera_to_world)
    belief = model.observe(blind, one.past)
    assert belief.things is not None
    assert not bool(belief.things.slots.there.any())
    future = model.imagine(belief, one.plans)
    assert bool(torch.isfinite(future.rgb).all())
    assert bool(torch.isfinite(future.readout["tool_position"]).all())


def test_the_readouts_follow_where_the_robot_comes_to_stand(model: WorldModel, windows: Windows) -> None:
    one = windows.only(0)
    belief = model.observe(one.seen, one.past)
    future = model.imagine(belief, one.plans)
    assert ARM.body is not None
    joints = ARM.measured_values(future.states[0].numpy().astype(float))
    tool = ARM.body.forward_kinematics(joints)[ARM.tool_frame][:, :3, 3] + belief.displaced[0].numpy()
    np.testing.assert_allclose(future.readout["tool_position"][0].numpy(), tool, atol=1e-4)
    coarse = model.imagine_coarse(belief, one.plans)
    np.testing.assert_allclose(coarse.readout["tool_position"][0].numpy(), tool, atol=1e-4)


def test_things_are_read_of_single_pictures(model: WorldModel, windows: Windows) -> None:
    one = windows.only(0)
    assert one.seen.intrinsics is not None
    assert one.seen.camera_to_world is not None
    read = model.read_things(
        one.rgb[0], one.depth[0], torch.from_numpy(one.states[0]), one.seen.intrinsics,
        one.seen.camera_to_world.expand(len(one.rgb[0]), 4, 4),
    )  # fmt: skip
    assert read is not None
    assert read.position.shape == (one.plans.shape[1], MOST, 3)


def test_it_is_saved_and_loaded(model: WorldModel, tmp_path: object) -> None:
    model.save(str(tmp_path))
    again = WorldModel.load(str(tmp_path), "cpu", torch.float32)
    assert again.things is not None
    assert again.config == model.config


def test_a_model_without_things_says_so(windows: Windows) -> None:
    config = WorldModelConfig.small_test(ARM, SIZE).model_copy(update={"posed": True})
    plain = WorldModel(config).prepare(torch.device("cpu"), torch.float32)
    one = windows.only(0)
    belief = plain.observe(one.seen, one.past)
    assert belief.things is None
    assert plain.imagine(belief, one.plans).things is None
    assert plain.imagine_coarse(belief, one.plans).things is None
    assert plain.read_things(one.rgb[0], one.depth[0], torch.zeros(8, 8), torch.eye(3), torch.eye(4)[None]) is None
