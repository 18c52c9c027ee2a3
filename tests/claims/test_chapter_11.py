"""The claims of chapter 11 give the verdicts that made-up rows deserve."""

import pandas as pd
import pytest

import lth_tutorial as lt

CLAIMS = {claim.key: claim for claim in lt.CLAIMS if claim.chapter == 11}


def made_up_sums(factor, single=lambda n: 1 / n, seeds=8):
    rows = []
    for seed in range(seeds):
        shift = 1 + 0.01 * seed
        for n in range(1, 21):
            rows.append(("subset", seed, n, shift * factor**n))
        for n in (1, 8, 64, 512):
            rows.append(("single", seed, n, shift * single(n)))
    return pd.DataFrame(rows, columns=["arm", "seed", "products", "median_error"])


@pytest.mark.parametrize(
    ("factor", "verdict"), [(0.5, "holds"), (0.59, "holds"), (0.7, "fails here")]
)
def test_halving_is_told_from_falling_slowly(factor, verdict):
    assert CLAIMS["subset-sums-halve"].verdict(made_up_sums(factor)) == verdict


def test_a_power_law_is_no_exponential():
    rows = made_up_sums(0.5)
    rows["median_error"] = rows["products"] ** -3.0
    assert CLAIMS["subset-sums-halve"].verdict(rows) == "fails here"


def test_products_needed_are_compared_at_the_declared_error():
    claim = CLAIMS["subsets-beat-single-products"]
    effect = claim.settings[0].effects[0]
    # 0.5**7 is below 0.01; one product of 512 is, one of 64 is not.
    assert list(effect.measure(made_up_sums(0.5)).values) == pytest.approx([512 / 7] * 8)
    assert claim.verdict(made_up_sums(0.5)) == "holds"
    assert claim.verdict(made_up_sums(0.5, single=lambda n: 0.4**n)) == "fails here"


def test_an_error_that_single_products_never_reach_counts_as_a_lower_bound():
    effect = CLAIMS["subsets-beat-single-products"].settings[0].effects[0]
    measured = effect.measure(made_up_sums(0.5, single=lambda n: 0.5))
    assert measured.at_least and list(measured.values) == pytest.approx([512 / 7] * 8)
    assert CLAIMS["subsets-beat-single-products"].verdict(made_up_sums(0.5)) == "holds"


def made_up_networks(subset, seeds=8):
    rows = []
    for seed in range(seeds):
        for arm in ("subset", "single", "random"):
            for i in range(8):
                accuracy = 0.97 if i == 0 else {"subset": subset, "single": 0.9, "random": 0.1}[arm]
                rows.append((arm, seed, i, accuracy + 0.001 * seed * (i == 0)))
    return pd.DataFrame(rows, columns=["arm", "seed", "round", "accuracy"])


@pytest.mark.parametrize(("subset", "verdict"), [(0.974, "holds"), (0.95, "fails here")])
def test_a_pruned_network_is_compared_with_its_own_target(subset, verdict):
    claim = CLAIMS["random-network-holds-the-target"]
    assert claim.verdict(made_up_networks(subset)) == verdict


def test_the_other_claims_about_networks_compare_arms_of_the_same_size():
    rows = made_up_networks(0.97)
    for key in ("subsets-beat-single-in-networks", "imitation-needs-the-right-mask"):
        assert CLAIMS[key].verdict(rows) == "holds"
        assert CLAIMS[key].verdict(rows.assign(accuracy=0.9)) == "fails here"


def test_without_rows_nothing_is_decided():
    assert {claim.verdict(None) for claim in CLAIMS.values()} == {"not yet run"}
    empty = made_up_sums(0.5).iloc[:0]
    assert CLAIMS["subset-sums-halve"].verdict(empty) == "not yet run"
