import torch

from deepverse_ros.model.things.slots import SURFACE
from deepverse_ros.model.things.surface import surface_of


def test_a_surface_is_what_is_seen_and_its_mirror_image() -> None:
    points = torch.full((1, 8, 8, 3), torch.nan)
    points[0, 2:6, 2:6] = torch.randn(4, 4, 3) * 0.03 + torch.tensor([0.5, 0.0, 0.05])
    pixels = torch.zeros(1, 8, 8, dtype=torch.uint8)
    pixels[0, 1:6, 2:6] = 3  # one row of it has no depth
    position = torch.zeros(1, 8, 3)
    position[0, 2] = torch.tensor([0.5, 0.0, 0.05])
    surface = surface_of(points, pixels, position)
    assert surface.shape == (1, 8, SURFACE, 3)
    assert torch.allclose(surface[0, 2, ::2], -surface[0, 2, 1::2])
    seen = points[0, 2:6, 2:6].flatten(0, 1) - position[0, 2]
    assert torch.allclose(torch.cdist(surface[0, 2, ::2], seen).amin(1), torch.zeros(SURFACE // 2), atol=1e-6)
    assert float(surface[0, [0, 1, 3, 4, 5, 6, 7]].abs().max()) == 0
