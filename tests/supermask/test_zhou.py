from __future__ import annotations

import pytest
import torch

import lth_tutorial as lt

START = {"w": torch.tensor([[1.0, -1.0, 2.0, -2.0]]), "b": torch.tensor([5.0])}
FINAL = {"w": torch.tensor([[3.0, 4.0, -5.0, -1.0]]), "b": torch.tensor([6.0])}
MASK = {"w": torch.ones(1, 4, dtype=torch.bool)}


def test_large_final_keeps_the_largest_final_magnitudes():
    kept = lt.large_final_mask(START, FINAL, MASK, 0.5)
    assert kept["w"].tolist() == [[False, True, True, False]]


def test_same_sign_prefers_weights_that_did_not_flip():
    kept = lt.large_final_mask(START, FINAL, MASK, 0.5, same_sign=True)
    assert kept["w"].tolist() == [[True, False, False, True]]
    third = lt.large_final_mask(START, FINAL, MASK, 0.75, same_sign=True)["w"]
    assert third.tolist() == [[True, True, False, True]], "of the flipped ones the smallest"


def test_pruned_weights_never_return():
    mask = {"w": torch.tensor([[True, False, True, True]])}
    kept = lt.large_final_mask(START, FINAL, mask, 0.67)
    assert kept["w"].tolist() == [[True, False, True, False]]


def test_a_global_choice_ranks_layers_together():
    start = {"a": torch.ones(4), "b": torch.ones(4)}
    final = {"a": torch.tensor([9.0, 8, 7, 6]), "b": torch.tensor([1.0, 2, 3, 4])}
    mask = {name: torch.ones(4, dtype=torch.bool) for name in start}
    kept = lt.large_final_mask(start, final, mask, 0.5, scope="global")
    assert kept["a"].all() and not kept["b"].any()


def test_a_share_that_keeps_nothing_is_refused_by_name():
    with pytest.raises(ValueError, match="keeps none of the 4 weights of w"):
        lt.large_final_mask(START, FINAL, MASK, 0.1)
    with pytest.raises(ValueError, match="unknown scope"):
        lt.large_final_mask(START, FINAL, MASK, 0.5, scope="all")


def test_rescaling_multiplies_the_kept_by_size_over_kept():
    mask = {"w": torch.tensor([[True, False, False, False]])}
    state = lt.rescale_kept(START, mask)
    assert state["w"].tolist() == [[4.0, 0.0, 0.0, 0.0]]
    assert torch.equal(state["b"], START["b"])
    assert START["w"][0, 0] == 1.0, "the given state is not changed"


@pytest.fixture
def big() -> tuple[lt.State, lt.Mask]:
    generator = torch.Generator().manual_seed(0)
    start = {"w": torch.randn(200, 100, generator=generator) * 0.3, "b": torch.ones(3)}
    return start, {"w": torch.rand(200, 100, generator=generator) < 0.4}


@pytest.mark.parametrize("values", ["rewind", "redraw", "shuffle", "constant"])
@pytest.mark.parametrize("same_sign", [True, False])
def test_kept_weights_have_the_signs_asked_for_and_pruned_ones_are_zero(big, values, same_sign):
    start, mask = big
    state = lt.replace_kept(start, mask, values, 1, same_sign=same_sign)
    assert not state["w"][~mask["w"]].any() and torch.equal(state["b"], start["b"])
    agree = (state["w"].sign() == start["w"].sign())[mask["w"]].double().mean().item()
    assert agree == 1.0 if same_sign else abs(agree - 0.5) < 4 * 0.5 / 8_000**0.5


def test_what_becomes_of_the_magnitudes(big):
    start, mask = big
    kept, std = mask["w"], start["w"].std()

    def magnitudes(values):
        return lt.replace_kept(start, mask, values, 1, same_sign=True)["w"][kept].abs()

    before = start["w"][kept].abs()
    assert torch.equal(magnitudes("rewind"), before)
    assert torch.equal(magnitudes("shuffle").sort().values, before.sort().values)
    assert not torch.equal(magnitudes("shuffle"), before)
    assert torch.allclose(magnitudes("constant"), std.expand(len(before)))
    redrawn = magnitudes("redraw")
    assert abs(redrawn.square().mean().sqrt() / std - 1) < 4 / (2 * len(redrawn)) ** 0.5
    assert abs(torch.corrcoef(torch.stack([redrawn, before]))[0, 1]) < 4 / len(redrawn) ** 0.5


def test_a_seed_draws_values_and_signs(big):
    start, mask = big

    def digest(seed):
        return lt.state_hash(lt.replace_kept(start, mask, "redraw", seed, same_sign=False))

    assert digest(1) == digest(1) != digest(2)
    with pytest.raises(ValueError, match="Did you mean 'constant'"):
        lt.replace_kept(start, mask, "constan", 0, same_sign=True)
