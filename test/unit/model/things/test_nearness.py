import pytest
import torch

from deepverse_ros.model.things.ground import CELL_SIDE, COLUMNS, LOWER, ROWS, HeightMap
from deepverse_ros.model.things.nearness import highest_around, nearness

# A block 20 cm high where x is above 0.51 m, on a table.
X = (torch.arange(ROWS) + 0.5) * CELL_SIDE + LOWER[0]
GROUND = HeightMap(torch.where(X > 0.51, 0.2, 0.0)[None, :, None].expand(1, ROWS, COLUMNS))


@pytest.mark.parametrize(
    ("point", "distance", "away"),
    [
        ((0.3, 0.1, 0.05), 0.05, (0, 0, 1)),  # above the table
        ((0.7, 0.1, 0.25), 0.05, (0, 0, 1)),  # above the block
        ((0.46, 0.1, 0.1), 0.05, (-1, 0, 0)),  # beside it
        ((0.3, 0.1, -0.03), -0.03, (0, 0, 1)),  # in the table
        ((0.54, 0.1, 0.05), -0.03, (-1, 0, 0)),  # in the block near its side
        ((0.6, 0.1, 0.18), -0.02, (0, 0, 1)),  # in the block near its top
    ],
)
def test_distance_and_the_way_out(
    point: tuple[float, float, float], distance: float, away: tuple[float, float, float]
) -> None:
    found, out = nearness(GROUND, torch.tensor([[point]]))
    assert float(found) == pytest.approx(distance, abs=0.025)  # what lies between two rings
    assert torch.allclose(out[0, 0], torch.tensor([float(v) for v in away]), atol=1e-5)


def test_the_way_out_is_a_unit_vector_along_which_the_distance_grows() -> None:
    torch.manual_seed(0)
    points = torch.rand(1, 2000, 3) * torch.tensor([0.5, 0.5, 0.4]) + torch.tensor([0.3, -0.2, 0.0])
    distance, away = nearness(GROUND, points)
    assert torch.allclose(away.norm(dim=-1), torch.ones(1, 2000), atol=1e-4)
    later, _ = nearness(GROUND, points + 0.03 * away)
    assert float((later > distance - 1e-4).float().mean()) > 0.98


def test_the_highest_around_a_cell() -> None:
    around = highest_around(GROUND, 0.1)
    points = torch.tensor([[[0.42, 0.0, 0.0], [0.36, 0.0, 0.0]]])
    assert torch.allclose(around.at(points), torch.tensor([[0.2, 0.0]]))
