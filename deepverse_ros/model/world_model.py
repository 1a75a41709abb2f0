"""The world model: what a robot imagines from what it sees and what it plans.

model = WorldModel.load("models/arm", device="auto")
belief = model.observe(observation, past_actions)
future = model.imagine(belief, plans)
costs = model.rank(belief, plans, objective)
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepverse_ros import geometry
from deepverse_ros.errors import ShapeError
from deepverse_ros.model import checkpoint
from deepverse_ros.model.actions import Values
from deepverse_ros.model.belief import LEAST_SHOWN, Belief
from deepverse_ros.model.body_rendering import draw
from deepverse_ros.model.coarse import Coarse, CoarseFuture
from deepverse_ros.model.codec import Codec, Decoded, Source, View
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.cuda_graphs import CudaGraphs
from deepverse_ros.model.device import inference_dtype, resolve_device
from deepverse_ros.model.dynamics import Dynamics, Steps, to_cells, to_tokens
from deepverse_ros.model.future import Future
from deepverse_ros.model.inputs import Inputs, codec_frames
from deepverse_ros.model.memory import Memory, Place, RememberedFrame
from deepverse_ros.model.observation import Goal, Observation
from deepverse_ros.model.ood import OodDetector
from deepverse_ros.model.readout import Camera, Outcome, OutcomeReadout, PictureReadout
from deepverse_ros.model.stance import displacement, reconcile
from deepverse_ros.model.things.detail import COARSE, FINE, Detail
from deepverse_ros.model.things.model import ThingsBelief, ThingsFuture, ThingsModel
from deepverse_ros.model.things.moved import MovedPictures
from deepverse_ros.model.things.slots import Things
from deepverse_ros.robot.embodiment import Embodiment

# Frames decoded at once: bounds the memory of full-resolution features.
_DECODE_CHUNK = 64


class WorldModel(nn.Module):
    """Codec, fine dynamics, coarse ensemble, readouts and novelty of one embodiment.

    calibration: of the checkpoint (level, tool_error_q, goal_error_z: see training.calibration), None before
        calibration.
    provenance: how the checkpoint came about (data, steps, machine), as in its config.json.
    """

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        body = config.embodiment.body
        self.codec = Codec(config.codec, len(body.capsules) if body else 0, moved=config.things is not None)
        self.dynamics = Dynamics(config)
        self.coarse = Coarse(config)
        self.picture_readout = PictureReadout(posed=config.posed)
        self.outcome_readout = OutcomeReadout(config.embodiment, config.tokens, config.token_dim, posed=config.posed)
        self.novelty = OodDetector(config.token_dim)
        self.things = ThingsModel(config) if config.things else None
        self.calibration: dict[str, Any] | None = None
        self.provenance: dict[str, Any] = {}
        self._graphs: CudaGraphs | None = None

    @property
    def embodiment(self) -> Embodiment:
        return self.config.embodiment

    @property
    def device(self) -> torch.device:
        return self.dynamics.place.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the codec's and the dynamics' weights; the coarse level, things, readouts, novelty stay in float32."""
        return self.dynamics.place.dtype

    @property
    def inputs(self) -> Inputs:
        """What it is given, in its sizes and units."""
        return Inputs(self.config, self.device)

    # ---- loading and saving

    @classmethod
    def load(cls, path: str | Path, device: str = "auto", dtype: torch.dtype | None = None) -> "WorldModel":
        """Read a checkpoint folder, ready for inference.

        Args: device: auto, cpu, cuda or cuda:N; dtype: None takes bfloat16 where the device computes in it.
        Raises: CheckpointError naming the file and what is wrong with it; DeviceError if the device cannot be had.
        """
        where = resolve_device(device)
        config, weights, extra = checkpoint.read(path, cls.shapes)
        model = cls(config)
        checkpoint.assign(model, weights, path)
        model.calibration = extra.get("calibration")
        model.provenance = extra.get("provenance", {})
        return model.prepare(where, dtype)

    @classmethod
    def shapes(cls, config: WorldModelConfig) -> dict[str, tuple[int, ...]]:
        """Of each tensor of the network that a config describes; none of them takes memory for it."""
        with torch.device("meta"):
            return {name: tuple(tensor.shape) for name, tensor in cls(config).state_dict().items()}

    def save(self, path: str | Path) -> None:
        """Write model.safetensors (16-bit) and config.json into the folder `path`, atomically."""
        extra = {"calibration": self.calibration, "provenance": self.provenance}
        checkpoint.write(path, self.config, self.state_dict(), extra)

    def prepare(self, device: torch.device, dtype: torch.dtype | None = None) -> "WorldModel":
        """Move to `device` for inference, in its fast number format."""
        self.requires_grad_(False).eval().to(device)
        chosen = dtype or inference_dtype(device)
        self.codec.to(chosen).channels_last()
        self.dynamics.to(chosen)
        self.dynamics.restore_limits(self.embodiment, device)
        self._graphs = CudaGraphs(self.dynamics.rollout_tensors) if device.type == "cuda" else None
        return self

    @torch.inference_mode()
    def warm_up(self) -> float:
        """One observation and one decoded future, so that the first real one is not the slow one. Returns ms."""
        start = time.perf_counter()
        c = self.config
        frames = torch.zeros(1, c.context, 3, c.height, c.width)
        view = Observation(frames)
        if c.posed:
            view = Observation(frames, None, torch.diag(torch.tensor([c.width, c.width, 1.0])), torch.eye(4))
        belief = self.observe(view, torch.zeros(1, c.context - 1, self.embodiment.action_dim))
        plan = np.tile(np.asarray(self.embodiment.home, np.float32), (1, c.horizon, 1))
        self.imagine(belief, plan)  # a CUDA graph is captured when shapes come again
        future, _ = self.imagine(belief, plan), self.imagine_coarse(belief, plan)
        float(future.depth.sum() + future.rgb.sum())
        return (time.perf_counter() - start) * 1e3

    # ---- observing

    @torch.inference_mode()
    def observe(
        self, observation: Observation, actions: Values | None = None, proprioception: Values | None = None
    ) -> Belief:
        """Encode what was seen, once, for any number of plans.

        Args:
            observation: of T = 1..context frames (any resolution).
            actions: (B, T-1, A) what the robot did between them (for an arm: its measured joints at the next frame),
                physical units; None only with T = 1.
            proprioception: (B, T, K) what the robot measured of itself at each frame, NaN: unknown; None: where the
                embodiment measures the quantities of its actions, the past actions tell it, else it is unknown. Both
                may be dictionaries of modalities, then those that are left out are unknown.
        Raises: ShapeError naming the field.
        """
        # What is given, in the model's sizes and units: T frames, the T - 1 actions between them, T states.
        view = self.inputs.fitted(observation)
        batch, frames = view.rgb.shape[:2]
        if not 1 <= frames <= self.config.context:
            raise ShapeError(f"observation: expected 1 to {self.config.context} frames, got {frames}")
        if actions is None:
            actions = torch.zeros(batch, 0, self.embodiment.action_dim)
        past = self.inputs.packed(self.embodiment.modalities, actions, "actions")
        if past.shape[:-1] != (batch, frames - 1):
            raise ShapeError(
                f"actions: expected ({batch}, {frames - 1}, A), one between two frames, got {tuple(past.shape)}"
            )
        states = self.inputs.states(proprioception, past)
        # Pictures (B, T, 5, H, W) to latent cells (B, T, D, h, w), and views of them that the decoder may copy from.
        pictures = self.frames(view)
        cells, views = self.codec.observe(pictures)
        # One step a frame; what the robot does after the newest one is for plans to say, and NaN here.
        poses = None if view.camera_to_world is None else view.camera_to_world.expand(batch, frames, 4, 4)
        unknown = past.new_full((batch, 1, past.shape[-1]), torch.nan)
        steps = Steps(
            latents=to_tokens(cells, self.config.dynamics.token_patch),
            actions=torch.cat([past, unknown], 1),
            states=states,
            rays=self.inputs.rays(poses, view.intrinsics, batch, frames),
        )
        # Frames before the newest one become keys and values, once for all plans; the newest waits for their actions.
        before, now = steps[:, : frames - 1], steps[:, frames - 1 :]
        # Where the robot stands, and the things beside it.
        camera = self.inputs.told(view.intrinsics, None if poses is None else poses[:, -1])
        displaced, things = states.new_zeros(batch, 3), None
        if self.things is not None and poses is not None and view.intrinsics is not None:
            displaced, things = self._look_around(pictures, states, view.intrinsics, poses.to(self.device))
        # Where the tool is. With an action that led here the joints are known, and tell more than the picture alone.
        if frames > 1:
            position, std, *_ = self.read_outcome(now.latents[:, 0], past[:, -1], camera)
        else:
            position, std = self.picture_readout(pictures[:, -1], camera)
        return Belief(
            newest=now,
            context=self.dynamics.keys(before),
            recalled=[],
            source=self.codec.decoder.source(views[0], views[-1]),
            view=views[-1],
            embedding=self.coarse.pool(now.latents[:, 0]),
            tool_position=position,
            tool_std=std,
            novelty=self.novelty(now.latents[:, 0], pictures[:, -1]),
            depth=None if view.depth is None else view.depth[:, -1],
            intrinsics=view.intrinsics,
            origin=None if poses is None else poses[:, 0],
            camera_to_world=None if poses is None else poses[:, -1],
            displaced=displaced,
            things=things,
        )

    def _look_around(
        self, pictures: Tensor, states: Tensor, intrinsics: Tensor, poses: Tensor
    ) -> tuple[Tensor, ThingsBelief]:
        """How far the robot stands beside its joints' word (B, 3), and the things of a window of pictures."""
        assert self.things is not None
        batch, time = pictures.shape[:2]
        size = self.config.height, self.config.width
        cameras = Camera(intrinsics.to(poses), poses.flatten(0, 1), size)
        tool, std = (t.unflatten(0, (batch, time)) for t in self.picture_readout(pictures.flatten(0, 1), cameras))
        displaced = displacement(self.embodiment, states, tool, std)
        newest = Camera(intrinsics.to(poses), poses[:, -1], size)
        if displaced.any():
            # A readout answers for pictures without a robot too: what had to be seen by it, and is not, is not there.
            shown = self.things.shows(pictures[:, -1], states[:, -1], newest, displaced)
            displaced = torch.where(shown[:, None] < LEAST_SHOWN, 0.0, displaced)
        return displaced, self.things.observe(pictures, states, newest, poses, displaced)

    @torch.inference_mode()
    def encode_goal(
        self,
        rgb: np.ndarray,
        depth: np.ndarray | None = None,
        intrinsics: np.ndarray | None = None,
        camera_to_world: np.ndarray | None = None,
    ) -> Goal:
        """Read a goal picture.

        Args:
            rgb: uint8 (H, W, 3), any resolution.
            depth: (H, W) metres, NaN unknown, or None.
            intrinsics, camera_to_world: (3, 3) pixels and (4, 4) of the camera; needed where the model is told where
                its camera stands.
        Raises: ShapeError naming the field.
        """
        if rgb.ndim != 3:
            raise ShapeError(f"goal image: expected uint8 (H, W, 3), got {rgb.dtype} {rgb.shape}")
        view = self.inputs.fitted(
            Observation.from_numpy(rgb[None], None if depth is None else depth[None], intrinsics, camera_to_world)
        )
        frames = self.frames(view)[:, 0]
        cells, _, _ = self.codec.encode(frames)
        tokens = to_tokens(cells, self.config.dynamics.token_patch)
        pose = None if view.camera_to_world is None else view.camera_to_world.expand(1, 4, 4)
        position, std = self.picture_readout(frames, self.inputs.told(view.intrinsics, pose))
        return Goal(
            embedding=self.coarse.pool(tokens)[0],
            tool_position=position[0].cpu().numpy(),
            tool_std=float(std[0]),
            ood_score=float(self.novelty(tokens, frames)[0]),
            frame=frames[0] if self.embodiment.camera.fixed else None,
        )

    # ---- memory

    def new_memory(self, capacity: int = 128) -> Memory:
        """An empty memory for one robot; see `remember`, and `imagine` with it."""
        dt = self.embodiment.dt
        window = (self.config.context - 0.5) * dt
        return Memory(dt=dt, window=window, moving_camera=not self.embodiment.camera.fixed, capacity=capacity)

    def remember(self, memory: Memory, belief: Belief, stamp: float) -> None:
        """Put a belief's newest frame into `memory`. Args: belief of batch 1; stamp: seconds.

        Raises: ShapeError for a belief of another batch.
        """
        if len(belief) != 1:
            raise ShapeError(f"memory: holds the frames of one robot, got a belief of batch {len(belief)}")
        view = View(*(part.clone() for part in belief.view))  # a slice would keep its whole window alive
        memory.add(RememberedFrame(self._place(belief, belief.tool_position[0]), view, belief.newest, stamp))

    @torch.inference_mode()
    def recall(self, belief: Belief, memory: Memory, plans: Values) -> Belief:
        """The belief with those remembered frames that show where `plans` lead.

        For a fixed camera that is where the tool will be at the end of the plans, on average; a moving one is near
        where it stands now.
        """
        last = self.inputs.plans(plans, len(belief))[:, -1]
        tool = self.read_outcome(
            belief.newest.latents[:, 0].expand(len(last), -1, -1), last, self._camera_of(belief)
        ).tool_position
        camera = None
        if belief.intrinsics is not None:
            camera = geometry.Intrinsics.from_matrix(belief.intrinsics, self.config.width, self.config.height)
        frames = memory.recall(self._place(belief, tool.mean(0)), self.config.dynamics.recalled, camera)
        if not frames:
            return belief
        steps = Steps.join([frame.step for frame in frames])
        if not self.embodiment.camera.fixed and belief.origin is not None:
            stood = [belief.origin[0] if f.place.camera_to_world is None else f.place.camera_to_world for f in frames]
            steps = replace(
                steps, rays=self.inputs.rays_from(belief.origin, torch.stack(stood)[None], belief.intrinsics)
            )
        source = self.codec.decoder.source(frames[0].view, belief.view)
        return replace(belief, recalled=self.dynamics.recall(steps), source=source)

    def _place(self, belief: Belief, tool: Tensor) -> Place:
        return Place(tool, None if belief.camera_to_world is None else belief.camera_to_world[0])

    # ---- imagining

    @torch.inference_mode()
    def imagine(self, belief: Belief, plans: Values, memory: Memory | None = None) -> Future:
        """The futures that plans lead to, on the fine level. A belief of batch 1 is shared and never copied.

        Args: plans (N, H, A) physical units or a dictionary of modalities, H <= 32; a belief of batch B > 1 takes
        N = B plans, one each. memory: frames from before the window may be recalled from it (belief of batch 1).
        Raises: ShapeError naming what is wrong.
        """
        # Plans (N, H, A), and what memory has to show of where they lead.
        actions = self.inputs.plans(plans, len(belief))
        if memory is not None:
            belief = self.recall(belief, memory, plans)
        count, horizon = actions.shape[:2]
        # Where the camera will be, (N, H, 4, 4): where it is if it is fixed, else moved on step by step by the motion
        # that the dynamics predicts, which then sees its rays from there.
        poses = None if belief.camera_to_world is None else belief.camera_to_world[:, None].expand(count, horizon, 4, 4)
        rays_after: Callable[[Tensor], Tensor] | None = None
        if poses is not None and not self.embodiment.camera.fixed:
            moved = [poses[:, 0]]

            def carried_on(motion: Tensor) -> Tensor:
                moved.append(moved[-1] @ geometry.pose_from_motion(motion))
                return self.inputs.rays_from(belief.origin, moved[-1][:, None], belief.intrinsics)

            rays_after = carried_on

        # The rollout: latents (N, H, S, P) and states (N, H, K). A camera that moves does not fit into a CUDA graph.
        newest = belief.newest
        pairs = [t for pair in (*belief.context, *belief.recalled) for t in pair]
        known = (newest.latents, newest.states, newest.rays, actions, *pairs)
        if self._graphs is None or rays_after is not None:
            latents, states = self.dynamics.rollout_tensors(*known, rays_after=rays_after)
        else:
            latents, states = self._graphs(*known)
        if rays_after is not None:
            poses = torch.stack(moved[1:], 1)
        # What planning asks of every frame is read from latents; pictures are decoded only when somebody looks.
        outcome = self.read_outcome(latents, actions, self._camera_of(belief))
        readout = {
            "tool_position": outcome.tool_position,
            "clearance": outcome.clearance,
            "clearance_std": outcome.clearance_std,
        }
        ahead, shown, spread = self._ahead(belief, actions), None, outcome.tool_std
        if ahead is not None and self.things is not None and belief.things is not None:
            # Where the ground stops it, and what it does to things on the way.
            stands: Tensor | None = ahead.stance.joints
            readout["tool_position"], spread = ahead.tool, torch.maximum(spread, ahead.stance.std)
            if (camera := self.inputs.camera(belief.intrinsics, belief.camera_to_world)) is not None:
                shown = self.things.pictures(belief.things, ahead.motion, camera)
        else:
            # A robot whose states are its actions stands where it was told, unless its tool is seen elsewhere.
            stands = reconcile(self.embodiment, actions, outcome.tool_position, outcome.tool_std)
        return Future(
            self, belief.source, latents, states if stands is None else stands, readout, spread, belief.intrinsics,
            poses, self.embodiment.dt, shown, None if ahead is None else ahead.things, belief.displaced,
        )  # fmt: skip

    def _ahead(self, belief: Belief, actions: Tensor, detail: Detail = FINE) -> ThingsFuture | None:
        """What plans do to robot and things; None where the belief knows no things."""
        if self.things is None or belief.things is None:
            return None
        return self.things.imagine(belief.things, belief.newest.states[:, 0], actions, belief.displaced, detail)

    def predict_future(
        self, observation: Observation, planned_actions: Values, past_actions: Values | None = None
    ) -> Future:
        """`observe` and `imagine` in one call, for those who imagine once. Arguments and errors: as there."""
        return self.imagine(self.observe(observation, past_actions), planned_actions)

    @torch.inference_mode()
    def imagine_coarse(self, belief: Belief, plans: Values) -> CoarseFuture:
        """The outcome of plans on the coarse level: no pictures, at a fraction of the time. Arguments as `imagine`."""
        camera = self._camera_of(belief)
        actions = self.inputs.plans(plans, len(belief))
        future = self.coarse.imagine(belief.embedding, actions, None if camera is None else camera.features)
        ahead = self._ahead(belief, actions, COARSE)
        if ahead is None:
            return future
        spread = torch.maximum(future.uncertainty, ahead.stance.std)
        return replace(
            future, readout={**future.readout, "tool_position": ahead.tool}, uncertainty=spread, things=ahead.things
        )

    def rank(self, belief: Belief, plans: Values, objective: Callable[[CoarseFuture, Tensor], Tensor]) -> Tensor:
        """Costs (N,) of plans on the coarse level, lower is better.

        Args: plans as for `imagine`; objective: (future, plans) -> (N,), such as planning.objectives.GoalImage.
        """
        return objective(self.imagine_coarse(belief, plans), self.inputs.plans(plans, len(belief)))

    @torch.inference_mode()
    def reconstruct(
        self, belief: Belief, rgb: Tensor, depth: Tensor | None = None, states: Tensor | None = None,
        moved: MovedPictures | None = None,
    ) -> Future:  # fmt: skip
        """True later frames through the codec: what a perfect dynamics would reach (the codec's ceiling).

        Args:
            rgb: (B, H, 3, h, w) in [0, 1].
            depth: (B, H, h, w) metres.
            states: (B, H, K) as the robot measured them; the belief's batch is B.
            moved: the things where they truly are in these frames.
        """
        frames = self.frames(self.inputs.fitted(Observation(rgb, depth))).flatten(0, 1)
        cells, _, _ = self.codec.encode(frames)
        tokens = to_tokens(cells, self.config.dynamics.token_patch).unflatten(0, rgb.shape[:2])
        if states is not None:
            states = states.to(self.device)
        else:
            states = belief.newest.states.new_full((*rgb.shape[:2], self.embodiment.state_dim), torch.nan)
        camera = self._camera_of(belief)
        read = self.picture_readout(frames, None if camera is None else camera.repeat(rgb.shape[1]))
        tool, std = (t.unflatten(0, rgb.shape[:2]) for t in read)
        pose = belief.camera_to_world
        where = None if pose is None else pose[:, None].expand(*rgb.shape[:2], 4, 4)
        return Future(
            self,
            belief.source,
            tokens,
            states,
            {"tool_position": tool},
            std,
            belief.intrinsics,
            where,
            self.embodiment.dt,
            moved,
            displaced=belief.displaced,
        )

    @torch.inference_mode()
    def decode(
        self, latents: Tensor, source: Source, drawn: Tensor | None = None, moved: Tensor | None = None
    ) -> Decoded:
        """Pictures of latents (M, S, P), with a Source of M entries and, where they are known, drawings of the body.

        Args: moved (M, 7, H, W): the newest frame with its things where they will be, where that is known.
        """
        cells = to_cells(latents, self.config.dynamics.token_patch, self.config.cells[0])
        chunks = range(0, len(cells), _DECODE_CHUNK)
        parts = [
            self.codec.decoder(cells[part], source[part], *(None if t is None else t[part] for t in (drawn, moved)))
            for part in (slice(i, i + _DECODE_CHUNK) for i in chunks)
        ]
        if len(parts) == 1:
            return parts[0]
        return Decoded(*(torch.cat(t) for t in zip(*((p.rgb, p.disparity, p.log_scale) for p in parts), strict=True)))

    @torch.inference_mode()
    def read_things(
        self, rgb: Tensor, depth: Tensor, states: Tensor, intrinsics: Tensor, camera_to_world: Tensor
    ) -> Things | None:
        """The things that pictures show, each picture on its own; None for a model that knows none.

        Args:
            rgb: (M, 3, H, W) in [0, 1], of the model's size.
            depth: (M, H, W) metres, NaN unknown.
            states: (M, K) where the robot is then, physical units, NaN unknown.
            intrinsics: (3, 3) or (M, 3, 3) pixels.
            camera_to_world: (M, 4, 4).
        Returns: (M, 8), slots of each picture's own; moved and touched are 0.
        """
        if self.things is None:
            return None
        frames = codec_frames(rgb.float(), depth.float(), self.embodiment).to(self.device)
        pose = camera_to_world.to(self.device, torch.float32)
        camera = Camera(intrinsics.to(pose), pose, (self.config.height, self.config.width))
        found = self.things.find(frames, states.to(self.device, torch.float32), camera)
        there = found.there.float()
        return Things(there, found.position, found.std, torch.zeros_like(there), torch.zeros_like(there))

    def draw(
        self, states: Tensor, intrinsics: Tensor | None, poses: Tensor | None, shift: Tensor | None = None
    ) -> Tensor | None:
        """The robot's body as the decoder is shown it; None where there is nothing to draw it by.

        Args:
            states: (M, K) physical units.
            intrinsics: (3, 3) or (M, 3, 3).
            poses: (M, 4, 4) camera to world.
            shift: (M, 3) metres that the robot stands beside its joints' word.
        """
        if self.embodiment.body is None or intrinsics is None or poses is None:
            return None
        if shift is not None:  # seen as from a camera that stands as far to the other side
            poses = poses.clone()
            poses[:, :3, 3] -= shift
        return draw(self.embodiment, states, intrinsics, poses, self.config.height, self.config.width)

    # ---- the camera

    def read_outcome(self, latents: Tensor, actions: Tensor, camera: Camera | None) -> Outcome:
        """What the outcome readout says of frames of a camera that stands still.

        Args: latents (B, ..., S, P); actions (B, ..., A) that led to them; camera: of batch 1 or B.
        """
        if camera is None or not self.config.posed:
            return self.outcome_readout(latents, actions)
        features = camera.features
        lead = actions.shape[:-1]
        return self.outcome_readout(latents, actions, features.reshape(-1, *[1] * (len(lead) - 1), features.shape[-1]))

    def _camera_of(self, belief: Belief) -> Camera | None:
        return self.inputs.told(belief.intrinsics, belief.camera_to_world)

    # ---- units

    def frames(self, observation: Observation) -> Tensor:
        """The codec's input (B, T, 5, H, W) float32 of an observation at the model's resolution."""
        return codec_frames(observation.rgb, observation.depth, self.embodiment)

    def pool(self, latents: Tensor) -> Tensor:
        """Frames (..., S, P) as the coarse level knows them, (..., E)."""
        return self.coarse.pool(latents)

    def to_depth(self, disparity: Tensor) -> Tensor:
        """Metres from sqrt-disparity in [0, 1]."""
        camera = self.embodiment.camera
        return geometry.depth_from_sqrt_disparity(disparity, camera.near, camera.far)
