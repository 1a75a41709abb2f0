import torch

from deepverse_ros.model.things.ground import CELL_SIDE, COLUMNS, LOWER, ROWS, map_heights


def test_a_height_is_that_of_the_highest_point_in_its_cell() -> None:
    points = torch.tensor([[[0.5, 0.1, 0.02], [0.501, 0.101, 0.05], [0.8, -0.3, 0.0], [torch.nan] * 3]])
    ground = map_heights(points, torch.ones(1, 4, dtype=torch.bool))
    found = ground.at(points[:, :3])
    assert torch.allclose(found, torch.tensor([[0.05, 0.05, 0.0]]))
    assert int(torch.isfinite(ground.heights).sum()) == 2


def test_what_does_not_stand_fast_is_no_ground() -> None:
    points = torch.tensor([[[0.5, 0.1, 0.2]]])
    assert not torch.isfinite(map_heights(points, torch.zeros(1, 1, dtype=torch.bool)).heights).any()


def test_what_nobody_saw_is_as_high_as_the_nearest_that_was() -> None:
    x = torch.arange(ROWS) * CELL_SIDE + LOWER[0] + CELL_SIDE / 2
    y = torch.arange(COLUMNS) * CELL_SIDE + LOWER[1] + CELL_SIDE / 2
    grid = torch.stack([*torch.meshgrid(x, y, indexing="ij"), torch.zeros(ROWS, COLUMNS)], -1)
    grid[..., 2] = torch.where(grid[..., 0] < 0.5, 0.1, 0.0)
    hidden = (grid[..., :2] - torch.tensor([0.3, 0.0])).norm(dim=-1) < 0.1
    ground = map_heights(grid[None], ~hidden[None]).filled()
    assert torch.isfinite(ground.heights).all()
    assert torch.allclose(ground.at(grid[None])[0][hidden], torch.tensor(0.1))
    assert float(map_heights(grid[None], torch.zeros_like(hidden)[None]).filled().heights.abs().max()) == 0
