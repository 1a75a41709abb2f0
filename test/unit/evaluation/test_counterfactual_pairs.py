"""Pairs of plans of which one moves a thing: which futures count as right, and what an evaluation makes of them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pushed_square import ARM, pushed
from typer.testing import CliRunner

from deepverse_ros.cli import app
from deepverse_ros.data.store import EpisodeStore
from deepverse_ros.evaluation.prediction import evaluate as evaluation
from deepverse_ros.evaluation.prediction import pairs
from deepverse_ros.evaluation.reporting import model_card, report
from deepverse_ros.evaluation.reporting.moving import moving_rows
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.simulation import robots

SIZE, COUNT = 96, 3


class Showing:
    """A model whose last imagined frames are what `show` makes of a pair as it really went."""

    embodiment = ARM
    config = WorldModelConfig.small_test(ARM, SIZE)

    def __init__(self, monkeypatch, show):
        self.show, self.pair, self.seen = show, None, []
        enact = pairs.enact

        def watched(*args):
            self.pair = enact(*args) or self.pair
            return self.pair

        monkeypatch.setattr(pairs, "enact", watched)

    def observe(self, seen, past):
        assert seen.rgb.shape == (1, 4, 3, SIZE, SIZE)
        assert past.shape == (1, 3, 8)
        self.seen.append(past)

    def imagine(self, belief, plans):
        assert plans.shape == (2, 8, 8)
        return SimpleNamespace(rgb=self.show(self.pair)[:, None])


def score(monkeypatch, show, seed=0):
    return pairs.evaluate_pairs(Showing(monkeypatch, show), COUNT, seed)


def test_the_truth_gets_every_pair_right(monkeypatch):
    figures = score(monkeypatch, lambda pair: pair.rgb)
    assert figures["pairs"] == figures["right"] == figures["moves_right"] == figures["leaves_right"] == COUNT
    assert figures["share"] == 1.0
    assert figures["copy_right"] == 0  # kinematics know of no push
    assert sum(kind["right"] for kind in figures["kinds"].values()) == COUNT


def test_a_thing_that_always_stays_gets_no_pair_right(monkeypatch):
    figures = score(monkeypatch, lambda pair: pair.rgb[1:].expand(2, -1, -1, -1))
    assert (figures["right"], figures["moves_right"], figures["leaves_right"]) == (0, 0, COUNT)
    dragged = score(monkeypatch, lambda pair: pair.rgb[:1].expand(2, -1, -1, -1))
    assert (dragged["right"], dragged["moves_right"], dragged["leaves_right"]) == (0, COUNT, 0)
    exchanged = score(monkeypatch, lambda pair: pair.rgb.flip(0))
    assert (exchanged["right"], exchanged["moves_right"], exchanged["leaves_right"]) == (0, 0, 0)


def test_pairs_follow_from_their_seed_and_really_differ(monkeypatch):
    found = []
    for seed in (0, 0, 1):
        enacted = []
        with monkeypatch.context() as patch:
            score(patch, lambda pair, to=enacted: (to.append(pair), pair.rgb)[1], seed)
        found.append(enacted)
    first, again, other = found
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.rgb, b.rgb)
        assert np.array_equal(a.plans, b.plans)
    assert not any(np.array_equal(a.plans, b.plans) for a, b in zip(first, other, strict=True))
    for pair in first:
        changed = (pair.rgb[0] - pair.rgb[1]).abs().amax(0)
        assert pair.differ.sum() >= pairs.FEWEST_PIXELS
        assert changed[pair.differ].mean() > 0.05
        # What is left over of the start has no pixel of the push: the seen frames came before it.
        assert pair.past.shape == (1, 3, 8)
        assert np.abs(pair.plans[0, -1] - pair.plans[1, -1]).max() < 0.2  # both end at the same place


def labelled_figures(films):
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig.small_test(ARM, 64)).requires_grad_(False).eval()
    return model, evaluation.evaluate(model, films)


def test_figures_of_what_moves_come_first(tmp_path):
    model, figures = labelled_figures([pushed(s, frames=16) for s in range(2)])
    figures["collection_seed"] = None
    figures["counterfactual"] = {"pairs": 4, "right": 3, "moves_right": 3, "leaves_right": 4, "copy_right": 0}
    report.write_json(tmp_path / "figures.json", figures)
    figures = report.read_json(tmp_path / "figures.json")
    assert len(figures["world"]["gap_closed"]) == len(figures["world"]["mse"]["persistence"]) == 8
    assert figures["world"]["mse"]["copy"] is None  # no simulator has this scene
    assert figures["things"]["error_m"]["persistence"]["mean"] > 0.05
    assert figures["contact"] is None
    assert figures["blocked"]["n"] == 0
    tables = report.evaluation_tables(figures)
    assert str(tables[0].title).startswith("what moves")
    assert tables[1].row_count == len(report.evaluation_rows(figures))
    rows = {name: text for name, text, _ in moving_rows(figures)}
    assert rows["counterfactual pairs, both futures right"] == "75 % of 4"
    assert next(iter(rows)).startswith("counterfactual")
    card = model_card.text("new", {"model": model.config.model_dump(mode="json")}, figures, None)
    assert card.index("| counterfactual pairs") < card.index("| world pixels, MSE gap") < card.index("| PSNR model")
    assert {"world", "copy", "things", "contact", "blocked", "moving"} <= figures["definitions"].keys()


def test_episodes_that_do_not_tell_what_they_show_are_scored_as_ever():
    _, figures = labelled_figures([pushed(s, labelled=False) for s in range(2)])
    assert figures["world"] is figures["things"] is figures["contact"] is figures["moving"] is None
    assert figures["n_windows"] == 2
    assert not any(name.startswith("world") for name, *_ in report.evaluation_rows(figures))
    without = {k: v for k, v in figures.items() if k not in ("world", "things", "contact", "moving", "blocked")}
    assert moving_rows(without) == []
    assert len(report.evaluation_tables(without)) == 2


@pytest.mark.slow
def test_the_command_imagines_pairs(tmp_path):
    torch.manual_seed(0)
    WorldModel(WorldModelConfig.small_test(ARM, 64)).requires_grad_(False).eval().save(tmp_path / "model")
    store = EpisodeStore(tmp_path / "films")
    for index in range(2):
        store.write(index, pushed(index, frames=14))
    command = ["evaluate", tmp_path / "model", "--data", store.directory, "--pairs", 1, "--json", tmp_path / "out.json"]
    done = CliRunner().invoke(app, [str(word) for word in command])
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["counterfactual"]["pairs"] == 1
    assert "--pairs 1" in figures["command"]
    assert "counterfactual" in figures["definitions"]
    assert done.output.index("counterfactual pairs") < done.output.index("PSNR model")


@pytest.mark.parametrize("context", [2, 4, 9])
def test_a_model_sees_the_newest_frames_of_the_approach(context):
    with robots.of(ARM).simulate(width=SIZE, height=SIZE) as simulation:
        for index in range(40):
            pair = simulation.begin_pair(index, np.random.default_rng(index), 8)
            enacted = pair and pairs.enact(simulation, pair, context)
            if enacted:
                break
    frames = min(context, len(pair.approach) + 1)
    assert enacted.seen.rgb.shape[1] == frames
    assert enacted.past.shape[1] == frames - 1
    assert np.abs(enacted.past[0, -1] - pair.approach[-1]).max() < 0.05  # free ways are followed
