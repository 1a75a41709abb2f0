"""Evaluation on episodes whose scores are known, with a real though untrained model."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from deepverse_ros.cli import app
from deepverse_ros.data.store import Episode, EpisodeStore
from deepverse_ros.errors import EmbodimentError, EpisodeError, ResourceError, ShapeError
from deepverse_ros.evaluation.prediction import evaluate as evaluation
from deepverse_ros.evaluation.prediction import registry
from deepverse_ros.evaluation.prediction.lpips import Lpips
from deepverse_ros.evaluation.prediction.registry import Metric
from deepverse_ros.evaluation.reporting import model_card, plots, report
from deepverse_ros.evaluation.speed import benchmark
from deepverse_ros.model.config import WorldModelConfig
from deepverse_ros.model.inputs import codec_frames
from deepverse_ros.model.world_model import WorldModel
from deepverse_ros.robot.embodiment import Embodiment
from deepverse_ros.simulation.arm.ood_scenes import KINDS as OOD_KINDS

ARM = Embodiment.load("arm")
SIZE = 64


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    untrained = WorldModel(WorldModelConfig.small_test(ARM, SIZE)).requires_grad_(False).eval()
    for weight in untrained.parameters():
        weight.add_(0.05 * torch.randn_like(weight))  # a new network starts deaf to actions and copies the last frame
    return untrained


def episode(seed, *, frames=12, size=SIZE, still=False, embodiment="arm", dt=ARM.dt):
    """A square that moves right by two pixels a frame over a grey wall, unless it stands still."""
    rng = np.random.default_rng(seed)
    rgb = np.full((frames, size, size, 3), 90, np.uint8)
    depth = np.full((frames, size, size), 3000, np.uint16)
    depth[:, :4] = 0  # the sensor knows nothing there
    tool = np.zeros((frames, 3), np.float32)
    for t in range(frames):
        x = 5 if still else 5 + 2 * t
        rgb[t, 20:30, x : x + 10] = (200, 30, 30)
        depth[t, 20:30, x : x + 10] = 2000
        tool[t, 0] = 0.0 if still else 0.01 * t
    joints = np.tile(np.asarray(ARM.home, np.float32), (frames, 1))
    joints[:, :7] += rng.normal(0, 0.1, (frames, 7))
    return Episode(
        embodiment=embodiment,
        dt=dt,
        seed=seed,
        kind="random",
        rgb=rgb,
        depth=depth,
        actions=joints,
        state={"joint_positions": joints[:, :7] + 1, "gripper_state": joints[:, 7:], "tool_position": tool},
        intrinsics=np.array([[60, 0, size / 2], [0, 60, size / 2], [0, 0, 1]], np.float32),
        camera_to_world=np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1)),
    )


def test_windows_line_up_frames_actions_and_states(model):
    film = episode(1, frames=16)
    windows = evaluation.windows_of(model, film, stride=2)
    assert len(windows) == 3  # 16 frames hold windows of 12 from frames 0, 2 and 4
    one = windows.only(2)
    first, newest = 4, 7
    assert np.allclose(one.seen.rgb[0, 0].permute(1, 2, 0) * 255, film.rgb[first])
    assert np.allclose(one.seen.rgb[0, -1].permute(1, 2, 0) * 255, film.rgb[newest])
    assert np.allclose(one.rgb[0, 0].permute(1, 2, 0) * 255, film.rgb[newest + 1])
    assert np.allclose(one.depth[0, 7, 4:], film.depth[newest + 8, 4:] / 1000)
    assert one.depth[0, :, :4].isnan().all()
    # The past is what was measured after each step, the plan is what was commanded from the newest frame on.
    assert np.allclose(one.past[0, :, :7], film.state["joint_positions"][first + 1 : newest + 1])
    assert np.allclose(one.plans[0], film.actions[newest : newest + 8])
    assert np.allclose(one.tool[0], film.state["tool_position"][newest : newest + 9])


def test_figures_of_a_known_motion(model):
    figures = evaluation.evaluate(model, [episode(1), episode(2), episode(3, frames=11)], seed=5)
    assert figures["n_windows"] == 2
    assert figures["n_episodes"] == 2
    assert figures["episode_seeds"] == [1, 2]
    for metric in ("psnr", "ssim", "mse"):
        assert set(figures[metric]) == {"model", "persistence", "shuffled", "codec"}
        assert all(len(values) == 8 for values in figures[metric].values())
    # After one step two columns of the square of ten rows turned grey and two turned red.
    changed = 2 * 2 * 10 * ((110 / 255) ** 2 + 2 * (60 / 255) ** 2) / (3 * SIZE * SIZE)
    assert figures["mse"]["persistence"][0] == pytest.approx(changed, rel=1e-3)
    assert figures["psnr"]["persistence"][0] == pytest.approx(-10 * np.log10(changed), abs=0.01)
    assert figures["psnr"]["persistence"][0] > figures["psnr"]["persistence"][4]
    # Of the moving pixels half come nearer (3 m to 2 m) and half recede: errors of 1/2 and 1/3.
    assert figures["depth_abs_rel"]["moving"]["persistence"][0] == pytest.approx((1 / 2 + 1 / 3) / 2, rel=1e-3)
    known = (SIZE - 4) * SIZE
    assert figures["depth_abs_rel"]["all"]["persistence"][0] == pytest.approx(20 * (1 / 2 + 1 / 3) / known, rel=1e-3)
    assert figures["tool_position_error_m"]["persistence_mean"] == pytest.approx([0.01 * (k + 1) for k in range(8)])
    assert figures["margin_db"]["persistence"][7] == pytest.approx(
        figures["psnr"]["model"][7] - figures["psnr"]["persistence"][7]
    )


def test_a_reader_of_another_model_reads_the_same_pictures(model):
    films = [episode(seed) for seed in (1, 2)]
    torch.manual_seed(1)
    other = WorldModel(WorldModelConfig.small_test(ARM, SIZE)).requires_grad_(False).eval()
    alone = evaluation.evaluate(model, films)["tool_position_error_m"]
    assert not any(key.startswith("by_reader") for key in alone)
    itself, another = (evaluation.evaluate(model, films, reader=r)["tool_position_error_m"] for r in (model, other))
    for suffix in ("", "_median"):
        ours = alone[f"from_pictures{suffix}"]
        assert itself[f"from_pictures{suffix}"] == another[f"from_pictures{suffix}"] == ours
        assert itself[f"by_reader{suffix}"] == pytest.approx(ours)
        assert another[f"by_reader{suffix}"] != pytest.approx(ours)
        assert another[f"by_reader_true{suffix}"] != pytest.approx(another[f"by_reader{suffix}"])
    errors = []
    for film in films:
        true = evaluation.windows_of(model, film, stride=4)
        read, _ = other.picture_readout(codec_frames(true.rgb[0], true.depth[0], ARM))
        errors.append(np.linalg.norm(read.numpy() - film.state["tool_position"][4:12], axis=-1))
    assert another["by_reader_true"] == pytest.approx(np.mean(errors, axis=0))


def test_a_reader_of_another_robot_or_size_is_refused(model):
    films = [episode(seed) for seed in (1, 2)]
    larger = WorldModel(WorldModelConfig.small_test(ARM, 128))
    with pytest.raises(ShapeError, match="reader: it reads pictures of 128x128 pixels, the model shows 64x64"):
        evaluation.evaluate(model, films, reader=larger)
    drone = WorldModel(WorldModelConfig.small_test(Embodiment.load("drone"), SIZE))
    with pytest.raises(EmbodimentError, match="reader: it knows 'drone', the model 'arm'"):
        evaluation.evaluate(model, films, reader=drone)


def test_the_gap_between_persistence_and_the_codec(model):
    assert evaluation.gap_closed(0.02, 0.005, 0.0) == pytest.approx(0.75)
    assert evaluation.gap_closed(0.02, 0.03, 0.01) == pytest.approx(-1)
    assert evaluation.gap_closed(0.01, 0.005, 0.01) is None
    figures = evaluation.evaluate(model, [episode(1), episode(2)])
    mse = figures["mse"]
    for step, share in enumerate(figures["gap_closed"]):
        p, m, c = (mse[name][step] for name in ("persistence", "model", "codec"))
        assert share == (None if p <= c else pytest.approx((p - m) / (p - c)))


def test_a_longer_horizon_has_a_figure_for_every_step(model):
    films = [episode(seed, frames=22) for seed in (1, 2)]
    model.calibration = {"level": 0.9, "tool_error_q": [0.01 * (k + 1) for k in range(8)]}
    try:
        figures = evaluation.evaluate(model, films, horizon=16)
    finally:
        model.calibration = None
    assert figures["horizon"] == 16
    assert figures["n_windows"] == 2  # 22 frames hold one window of 20 every 4 frames
    series = [v for name in ("psnr", "ssim", "mse", "margin_db") for v in figures[name].values()]
    series += [figures["gap_closed"], *figures["depth_abs_rel"]["moving"].values()]
    series += [*figures["tool_position_error_m"].values(), figures["uncertainty"]["spread_m"]]
    series += [figures["uncertainty"]["spearman"]["per_step"], figures["reliability"]["ece"]["per_step"]]
    assert {len(values) for values in series} == {16}
    assert figures["tool_position_error_m"]["persistence_mean"][15] == pytest.approx(0.16)
    assert len(figures["coverage"]["per_step"]) == 8  # only these steps are calibrated
    table = report.evaluation_table(figures)
    assert [str(c.header) for c in table.columns] == ["step", "1", "2", "4", "6", "8", "12", "16"]
    for wrong in (0, 33):
        with pytest.raises(ShapeError, match=f"horizon: expected 1 to 32 steps, got {wrong}"):
            evaluation.evaluate(model, films, horizon=wrong)


def test_the_first_steps_do_not_depend_on_the_horizon(model):
    films = [episode(seed, frames=20) for seed in (1, 2)]
    short = evaluation.evaluate(model, films, stride=40)
    long = evaluation.evaluate(model, films, stride=40, horizon=16)
    assert long["n_windows"] == short["n_windows"] == 2
    for name in ("model", "persistence", "codec"):
        assert long["psnr"][name][:8] == pytest.approx(short["psnr"][name], abs=1e-3)


def some_lpips():
    """The distance with weights of nobody: here only what is compared counts."""
    rng = np.random.default_rng(0)
    sizes = ((11, 3, 64), (5, 64, 192), (3, 192, 384), (3, 384, 256), (3, 256, 256))
    trunk = {
        f"Conv_{k}": {
            "kernel": rng.normal(0, (side * side * before) ** -0.5, (side, side, before, after)).astype(np.float32),
            "bias": np.zeros(after, np.float32),
        }
        for k, (side, before, after) in enumerate(sizes)
    }
    heads = {
        f"NetLinLayer_{k}": {"Conv_0": {"kernel": rng.uniform(0, 1, (1, 1, after, 1)).astype(np.float32)}}
        for k, (_, _, after) in enumerate(sizes)
    }
    return Lpips({"AlexNet_0": trunk, **heads})


def test_lpips_of_what_is_compared(model):
    lpips = some_lpips()
    films = [episode(1), episode(2)]
    figures = evaluation.evaluate(model, films, lpips=lpips)["lpips"]
    assert set(figures) == {"model", "persistence", "shuffled", "codec"}
    seen, later = (torch.from_numpy(films[0].rgb[t]).permute(2, 0, 1) / 255 for t in (3, 9))
    assert figures["persistence"][5] == pytest.approx(float(lpips(seen, later)), rel=1e-4)
    still = evaluation.evaluate(model, [episode(s, still=True) for s in (1, 2)], lpips=lpips)["lpips"]
    assert still["persistence"] == pytest.approx([0] * 8, abs=1e-6)


def test_plots_are_drawn_from_the_figures(model, tmp_path):
    figures = evaluation.evaluate(model, [episode(1), episode(2)], lpips=Lpips.installed())
    names = {"psnr.png", "ssim.png", "tool_error.png", "reliability.png"} | (
        {"lpips.png"} if figures["lpips"] else set()
    )
    figures["depth_abs_rel"]["moving"]["model"][3] = figures["psnr"]["codec"][2] = None
    written = plots.draw(json.loads(json.dumps(figures)), tmp_path / "plots")
    assert {path.name for path in written} == {path.name for path in (tmp_path / "plots").iterdir()} == names
    for path in written:
        with Image.open(path) as picture:
            assert picture.width > 400
            assert len(picture.convert("RGB").getcolors(1 << 20)) > 20  # curves, not an empty sheet


def test_the_command_writes_figures_plots_and_strangers(model, tmp_path, monkeypatch):
    model.save(tmp_path / "model")
    store = EpisodeStore(tmp_path / "films")
    for index in range(2):
        store.write(index, episode(index, frames=14))
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (50, 40), (10, 200, 30)).save(tmp_path / "pictures" / "green.png")
    folders = ["--data", store.directory, "--ood", tmp_path / "pictures", "--plots", tmp_path / "plots"]
    folders += ["--reader", tmp_path / "model"]
    command = ["evaluate", tmp_path / "model", *folders, "--horizon", 10, "--json", tmp_path / "out.json"]
    monkeypatch.delenv("COLUMNS", raising=False)
    done = CliRunner().invoke(app, [str(word) for word in command])
    assert done.exit_code == 0, done.output
    figures = report.read_json(tmp_path / "out.json")
    assert len(figures["psnr"]["model"]) == figures["horizon"] == 10
    assert figures["ood"]["folder"]["n"] == 1
    assert set(figures["ood"]["simulated"]) == set(OOD_KINDS)
    assert {"psnr", "lpips", "gap_closed", "reliability", "uncertainty", "ood"} <= figures["definitions"].keys()
    assert "--horizon 10 --ood" in figures["command"]
    assert figures["command"].endswith(f"--reader {tmp_path / 'model'}")
    assert (tmp_path / "plots" / "reliability.png").is_file()
    for expected in ("MSE gap closed", "calibration error of the spread", "told apart: scene: scara"):
        assert expected in done.output
    assert "tool error median, true pictures, other reader [cm] " in done.output  # in one line: no terminal, no margin
    wrong = [str(word) for word in [*command[:2], "--data", store.directory, "--ood", tmp_path / "films"]]
    done = CliRunner().invoke(app, wrong)
    assert isinstance(done.exception, EpisodeError)
    assert "holds neither pictures" in str(done.exception)


def test_a_scene_without_motion_has_no_moving_depth_and_capped_psnr(model, tmp_path):
    figures = evaluation.evaluate(model, [episode(s, still=True) for s in (1, 2)])
    assert figures["depth_abs_rel"]["moving"]["persistence"] == [None] * 8
    assert figures["psnr"]["persistence"] == pytest.approx([60.0] * 8)
    report.write_json(tmp_path / "deep" / "figures.json", figures)
    assert report.read_json(tmp_path / "deep" / "figures.json") == json.loads(json.dumps(figures))


def test_other_actions_make_another_future(model):
    figures = evaluation.evaluate(model, [episode(1), episode(2)])
    assert figures["psnr"]["model"] != figures["psnr"]["shuffled"]


def test_coverage_counts_what_is_within_the_bound():
    errors = np.array([[0.01, 0.05], [0.02, 0.01], [0.04, 0.03], [0.01, 0.02]])
    result = evaluation.coverage(errors, {"level": 0.9, "tool_error_q": [0.02, 0.025, 0.1]})
    assert result == {"level": 0.9, "per_step": [0.75, 0.5], "bound_m": [0.02, 0.025]}
    assert evaluation.coverage(errors, None) is None
    assert evaluation.coverage(errors, {"level": 0.9}) is None  # calibrated with executed plans alone


def test_episodes_that_do_not_fit_are_refused(model):
    with pytest.raises(EmbodimentError, match=r"'drone'.*'arm'"):
        evaluation.evaluate(model, [episode(1, embodiment="drone"), episode(2)])
    with pytest.raises(EmbodimentError, match=r"every 0.1 s.*0.2 s"):
        evaluation.evaluate(model, [episode(1, dt=0.1), episode(2)])
    with pytest.raises(EpisodeError, match=r"none of 1 episodes .* 12 frames"):
        evaluation.evaluate(model, [episode(1, frames=8)])
    with pytest.raises(ShapeError, match="several episodes"):
        evaluation.evaluate(model, [episode(1)])


def test_a_store_of_another_picture_size_is_fitted(model, tmp_path):
    store = EpisodeStore(tmp_path)
    for index in range(2):
        store.write(index, episode(index, size=96))
    figures = evaluation.evaluate(model, store)
    assert (figures["height"], figures["width"], figures["n_windows"]) == (SIZE, SIZE, 2)


def test_simulated_episodes_are_reproducible_and_differ_by_seed(model, tmp_path):
    calls = []
    a = evaluation.simulated_episodes(model, tmp_path / "a", 2, 7, lambda *done: calls.append(done))
    b = evaluation.simulated_episodes(model, tmp_path / "b", 2, 8)
    assert calls[-1] == (2, 2)
    assert len(a) == len(b) == 2
    assert a.read(0).rgb.shape[1:] == (SIZE, SIZE, 3)
    assert not {e.seed for e in a} & {e.seed for e in b}
    figures = evaluation.evaluate(model, a)
    assert figures["n_windows"] >= 4
    assert all(np.isfinite(figures["psnr"]["model"]))


def test_card_and_table_show_the_measured_figures(model, tmp_path):
    figures = {"collection_seed": 10_000_007, "command": "deepverse evaluate models/arm --simulate 2 --seed 7"}
    model.calibration = {"level": 0.9, "tool_error_q": [0.01 * (k + 1) for k in range(8)]}
    try:
        figures |= evaluation.evaluate(model, [episode(1), episode(2)])
        config = {
            "model": model.config.model_dump(mode="json"),
            "provenance": {"episodes": 2000, "machine": {"cores": 2}, "seconds": 1234.5678},
            "calibration": model.calibration,
        }
    finally:
        model.calibration = None
    speed = {
        "machine": {"processor": "a processor", "threads": 2, "torch": "2"},
        "dtype": "float32",
        "measurements": [{"name": "imagine", "p50": 12.34, "p95": 20.0, "unit": "ms"}],
    }
    path = model_card.write(tmp_path, config, figures, speed)
    text = path.read_text()
    for expected in (
        f"{figures['psnr']['model'][7]:.2f}", "collection seed 10000007", "- episodes: 2000", "- seconds: 1235",
        "cores 2", "joint_positions 7 [rad]", "In 90 % of windows", "| imagine | 12.3 | 20.0 | ms |",
        "--simulate 2 --seed 7", "MSE gap closed", "calibration error of the spread",
    ):  # fmt: skip
        assert expected in text
    bare = model_card.text("new", {"model": config["model"]}, None, None)
    assert "Not calibrated" in bare
    assert "not been evaluated" in bare
    assert "Not recorded" in bare
    table = report.evaluation_table(figures)
    assert table.row_count == len(report.evaluation_rows(figures))
    assert len(table.columns) == 9
    assert report.benchmark_table(speed).row_count == 1


def steepness(rgb):
    """(*) mean difference of pixels that are side by side."""
    return rgb.diff(dim=-1).abs().mean(dim=(-3, -2, -1))


class Sharpness(Metric):
    """How sharp the predicted frames are beside the true ones. As docs/guides/add_metric.md has it."""

    name = "sharpness"
    title = "sharpness"
    definition = "mean difference of neighbouring pixels, predicted / true; mean over windows"
    higher_is_better = True
    unit = "%"
    factor = 100.0
    number = ".0f"

    def per_step(self, predicted, true):
        return steepness(predicted.rgb) / steepness(true.rgb)


def test_an_own_metric_is_a_class_and_a_name(model, tmp_path, monkeypatch):
    films = [episode(1), episode(2)]
    without = evaluation.evaluate(model, films)
    monkeypatch.setattr(registry, "METRICS", (*registry.METRICS, Sharpness))
    report.write_json(tmp_path / "figures.json", {"collection_seed": None, **evaluation.evaluate(model, films)})
    figures = report.read_json(tmp_path / "figures.json")
    assert set(figures["sharpness"]) == {"model", "persistence", "shuffled", "codec"}
    assert figures["sharpness"]["persistence"] == pytest.approx([1.0] * 8)  # the square moves, and stays as it is
    assert figures["definitions"]["sharpness"] == Sharpness.definition
    added = {name for name, *_ in report.evaluation_rows(figures)} - {n for n, *_ in report.evaluation_rows(without)}
    assert added == {"sharpness model [%]", "sharpness persistence [%]"}
    card = model_card.text("new", {"model": model.config.model_dump(mode="json")}, figures, None)
    assert f"| sharpness persistence [%] |{' 100 |' * 8}" in card
    assert f"- sharpness: {Sharpness.definition}." in card
    assert "sharpness.png" in {path.name for path in plots.draw(figures, tmp_path / "plots")}
    # Figures of before it was there have no row of it, and the others are what they were.
    assert not any(name.startswith("sharpness") for name, *_ in report.evaluation_rows(without))
    assert without.keys() == figures.keys() - {"sharpness", "collection_seed"}
    assert without["psnr"] == figures["psnr"]


def test_every_metric_has_a_figure_of_its_own():
    names = [metric.name for metric in registry.METRICS]
    assert len(set(names)) == len(names)
    for metric in registry.METRICS:
        assert set(metric.shown) <= set(metric.predictors) <= set(registry.PREDICTORS)


def test_unreadable_figures_are_named(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    for name, message in (("absent.json", "no such file"), ("broken.json", "not valid JSON"), ("list.json", "mapping")):
        with pytest.raises(ResourceError, match=f"{name}: .*{message}"):
            report.read_json(tmp_path / name)


def test_benchmark_measures_everything_once(model):
    figures = benchmark(model, repeats=1, collect_episodes=0)
    values = {row["name"]: row["p50"] for row in figures["measurements"]}
    for name in ("observe 4 frames", "imagine 1x8 RGB-D frames", "imagine 256x8 latent frames", "encode a goal image"):
        assert values[name] > 0
    assert values["plan 256x8, 6 iterations"] > values["encode a goal image"]
    assert values["peak memory of this process"] > 50
    assert figures["machine"]["threads"] >= 1
    assert figures["dtype"] == "float32"
    json.dumps(figures, allow_nan=False)
