"""What a robot says about itself and its camera: dictionaries, absent modalities, proprioception, poses."""

import numpy as np
import pytest
import torch

from deepverse_ros import geometry
from deepverse_ros.errors import ShapeError
from deepverse_ros.model.actions import ActionEncoder, pack
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.deepverse_ar import DeepVerseAR
from deepverse_ros.model.dynamics import Past
from deepverse_ros.model.observation import Observation
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment

ARM, DRONE, VEHICLE = (Embodiment.load(name) for name in ("arm", "drone", "vehicle"))
K = torch.tensor([[60.0, 0, 31.5], [0, 60.0, 31.5], [0, 0, 1]])


def network(embodiment: Embodiment) -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig.small_test(embodiment))
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.prepare(torch.device("cpu"), torch.float32)


def pictures(frames: int = 4, pose: torch.Tensor | None = None) -> Observation:
    g = torch.Generator().manual_seed(3)
    return Observation(torch.rand(1, frames, 3, 64, 64, generator=g), None, K, pose)


@pytest.mark.parametrize("embodiment", [ARM, DRONE, VEHICLE], ids=lambda e: e.name)
def test_any_embodiment_imagines_and_predicts_what_it_measures(embodiment: Embodiment) -> None:
    model = network(embodiment)
    home = torch.tensor(embodiment.home)
    future = model.imagine(model.observe(pictures(), home.expand(1, 3, -1)), home.expand(2, 5, -1))
    assert future.rgb.shape == (2, 5, 3, 64, 64)
    assert future.states.shape == (2, 5, embodiment.state_dim)
    assert torch.isfinite(future.states).all()
    assert torch.isfinite(future.depth).all()


def test_a_dictionary_of_all_modalities_is_the_vector() -> None:
    values = torch.rand(2, 5, 7)
    parts = {"velocity": values[..., 3:6], "position": values[..., :3], "yaw": values[..., 6:]}
    torch.testing.assert_close(pack(DRONE.modalities, parts, "plans"), values)
    absent = pack(DRONE.modalities, {"yaw": values[..., 6:]}, "plans")
    assert absent.shape == values.shape
    assert absent[..., :6].isnan().all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pitch": np.zeros((1, 2, 1))}, r"plans: unknown modalities \['pitch'\].*position.*velocity.*yaw"),
        ({"yaw": np.zeros((1, 2, 3))}, r"plans\['yaw'\]: expected \(1, 2, 1\)"),
        ({"yaw": np.full((1, 2, 1), np.inf)}, r"plans\['yaw'\].*infinite at index \[0, 0, 0\]"),
        ({"yaw": np.zeros((1, 2, 1)), "position": np.zeros((1, 3, 3))}, r"plans\['position'\]: expected \(1, 2, 3\)"),
        ({}, "no modality"),
        (np.zeros((1, 2, 6)), r"plans: expected \(\.\.\., 7\)"),
    ],
)
def test_wrong_modalities_are_refused_by_name(values: object, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        pack(DRONE.modalities, values, "plans")  # type: ignore[arg-type]


def test_an_absent_modality_is_not_a_zero_and_its_numbers_do_not_matter() -> None:
    torch.manual_seed(0)
    encoder = ActionEncoder(DRONE, 16)
    for parameter in encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    given = torch.zeros(1, 7)
    absent = given.clone()
    absent[:, 3] = torch.nan  # one unknown number makes its modality unknown
    also = absent.clone()
    also[:, 4:6] = 0.7
    assert not torch.allclose(encoder(given), encoder(absent), atol=1e-3)
    torch.testing.assert_close(encoder(absent), encoder(also))


def test_proprioception_is_used_where_it_is_given_and_may_be_missing() -> None:
    model = network(VEHICLE)
    past, plan = torch.zeros(1, 3, 3), torch.zeros(1, 4, 3)
    speeds = {"speed": torch.full((1, 4, 1), 3.0)}
    latents = [
        model.imagine(model.observe(pictures(), past, proprioception=p), plan).latents
        for p in (None, speeds, {"speed": torch.full((1, 4, 1), 20.0)})
    ]
    assert not torch.allclose(latents[0], latents[1], atol=1e-4)
    assert not torch.allclose(latents[1], latents[2], atol=1e-4)
    with pytest.raises(ShapeError, match=r"proprioception: expected \(1, 4, K\)"):
        model.observe(pictures(), past, proprioception=torch.zeros(1, 3, 2))


def test_proprioception_may_be_missing_in_some_of_the_frames() -> None:
    model = network(VEHICLE)
    past, plan = torch.zeros(1, 3, 3), torch.zeros(1, 4, 3)
    all_known = torch.tensor([15.0, 0.5]).expand(1, 4, 2)
    last_unknown = all_known.clone()
    last_unknown[:, -1] = torch.nan
    latents = [
        model.imagine(model.observe(pictures(), past, proprioception=p), plan).latents
        for p in (None, last_unknown, all_known)
    ]
    assert torch.isfinite(latents[1]).all()
    assert not torch.allclose(latents[0], latents[1], atol=1e-4), "the other frames' are used"
    assert not torch.allclose(latents[1], latents[2], atol=1e-4)
    with pytest.raises(ShapeError, match=r"proprioception: infinite at index \[0, 3, 0\]"):
        model.observe(pictures(), past, proprioception=last_unknown.nan_to_num(torch.inf))


def test_past_actions_tell_the_joints_of_a_robot_that_measures_what_it_is_commanded() -> None:
    # Without a body, so that the states are those which the dynamics carries from step to step.
    model = network(ARM.model_copy(update={"body": None}))
    past, plan = 0.3 * torch.randn(1, 3, 8), torch.zeros(1, 4, 8)
    told = torch.cat([torch.full((1, 1, 8), 0.1), past], 1)
    a = model.imagine(model.observe(pictures(), past), plan)
    b = model.imagine(model.observe(pictures(), past, proprioception=told), plan)
    moved = model.imagine(model.observe(pictures(), past, proprioception=told + 0.5), plan)
    assert (a.states - b.states).abs().max() < (a.states - moved.states).abs().max()


def test_a_moving_cameras_pose_is_composed_of_its_predicted_motions() -> None:
    model = network(DRONE)
    start = geometry.pose_from_motion(torch.tensor([1.0, -2.0, 0.5, 0.1, 0.2, -0.3]))
    track = torch.stack([start @ geometry.pose_from_motion(torch.tensor([0, 0, 0.1 * t, 0, 0, 0.0])) for t in range(4)])
    past, plan = torch.zeros(1, 3, 7), 0.5 * torch.randn(2, 3, 7)
    future = model.imagine(model.observe(pictures(pose=track[None]), past), plan)
    poses = future.camera_to_world
    assert poses is not None
    assert poses.shape == (2, 3, 4, 4)
    rotation = poses[..., :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(2, 3, 3, 3), atol=1e-4, rtol=0)
    assert not torch.allclose(poses[0], poses[1], atol=1e-5)
    # Only motion counts: the same flight elsewhere gives the same pictures, and poses that are moved along.
    shift = geometry.pose_from_motion(torch.tensor([5.0, 1.0, -2.0, 0.4, -0.8, 0.2]))
    elsewhere = model.imagine(model.observe(pictures(pose=(shift @ track)[None]), past), plan)
    torch.testing.assert_close(elsewhere.latents, future.latents, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(elsewhere.camera_to_world, shift @ poses, atol=1e-3, rtol=1e-3)
    unknown = model.imagine(model.observe(pictures(), past), plan)
    assert unknown.camera_to_world is None
    assert torch.isfinite(unknown.latents).all()


def test_a_fixed_camera_stays_where_it_is() -> None:
    model = network(ARM)
    pose = geometry.pose_from_motion(torch.tensor([1.0, 0, 0, 0.3, 0, 0]))
    future = model.imagine(model.observe(pictures(pose=pose), torch.zeros(1, 3, 8)), torch.zeros(2, 3, 8))
    torch.testing.assert_close(future.camera_to_world, pose.expand(2, 3, 4, 4))


def test_a_step_far_out_sees_the_window_and_nothing_before_it() -> None:
    model = network(ARM)
    belief = model.observe(pictures(), 0.3 * torch.randn(1, 3, 8))
    torch.manual_seed(1)
    plan = 0.3 * torch.randn(1, 32, 8)
    assert torch.isfinite(model.imagine(belief, plan).latents).all()

    # The context is out of the window of the last steps: other keys there change nothing that is not carried on.
    def last_step(context_scale: float) -> torch.Tensor:
        context = [(k * context_scale, v * context_scale) for k, v in belief.context]
        past = Past([], context, model.dynamics.room(1, 32))
        for keys, values in past.imagined:
            keys.fill_(0.1)
            values.fill_(0.2)
        past.length = 20
        frame = belief.newest
        frame = type(frame)(frame.latents, plan[:, :1], frame.states, frame.rays)
        return model.dynamics.step(frame, past).latents

    torch.testing.assert_close(last_step(1.0), last_step(50.0))


def test_the_papers_names_give_the_same_future() -> None:
    model = network(ARM)
    past, plan = 0.3 * torch.randn(1, 3, 8), 0.3 * torch.randn(1, 6, 8)
    ar = DeepVerseAR(model)
    future = ar.autoregressive_generate(pictures(), plan, 4, past)
    torch.testing.assert_close(future.rgb, model.predict_future(pictures(), plan[:, :4], past).rgb)
    parts = {"joint_positions": plan[..., :7], "gripper_state": plan[..., 7:]}
    torch.testing.assert_close(ar.autoregressive_generate(pictures(), parts, 4, past).latents, future.latents)
    assert {*map(type, (ar.encoder, ar.temporal_model, ar.decoder))} == {
        *map(type, (model.codec.encoder, model.dynamics, model.codec.decoder))
    }
    with pytest.raises(ShapeError, match="num_future_steps = 7"):
        ar.autoregressive_generate(pictures(), plan, 7, past)
