"""Each check passes a right answer and names the idea that each typical wrong answer missed."""

import pytest
import torch
from samples import assert_names
from torch import nn

from lth_tutorial import exercises as check
from lth_tutorial.pruning.masks import shuffle_within_layers
from lth_tutorial.pruning.prune import prune

BY_HAND = [check.density_after_rounds, check.remaining_weights]
OF_FUNCTIONS = [
    check.remove_neurons,
    check.masked_step,
    check.magnitude_pruning,
    check.rewind,
    check.control,
]


@pytest.mark.parametrize("one", BY_HAND + OF_FUNCTIONS)
def test_an_open_exercise_is_not_attempted_yet(one):
    assert one(None) == one() == check.Check(None, "not attempted yet")
    assert not one(None)


@pytest.mark.parametrize("one", OF_FUNCTIONS)
def test_a_function_that_raises_is_a_failed_check_with_its_text(one):
    def broken(*arguments):
        raise KeyError("fc9.weight")

    assert_names(one(broken), "your function raised KeyError", "fc9.weight")


@pytest.mark.parametrize("one", OF_FUNCTIONS)
def test_a_function_with_the_wrong_signature_is_a_failed_check(one):
    assert_names(one(lambda: None), "your function raised TypeError")


@pytest.mark.parametrize("one", OF_FUNCTIONS)
def test_something_that_is_no_function_is_a_failed_check(one):
    assert_names(one(3), "takes the function itself", "int")


@pytest.mark.parametrize("one", OF_FUNCTIONS)
def test_a_stub_that_raises_not_implemented_is_open(one):
    def stub(*arguments):
        raise NotImplementedError

    assert one(stub).passed is None


@pytest.mark.parametrize("one", [check.remove_neurons, check.magnitude_pruning, check.control])
def test_a_stub_that_returns_nothing_is_open_and_mentions_return(one):
    outcome = one(lambda *arguments: None)
    assert outcome.passed is None and "`return` is missing" in outcome.message


def test_a_check_says_its_verdict_in_words_and_escapes_html():
    failed = check.Check(False, "1 < 2")
    assert repr(failed) == "✗ not yet: 1 < 2"
    assert "1 &lt; 2" in failed._repr_html_() and "✗ not yet" in failed._repr_html_()
    assert repr(check.Check(True, "nested")) == "✓ passed: nested"
    assert bool(check.Check(True, "")) and not failed


def test_checks_leave_the_global_random_state_alone():
    def seeded(mask, seed):
        torch.manual_seed(seed)
        return {n: m.flatten()[torch.randperm(m.numel())].view_as(m) for n, m in mask.items()}

    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    assert check.control(seeded)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("answer", [0.2401, 0.24, "0.24", torch.tensor(0.2401)])
def test_the_right_density_passes(answer):
    assert check.density_after_rounds(answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (-0.2, ("what *remains*", "do not add up")),
        (0.7599, ("share *removed*", "density is the share kept")),
        (0.0081, ("not the share kept",)),
        (0.343, ("one round short",)),
        (0.168, ("one round too many",)),
        (0.7, ("first round",)),
        (24.01, ("percentage",)),
        (0.5, ("1,000 weights",)),
        ("half", ("a number in [0, 1]", "'half'")),
        (True, ("a number in [0, 1]",)),
        (float("nan"), ("a number in [0, 1]",)),
    ],
)
def test_a_wrong_density_is_told_which_idea_it_missed(answer, words):
    assert_names(check.density_after_rounds(answer), *words)


def test_right_removal_of_neurons_passes():
    assert check.remove_neurons(lambda w1, b1, w2, kept: (w1[kept], b1[kept], w2[:, kept]))
    assert check.remove_neurons(
        lambda w1, b1, w2, kept: [
            torch.stack([row for row, k in zip(w1, kept, strict=True) if k]),
            b1.masked_select(kept),
            w2.T[kept].T,
        ]
    )


def silences_in_place(w1, b1, w2, kept):
    w1[~kept] = 0
    return w1[kept], b1[kept], w2[:, kept]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda w1, b1, w2, k: (w1[~k], b1[~k], w2[:, ~k]), ("True means *kept*",)),
        (lambda w1, b1, w2, k: (w1 * k[:, None], b1 * k, w2 * k), ("is masking", "its column")),
        (lambda w1, b1, w2, k: (w1[k], b1, w2[:, k]), ("takes its bias along",)),
        (lambda w1, b1, w2, k: (w1[k], b1[k], w2), ("a *column* of w2",)),
        (lambda w1, b1, w2, k: (w1[k], b1[k], w2[:, : k.sum()]), ("other values in w2",)),
        (lambda w1, b1, w2, k: (w1[k], b1[k]), ("three tensors",)),
        (lambda w1, b1, w2, k: (w1[k], b1[k], 3), ("new w2 is a tensor", "int")),
        (silences_in_place, ("changed its input `w1`",)),
    ],
)
def test_a_wrong_removal_is_told_which_idea_it_missed(wrong, words):
    assert_names(check.remove_neurons(wrong), *words)


def apply(model, mask):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in mask:
                parameter.mul_(mask[name])


def right_step(model, mask, optimizer, loss):
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()
    apply(model, mask)


def masks_gradients(model, mask, optimizer, loss):
    optimizer.zero_grad()
    loss().backward()
    for name, parameter in model.named_parameters():
        if name in mask:
            parameter.grad.mul_(mask[name])
    optimizer.step()


def masks_before(model, mask, optimizer, loss):
    apply(model, mask)
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()


def adds_old_gradients(model, mask, optimizer, loss):
    loss().backward()
    optimizer.step()
    apply(model, mask)


def steps_twice(model, mask, optimizer, loss):
    right_step(model, mask, optimizer, loss)
    optimizer.step()
    apply(model, mask)


def silences_biases(model, mask, optimizer, loss):
    right_step(model, mask, optimizer, loss)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(mask.get(name, 0.0))


def inverts(model, mask, optimizer, loss):
    right_step(model, {name: ~kept for name, kept in mask.items()}, optimizer, loss)


def test_the_right_masked_step_passes():
    assert check.masked_step(right_step), check.masked_step(right_step)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (masks_gradients, ("came back", "averages", "*after*")),
        (masks_before, ("came back", "*after*", "with SGD")),
        (adds_old_gradients, ("zero_grad",)),
        (steps_twice, ("more than one step",)),
        (silences_biases, ("biases have no mask",)),
        (inverts, ("True means *kept*",)),
        (lambda model, mask, optimizer, loss: loss(), ("nothing moved",)),
    ],
)
def test_a_wrong_step_is_told_which_idea_it_missed(wrong, words):
    assert_names(check.masked_step(wrong), *words)


RIGHT = 703 + 176 + 99


@pytest.mark.parametrize("answer", [RIGHT, float(RIGHT), torch.tensor(RIGHT)])
def test_the_right_number_of_remaining_weights_passes(answer):
    assert check.remaining_weights(answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (205 + 51 + 88, ("*remain*", "614", "430")),
        (RIGHT + 58, ("biases are never pruned",)),
        (713 + 181 + 104, ("biases are never pruned",)),
        (703 + 176 + 55, ("output layer", "15% and not 30%")),
        (2_030 + 506 + 160, ("30% is the fraction 0.3",)),
        (2_720 - RIGHT, ("*removed*",)),
        (55 + 14 + 1, ("share *removed*", "not the share kept")),
        (1_004 + 251 + 116, ("one round short",)),
        (703 + 176, ("output layer is pruned too",)),
        (RIGHT - 1, ("rounding",)),
        (976, ("rounding", "in each round")),  # rounded once, at the end
        (978.4, ("whole number", "round")),
        (RIGHT / 2_720, ("density",)),
        (100 * RIGHT / 2_720, ("percentage",)),
        (1_000, ("one layer and one round",)),
        (float("nan"), ("whole number",)),
        (float("inf"), ("whole number",)),
        ("many", ("whole number", "'many'")),
        (True, ("whole number",)),
        ([1, 2], ("whole number",)),
    ],
)
def test_a_wrong_count_is_told_which_idea_it_missed(answer, words):
    assert_names(check.remaining_weights(answer), *words)


def by_package(weights, mask, fraction):
    return prune({"w": weights.abs()}, {"w": mask}, fraction)["w"]


def by_ranking(weights, mask, fraction):
    remaining = int(mask.sum())
    ranked = torch.where(mask, weights.abs(), -1.0).flatten().argsort(descending=True)
    new = torch.zeros(mask.numel(), dtype=torch.bool)
    new[ranked[: remaining - round(fraction * remaining)]] = True
    return new.view_as(mask)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("right", [by_package, by_ranking])
def test_right_magnitude_pruning_passes(right):
    assert check.magnitude_pruning(right), check.magnitude_pruning(right)


def rank(values, keep):
    new = torch.zeros(values.numel(), dtype=torch.bool)
    new[values.flatten().argsort(descending=True)[:keep]] = True
    return new.view_as(values)


def left(mask, fraction):
    return int(mask.sum()) - round(fraction * int(mask.sum()))


def by_sign(w, m, f):
    return rank(torch.where(m, w, -torch.inf), left(m, f))


def removes_largest(w, m, f):
    return rank(torch.where(m, -w.abs(), -torch.inf), left(m, f))


def inverted(w, m, f):
    return m & ~by_ranking(w, m, f)


def keeps_the_fraction(w, m, f):
    return rank(torch.where(m, w.abs(), -1.0), round(f * int(m.sum())))


def fraction_of_all(w, m, f):
    return rank(torch.where(m, w.abs(), -1.0), max(0, int(m.sum()) - round(f * m.numel())))


def ranks_pruned_zeros_too(w, m, f):
    return rank(w.abs() * m, m.numel() - round(f * m.numel())) & m


def ranks_stale_values(w, m, f):
    return rank(w.abs(), left(m, f)) & m


def revives(w, m, f):
    return rank(w.abs(), left(m, f))


def strict_threshold(w, m, f):
    removed = round(f * int(m.sum()))
    if removed == 0:
        return m.clone()
    return m & (w.abs() > w[m].abs().sort().values[removed - 1])


def loose_threshold(w, m, f):
    return m & (w.abs() >= w[m].abs().sort().values[round(f * int(m.sum()))])


def takes_zeros_for_pruned(w, m, f):
    return by_ranking(w, m & (w != 0), f)


def rounds_down(w, m, f):
    return rank(torch.where(m, w.abs(), -1.0), int(m.sum()) - int(f * int(m.sum())))


def always_removes_one(w, m, f):
    removed = max(1, round(f * int(m.sum())))
    return rank(torch.where(m, w.abs(), -1.0), int(m.sum()) - removed)


def at_random(w, m, f):
    generator = torch.Generator().manual_seed(0)
    return by_ranking(torch.rand(w.shape, generator=generator), m, f)


def in_place_on_the_mask(w, m, f):
    m.copy_(by_ranking(w, m, f))
    return m


def in_place_on_the_weights(w, m, f):
    new = by_ranking(w, m, f)
    w.mul_(new)
    return new


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (by_sign, ("magnitude, not sign", "-0.9")),
        (removes_largest, ("*smallest* magnitudes", "largest")),
        (inverted, ("True means *kept*",)),
        (keeps_the_fraction, ("share to remove, not the share to keep", "3 of 5", "keeps 2")),
        (fraction_of_all, ("weights that *remain*, not of all", "3 of 5", "keeps 1")),
        (ranks_pruned_zeros_too, ("pruned earlier", "only those still kept", "keeps 5")),
        (ranks_stale_values, ("stale values", "keeps 0")),
        (revives, ("nested", "came back")),
        (strict_threshold, ("ties", "keeps 0")),
        (loose_threshold, ("ties", "keeps 4")),
        (takes_zeros_for_pruned, ("exactly zero", "the mask, not the value")),
        (rounds_down, ("round(fraction * remaining)",)),
        (always_removes_one, ("nothing is removed",)),
        (at_random, ("smallest magnitudes among the kept", "you removed one of")),
        (in_place_on_the_mask, ("changed its input `mask`",)),
        (in_place_on_the_weights, ("changed its input `weights`",)),
        (lambda w, m, f: by_ranking(w, m, f).float(), ("boolean", "torch.float32")),
        (lambda w, m, f: by_ranking(w, m, f).flatten(), ("shape, (5, 7)", "(35,)")),
        (lambda w, m, f: by_ranking(w, m, f).numpy(), ("boolean tensor", "ndarray")),
    ],
)
def test_wrong_magnitude_pruning_is_told_which_idea_it_missed(wrong, words):
    assert_names(check.magnitude_pruning(wrong), *words)


def load_masked(model, start, mask):
    model.load_state_dict({n: t * mask[n] if n in mask else t for n, t in start.items()})


def load_then_mask(model, start, mask):
    model.load_state_dict(start)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in mask:
                parameter *= mask[name]


@pytest.mark.parametrize("right", [load_masked, load_then_mask])
def test_right_rewinding_passes(right):
    assert check.rewind(right), check.rewind(right)


def only_masks(model, start, mask):
    with torch.no_grad():
        for name, kept in mask.items():
            model.get_parameter(name).mul_(kept)


def forgets_biases(model, start, mask):
    with torch.no_grad():
        for name, kept in mask.items():
            model.get_parameter(name).copy_(start[name] * kept)


def shares_biases(model, start, mask):
    for name, parameter in model.named_parameters():
        parameter.data = start[name] * mask[name] if name in mask else start[name]


def shares_weights_and_masks_them(model, start, mask):
    for name, parameter in model.named_parameters():
        parameter.data = start[name]
        if name in mask:
            parameter.data.mul_(mask[name])


def masks_the_snapshot(model, start, mask):
    for name, kept in mask.items():
        start[name] *= kept
    model.load_state_dict(start)


def masks_inverted(model, start, mask):
    load_masked(model, start, {name: ~kept for name, kept in mask.items()})


def reinitialises(model, start, mask):
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    only_masks(model, start, mask)


def freezes(model, start, mask):
    load_masked(model, start, mask)
    model.requires_grad_(False)


def edits_the_mask(model, start, mask):
    load_masked(model, start, mask)
    mask["0.weight"].fill_(True)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda model, start, mask: dict(start), ("unchanged", "in place")),
        (lambda model, start, mask: model.load_state_dict(start), ("mask was not applied",)),
        (only_masks, ("still the trained ones",)),
        (forgets_biases, ("biases are never pruned, but they are rewound", "0.bias")),
        (shares_biases, ("aliased", "start['0.bias'][0]")),
        (shares_weights_and_masks_them, ("leave the snapshot as it was", "start['0.weight']")),
        (masks_the_snapshot, ("leave the snapshot as it was", "start['0.weight']")),
        (masks_inverted, ("True means *kept*",)),
        (reinitialises, ("return to their values in the snapshot",)),
        (freezes, ("no longer requires gradients",)),
        (edits_the_mask, ("changed the mask",)),
        (lambda model, start, mask: start.clear(), ("start['0.weight'] is gone",)),
    ],
)
def test_wrong_rewinding_is_told_which_idea_it_missed(wrong, words):
    assert_names(check.rewind(wrong), *words)


def shuffled(mask, generator):
    return {
        name: kept.flatten()[torch.randperm(kept.numel(), generator=generator)].view_as(kept)
        for name, kept in mask.items()
    }


def seeded_control(mask, seed):
    return shuffled(mask, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("right", [shuffle_within_layers, seeded_control])
def test_a_right_control_passes(right):
    assert check.control(right), check.control(right)


def over_the_network(mask, seed):
    flat = torch.cat([kept.flatten() for kept in mask.values()])
    flat = flat[torch.randperm(len(flat), generator=torch.Generator().manual_seed(seed))]
    parts = flat.split([kept.numel() for kept in mask.values()])
    return {name: part.view_as(mask[name]) for name, part in zip(mask, parts, strict=True)}


def coin_tosses(mask, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(kept.shape, generator=generator) < kept.float().mean()
        for name, kept in mask.items()
    }


def shuffles_rows(mask, seed):
    generator = torch.Generator().manual_seed(seed)
    return {n: kept[torch.randperm(len(kept), generator=generator)] for n, kept in mask.items()}


def shuffles_within_columns(mask, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.stack(
            [c[torch.randperm(len(c), generator=generator)] for c in kept.unbind(1)], dim=1
        )
        for name, kept in mask.items()
    }


def shuffles_in_place(mask, seed):
    for name, kept in seeded_control(mask, seed).items():
        mask[name].copy_(kept)
    return mask


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda mask, seed: dict(mask), ("the ticket's own mask",)),
        (lambda mask, seed: seeded_control(mask, 0), ("different seeds give the same mask",)),
        (lambda mask, seed: shuffled(mask, None), ("same seed must give the same mask",)),
        (over_the_network, ("*every layer*", "hidden.weight keeps")),
        (coin_tosses, ("exact, not right on average",)),
        (lambda mask, seed: {n: ~m for n, m in mask.items()}, ("True means *kept*", "keeps 20")),
        (shuffles_rows, ("weights, not neurons", "output neurons")),
        (shuffles_within_columns, ("weights, not neurons", "input neurons")),
        (shuffles_in_place, ("changed the mask it was given",)),
        (lambda mask, seed: list(mask.values()), ("dictionary", "list")),
        (lambda mask, seed: {"hidden.weight": mask["hidden.weight"]}, ("every layer",)),
        (
            lambda mask, seed: {n: m.float() for n, m in seeded_control(mask, seed).items()},
            ("hidden.weight", "boolean", "torch.float32"),
        ),
    ],
)
def test_a_wrong_control_is_told_which_idea_it_missed(wrong, words):
    assert_names(check.control(wrong), *words)


def test_answers_that_readers_really_gave():
    """Each of these met a message that did not help when the chapter was first tried."""
    assert "percentage" in check.remaining_weights(51).message
    assert "biases" in check.remaining_weights("1,036").message

    def floor(weights, mask, fraction):
        remaining = int(mask.sum())
        order = weights.abs().masked_fill(~mask, float("inf")).flatten().argsort()
        new = mask.clone().flatten()
        new[order[: int(fraction * remaining)]] = False
        return new.view_as(mask)

    assert "round(fraction * remaining)" in check.magnitude_pruning(floor).message

    def masks_every_parameter(model, start, mask):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(start[name] * mask[name])

    assert "biases have no mask" in check.rewind(masks_every_parameter).message
