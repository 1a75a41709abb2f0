"""The decoder once more, on what the dynamics imagines.

Before, it saw the latents of true frames with noise on them; what the dynamics gets wrong looks different, and the
decoder, which also sees the observed frames, can make up for a part of it.
"""

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.model.codec import Decoded
from deepverse_ros.model.dynamics import to_cells
from deepverse_ros.model.readout import Camera
from deepverse_ros.model.stance import reconcile
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.training.batches.windows import EncodedEpisodes
from deepverse_ros.training.config import DecoderStageConfig
from deepverse_ros.training.engine.draw import Draw
from deepverse_ros.training.engine.precision import Precision, autocast
from deepverse_ros.training.stages.codec import CodecStage, Imagined
from deepverse_ros.training.stages.dynamics import imagine, prediction_scores

# Metres at which two places count as half as far apart as can be.
_FAR = 0.05


class DecoderStage(CodecStage):
    """Trains the decoder alone: on latents that the dynamics imagines, and on those of true frames."""

    name = "decoder"

    def __init__(
        self,
        model: WorldModel,
        config: DecoderStageConfig,
        train: EncodedEpisodes,
        held_out: EncodedEpisodes,
        precision: Precision = "auto",
    ) -> None:
        c = model.config
        super().__init__(
            model.codec, config, train.episodes, held_out.episodes, c.context, c.horizon, model.device, precision
        )
        self.model = model
        self.module = model.codec.decoder
        self.encoded, self.encoded_held_out = train, held_out
        self.share = config.imagined
        self.seen_weight = config.seen_weight

    @torch.no_grad()
    def _imagined(self, index: np.ndarray, start: np.ndarray, ahead: np.ndarray, draw: Draw) -> Imagined | None:
        c = self.model.config
        rows = np.flatnonzero(draw.uniform(self.config.batch).numpy() < self.share)
        if not len(rows):
            return None
        whole = self.encoded.steps(index[rows], start[rows], self.device)
        # Place 0 is the newest observed frame, which nobody has to imagine.
        newest = whole.latents[:, c.context - 1 : c.context]
        frames = torch.cat([newest, imagine(self.model, whole, self.precision)], 1)
        chosen = frames[torch.arange(len(rows))[:, None], torch.from_numpy(ahead[rows])]
        # An inference tensor cannot take part in training; a copy can.
        cells = to_cells(chosen, c.dynamics.token_patch, c.cells[0]).clone()
        now = start[rows] + c.context - 1
        states = self.train.states[index[rows, None], now[:, None] + ahead[rows]].to(self.device)
        if self.model.things is not None:  # which imagines where the robot stands, about as it is measured then
            return Imagined(torch.from_numpy(rows).to(self.device), cells, states)
        # Where the robot stands is read as when somebody imagines; of the newest frame it is measured.
        led = whole.actions[torch.arange(len(rows))[:, None], torch.from_numpy(ahead[rows]) + c.context - 2]
        read = self.model.read_outcome(chosen, led, self.train.camera(index[rows], now, self.device))
        stands = reconcile(self.model.embodiment, led, read.tool_position, read.tool_std)
        if stands is not None:
            states = torch.where(torch.from_numpy(ahead[rows] > 0).to(self.device)[..., None], stands, states)
        return Imagined(torch.from_numpy(rows).to(self.device), cells, states)

    def _judged(self, losses: dict[str, Tensor], decoded: Decoded, truth: Tensor, camera: Camera) -> dict[str, Tensor]:
        """The losses, and that the picture readout sees the same in the decoded frame as in the true one.

        A gripper that is a little blurred costs few pixels, and yet nobody can tell where it is. So the frozen picture
        readout has to see the same in both, and to read the tool at the same place (perceptual loss: Johnson et al.
        2016, arXiv 1603.08155).
        """
        if not self.seen_weight:
            return losses
        reader = self.model.picture_readout
        known = truth[:, 4:]  # what the camera does not know, both leave out
        imagined = torch.cat([decoded.rgb, decoded.disparity[:, None] * known, known], 1)
        with autocast(self.device, self.precision):
            ours = reader.features(imagined)
            place, _, _ = reader.read(ours, camera)
            with torch.no_grad():
                theirs = reader.features(truth)
                true_place, _, _ = reader.read(theirs, camera)
        off = ((place - true_place).square().sum(-1) + 1e-12).sqrt()  # whose slope is known at 0 too
        # An arm that is imagined elsewhere is not the decoder's fault: far is no worse than rather far.
        seen = (ours - theirs).abs().mean() / theirs.abs().mean() + (off / (off + _FAR)).mean()
        return losses | {
            "total": losses["total"] + self.seen_weight * seen, "seen": seen, "seen_apart_m": off.mean()
        }  # fmt: skip

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """PSNR of true frames through the codec, and of imagined ones."""
        codec = super().validate()
        world = {name: value for name, value in codec.items() if name.startswith("world")}
        return {"codec": codec["psnr"], **world, **prediction_scores(self.model, self.encoded_held_out, self.precision)}
