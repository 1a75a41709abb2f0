"""Pictures of a run: loss and validation curves, imagined frames above real ones."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.training.batches.dataset import Episodes, window_actions
from deepverse_ros.training.engine.state import read_log


def draw_curves(run: Path) -> Path:
    """Write `curves.png` from the stage logs in `run`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    logs = sorted(run.glob("*.csv"))
    figure, axes = plt.subplots(len(logs), 2, figsize=(11, 3.5 * len(logs)), squeeze=False)
    for row, log in zip(axes, logs, strict=True):
        series: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for step, name, value in read_log(log):
            series[name].append((step, value))
        for name, points in series.items():
            if name not in ("rate", "skipped"):
                row[int(name.startswith("val_"))].plot(*zip(*points, strict=True), label=name.removeprefix("val_"))
        row[0].set(title=f"{log.stem}: training", yscale="symlog", xlabel="step")
        row[1].set(title=f"{log.stem}: validation", xlabel="step")
        for axis in row:
            if axis.lines:
                axis.legend(fontsize=7)
            axis.grid(alpha=0.3)
    figure.tight_layout()
    path = run / "curves.png"
    figure.savefig(path, dpi=100)
    plt.close(figure)
    return path


def picture_rows(truth: Tensor, predicted: Tensor) -> np.ndarray:
    """For each of N windows a row of true frames above a row of predicted ones, uint8 (2*N*h, T*w, 3).

    Args: truth, predicted (N, T, 3, h, w) in [0, 1].
    """
    rows = torch.stack([truth, predicted.to(truth)], 1).clamp(0, 1)
    sheet = rows.permute(0, 1, 4, 2, 5, 3).flatten(0, 2).flatten(1, 2)
    return (sheet * 255).round().byte().cpu().numpy()


def draw_samples(model: WorldModel, episodes: Episodes, path: Path, rows: int = 4) -> None:
    """Write strips of imagined (upper) and real (lower) frames of some episodes."""
    from PIL import Image

    c = model.config
    strips = []
    for e in np.linspace(0, len(episodes) - 1, min(rows, len(episodes))).astype(int):
        actions = window_actions(episodes, np.array([e]), np.array([0]), c.window, c.context)
        belief = model.observe(episodes.observation(e, 0, c.context), actions[:, : c.context - 1])
        future = model.imagine(belief, actions[:, c.context - 1 :])
        imagined = (future.rgb[0].permute(0, 2, 3, 1).float().cpu().numpy() * 255).round().astype(np.uint8)
        strips += [np.concatenate(list(x), 1) for x in (imagined, episodes.rgb[e, c.context : c.window])]
    Image.fromarray(np.concatenate(strips)).save(path)
