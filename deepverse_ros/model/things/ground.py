"""What stands fast around the robot, as the height of the ground: table, obstacles, trays, platforms, edges."""

from dataclasses import dataclass

import torch
from torch import Tensor

LOWER, UPPER = (-0.25, -0.95), (1.15, 0.95)
"""Corners (x, y) of what the map covers, metres in the base frame."""
CELL_SIDE = 0.02
"""Metres."""
ROWS, COLUMNS = (round((high - low) / CELL_SIDE) for low, high in zip(LOWER, UPPER, strict=True))
"""Cells along x and along y."""
LEAST, MOST_HEIGHT = -0.75, 0.5
"""Heights beyond are cut, metres."""


@dataclass(frozen=True)
class HeightMap:
    """Heights (B, ROWS, COLUMNS) in metres in the base frame, NaN where nobody saw the ground."""

    heights: Tensor

    def filled(self) -> "HeightMap":
        """What nobody saw is as high as the nearest that was; all of it 0 where nothing was seen.

        So that what is under a thing tells nothing about whether the thing will leave.
        """
        known = torch.isfinite(self.heights)
        heights = self.heights.nan_to_num(0.0)
        while not bool(known.all()):
            grown, share = _around(heights * known), _around(known.to(heights.dtype))
            new = ~known & (share > 0)
            if not bool(new.any()):
                break
            heights = torch.where(new, grown / share.clamp_min(1e-6), heights)
            known = known | new
        return HeightMap(heights)

    def at(self, points: Tensor) -> Tensor:
        """Heights (B, ...) under points (B, ..., 3); beyond the map, those at its border."""
        return self.over(points[..., 0], points[..., 1])

    def over(self, x: Tensor, y: Tensor) -> Tensor:
        """As `at`, under x, y (B, ...) metres."""
        which = None
        if len(self.heights) > 1:
            which = torch.arange(len(x), device=x.device).reshape(-1, *[1] * (x.ndim - 1))
        return self.under(x, y, which)

    def under(self, x: Tensor, y: Tensor, which: Tensor | None) -> Tensor:
        """As `at`, under x, y (...) metres.

        Args: which (...), broadcast: of the B maps each of them is over; None: there is only one.
        """
        rows, columns = (  # what is cut to whole numbers need not be rounded down: below 0 is the border
            ((value - LOWER[axis]) / CELL_SIDE).long().clamp_(0, count - 1)
            for value, axis, count in ((x, 0, ROWS), (y, 1, COLUMNS))
        )
        cells = rows.mul_(COLUMNS).add_(columns)
        return self.heights.flatten()[cells if which is None else cells + which * (ROWS * COLUMNS)]

    def __getitem__(self, index: slice | Tensor) -> "HeightMap":
        return HeightMap(self.heights[index])


def _around(values: Tensor) -> Tensor:
    """Sum over each cell's neighbourhood of 3 x 3, in (B, ROWS, COLUMNS); shifted and added, as pooling is slower."""
    for axis in (-2, -1):
        length = values.shape[axis] - 1
        summed = values.clone()
        summed.narrow(axis, 1, length).add_(values.narrow(axis, 0, length))
        summed.narrow(axis, 0, length).add_(values.narrow(axis, 1, length))
        values = summed
    return values


def map_heights(points: Tensor, fast: Tensor) -> HeightMap:
    """The ground under points of pictures: in each cell the highest.

    Args: points (B, ..., 3) metres in the base frame, NaN unknown; fast (B, ...) bool: which of them belong to what
    stands fast, neither to the robot nor to a thing.
    """
    flat, chosen = points.flatten(1, -2), fast.flatten(1) & torch.isfinite(points).all(-1).flatten(1)
    index = [((flat[..., axis].nan_to_num() - LOWER[axis]) / CELL_SIDE).floor().long() for axis in (0, 1)]
    chosen = chosen & (index[0] >= 0) & (index[0] < ROWS) & (index[1] >= 0) & (index[1] < COLUMNS)
    cell = torch.where(chosen, index[0] * COLUMNS + index[1], ROWS * COLUMNS)  # the last cell is nobody's
    z = torch.where(chosen, flat[..., 2], -torch.inf).clamp(max=MOST_HEIGHT)
    heights = torch.full((len(flat), ROWS * COLUMNS + 1), -torch.inf, device=flat.device, dtype=flat.dtype)
    heights = heights.scatter_reduce(1, cell, z, "amax")[:, :-1]
    heights = torch.where(torch.isfinite(heights), heights.clamp(min=LEAST), torch.nan)
    return HeightMap(heights.unflatten(1, (ROWS, COLUMNS)))
