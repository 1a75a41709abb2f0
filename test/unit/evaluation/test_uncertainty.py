"""Reliability and ranking of a predicted spread, on errors that are drawn from a known one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from deepverse_ros.evaluation.prediction.uncertainty import LEVELS, ranking, reliability, sparsification, spearman


def drawn(windows=4000, steps=3, promised=1.0, seed=0):
    """Errors of an isotropic 3D Gaussian whose true deviation is the predicted spread over `promised`."""
    rng = np.random.default_rng(seed)
    spread = rng.uniform(0.005, 0.05, (windows, steps))
    errors = np.linalg.norm(rng.normal(size=(windows, steps, 3)) * spread[..., None] / promised, axis=-1)
    return errors, spread, np.repeat(np.arange(windows // 4), 4)


def test_a_true_spread_is_reliable_at_every_level_and_step():
    errors, spread, episode = drawn()
    out = reliability(errors, spread, episode)
    assert out["levels"] == list(LEVELS)
    assert out["observed"]["all"] == pytest.approx(LEVELS, abs=0.015)
    for step in out["observed"]["per_step"]:
        assert step == pytest.approx(LEVELS, abs=0.03)
    assert out["ece"]["all"] < 0.01
    assert out["scaled"]["factor"] == pytest.approx(1.0, abs=0.04)


def test_a_spread_that_is_too_wide_is_found_and_scaled():
    errors, spread, episode = drawn(promised=3.0)
    out = reliability(errors, spread, episode)
    radius = stats.chi(3).ppf(LEVELS)
    assert out["observed"]["all"] == pytest.approx(stats.chi(3).cdf(3 * radius), abs=0.01)
    scaled = out["scaled"]
    assert scaled["factor"] == pytest.approx(1 / 3, rel=0.04)
    assert scaled["ece"]["all"] < 0.015 < scaled["ece_unscaled"]
    assert scaled["n_windows_fitted"] == scaled["n_windows_tested"] == 2000


def test_the_scale_is_tested_on_other_episodes_than_it_is_fitted_on():
    errors, spread, episode = drawn(windows=400)
    for seed in range(3):
        out = reliability(errors, spread, episode, seed)["scaled"]
        fitted = np.isin(episode, np.random.default_rng(seed).permutation(100)[:50])
        spoiled = np.where(fitted[:, None], errors, 50 * errors)
        after = reliability(spoiled, spread, episode, seed)["scaled"]
        assert after["factor"] == out["factor"]
        assert after["ece"]["all"] > 0.4 > out["ece"]["all"]
    assert reliability(errors[:4], spread[:4], episode[:4])["scaled"] is None


def test_ranking_of_a_spread_that_knows_and_of_one_that_does_not():
    errors, spread, _ = drawn(windows=1000)
    out = ranking(errors, spread)
    for t, value in enumerate(out["spearman"]["per_step"]):
        assert value == pytest.approx(stats.spearmanr(spread[:, t], errors[:, t]).statistic, abs=1e-4)
    assert out["spearman"]["all"] > 0.5
    kept = out["sparsification"]["error_m"]["all"]
    assert kept[0] == pytest.approx(errors.mean())
    assert kept[0] > kept[1] > kept[2] > kept[3]
    assert all(best <= e for best, e in zip(out["sparsification"]["oracle_m"]["all"], kept, strict=True))
    blind = ranking(errors, np.full_like(spread, 0.01))
    assert blind["spearman"] == {"all": None, "per_step": [None] * 3}


def test_sparsification_leaves_out_the_most_uncertain():
    errors = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    assert sparsification(errors, errors) == pytest.approx([5.5, 5.0, 4.5, 3.0])
    assert sparsification(errors, -errors) == pytest.approx([5.5, 6.0, 6.5, 8.0])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=40))
def test_spearman_with_ties_is_the_textbook_one(pairs):
    first, second = np.array(pairs, float).T
    value = spearman(first, second)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert value is None
    else:
        assert value == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-5)
