"""Where votes meet there is one thing: not two, not none, and none where only rims agree."""

import numpy as np
import torch
from tables_made import SIZE, picture
from torch import Tensor

from deepverse_ros.model.things.clustering import Found, find, rims
from deepverse_ros.model.things.reader import Votes

NOISE = 0.004


def voted(label: np.ndarray, depth: np.ndarray, middles: Tensor, noise: float = NOISE) -> tuple[Votes, Tensor]:
    """Every pixel of thing k votes for middles[k], with noise. Args: label (H, W), 1 + k."""
    torch.manual_seed(0)
    shown = torch.from_numpy(label.astype(np.int64))[None]
    middle = middles[(shown - 1).clamp_min(0)] + noise * torch.randn(1, *label.shape, 3)
    logit = torch.where(shown > 0, 4.0, -4.0)
    return Votes(logit, middle, torch.full_like(logit, noise)), torch.from_numpy(depth)[None].float()


def found_at(found: Found) -> Tensor:
    return found.position[0, found.there[0]]


def nearest(found: Found, middles: Tensor) -> Tensor:
    """Metres from each middle to the nearest that was found."""
    return torch.cdist(middles, found_at(found)).amin(1)


def test_each_thing_is_found_once_with_its_pixels_and_its_spread() -> None:
    middles = np.array([[0.5, -0.1, 0.03], [0.5, 0.1, 0.03], [0.65, 0.0, 0.03]])
    depth, label = picture(middles, np.full((3, 3), 0.03))
    true = torch.from_numpy(middles).float()
    found = find(*voted(label, depth, true))
    assert int(found.there.sum()) == 3
    assert float(nearest(found, true).max()) < 0.002
    assert torch.allclose(found.std[found.there], torch.tensor(NOISE))
    for middle, k in zip(true, range(3), strict=True):
        slot = int((found.position[0] - middle).norm(dim=-1).argmin())
        assert np.array_equal(found.pixels[0].numpy() == slot + 1, label == k + 1)
    assert float(found.position[~found.there].abs().max()) == 0


def test_things_that_touch_are_two_and_a_thing_in_halves_is_one() -> None:
    halves = np.array([[0.02, 0.016, 0.02], [0.02, 0.016, 0.02]])
    touching = np.array([[0.5, -0.016, 0.02], [0.5, 0.016, 0.02]])
    depth, label = picture(touching, halves)
    true = torch.from_numpy(touching).float()
    found = find(*voted(label, depth, true))
    assert int(found.there.sum()) == 2
    assert float(nearest(found, true).max()) < 0.003
    # The same pixels, but either half believes in a middle that is 15 mm from the other's: one thing.
    one = find(*voted(label, depth, torch.tensor([[0.5, -0.0075, 0.02], [0.5, 0.0075, 0.02]])))
    assert int(one.there.sum()) == 1
    assert np.array_equal(one.pixels[0].numpy() > 0, label > 0)


def test_votes_without_a_valley_between_them_are_for_one_thing() -> None:
    depth, label = picture(np.array([[0.5, 0.0, 0.03]]), np.array([[0.05, 0.05, 0.03]]))
    votes, depth_ = voted(label, depth, torch.tensor([[0.5, 0.0, 0.03]]))
    along = torch.linspace(-0.03, 0.03, SIZE)[None, None, :, None] * torch.tensor([0.0, 1.0, 0.0])
    stretched = Votes(votes.logit, votes.middle + along, votes.std)  # unsure along one axis, as of a long thing
    assert int(find(stretched, depth_).there.sum()) == 1


def test_rims_found_nothing_although_they_agree() -> None:
    middles, halves = np.array([[0.5, 0.0, 0.05]]), np.array([[0.04, 0.04, 0.05]])
    depth, label = picture(middles, halves)
    beside = torch.tensor([[0.5, 0.0, 0.05], [0.42, 0.06, 0.02]])
    rim = rims(torch.from_numpy(depth)[None])[0].numpy() & (label > 0)
    assert rim.sum() >= 12
    found = find(*voted(np.where(rim, 2, label), depth, beside))
    assert int(found.there.sum()) == 1
    assert float(nearest(found, beside[:1]).max()) < 0.003
    # Counterexample: as many pixels inside the thing would found one.
    inner = np.zeros_like(rim)
    inner[tuple(np.argwhere((label > 0) & ~rim)[:30].T)] = True
    assert int(find(*voted(np.where(inner, 2, label), depth, beside)).there.sum()) == 2


def test_a_splinter_joins_the_thing_it_is_part_of() -> None:
    depth, label = picture(np.array([[0.5, 0.0, 0.03]]), np.array([[0.05, 0.05, 0.03]]))
    parted = label.copy()
    parted[tuple(np.argwhere(label > 0)[:40].T)] = 2
    # With a valley between the two modes, but nearer than any two things that each show so much.
    found = find(*voted(parted, depth, torch.tensor([[0.5, 0.0, 0.03], [0.523, 0.0, 0.03]]), noise=0.001))
    assert int(found.there.sum()) == 1
    assert np.array_equal(found.pixels[0].numpy() > 0, label > 0)


def test_few_pixels_or_none_with_depth_are_no_thing() -> None:
    depth, label = picture(np.array([[0.5, 0.0, 0.03]]), np.array([[0.03, 0.03, 0.03]]))
    few = np.zeros_like(label)
    few[tuple(np.argwhere(label > 0)[:11].T)] = 1
    middle = torch.tensor([[0.5, 0.0, 0.03]])
    assert not bool(find(*voted(few, depth, middle)).there.any())
    votes, depth_ = voted(label, depth, middle)
    blind = Votes(votes.logit, torch.full_like(votes.middle, torch.nan), votes.std)
    found = find(blind, torch.full_like(depth_, torch.nan))
    assert not bool(found.there.any())
    assert int(found.pixels.max()) == 0


def test_of_more_than_eight_things_those_with_most_pixels_are_kept() -> None:
    label = np.zeros((SIZE, SIZE), np.uint8)
    middles = torch.zeros(9, 3)
    for k in range(9):
        row, column = divmod(k, 3)
        label[row * 20 : row * 20 + (4 if k == 4 else 8), column * 20 : column * 20 + 8] = k + 1
        middles[k] = torch.tensor([0.4 + 0.1 * row, 0.1 * column, 0.0])
    found = find(*voted(label, np.full((SIZE, SIZE), 0.8), middles))
    assert bool(found.there.all())
    assert float(nearest(found, middles)[4]) > 0.05
    assert float(nearest(found, middles[[0, 1, 2, 3, 5, 6, 7, 8]]).max()) < 0.003


def test_pixels_that_doubt_are_no_thing_together() -> None:
    depth, label = picture(np.array([[0.5, 0.0, 0.03]]), np.array([[0.03, 0.03, 0.03]]))
    votes, depth_ = voted(label, depth, torch.tensor([[0.5, 0.0, 0.03]]))
    assert bool(find(Votes(votes.logit / 4, votes.middle, votes.std), depth_).there.any())
    assert not bool(find(Votes(votes.logit / 8, votes.middle, votes.std), depth_).there.any())
