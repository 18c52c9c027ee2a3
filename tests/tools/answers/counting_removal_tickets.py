"""Chapters 1 and 4: densities, removal, masked steps, pruning, rewinding, controls."""

from __future__ import annotations

import copy
import random
from fractions import Fraction

import numpy as np
import torch
from torch import nn

from lth_tutorial.pruning.masks import shuffle_within_layers
from lth_tutorial.pruning.prune import prune


def silences_in_place(w1, b1, w2, kept):
    w1[~kept] = 0
    return w1[kept], b1[kept], w2[:, kept]


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


LEFT_OVER = 703 + 176 + 99


def by_package(weights, mask, fraction):
    return prune({"w": weights.abs()}, {"w": mask}, fraction)["w"]


def by_ranking(weights, mask, fraction):
    remaining = int(mask.sum())
    ranked = torch.where(mask, weights.abs(), -1.0).flatten().argsort(descending=True)
    new = torch.zeros(mask.numel(), dtype=torch.bool)
    new[ranked[: remaining - round(fraction * remaining)]] = True
    return new.view_as(mask)


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


def load_masked(model, start, mask):
    model.load_state_dict({n: t * mask[n] if n in mask else t for n, t in start.items()})


def load_then_mask(model, start, mask):
    model.load_state_dict(start)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in mask:
                parameter *= mask[name]


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


def shuffled(mask, generator):
    return {
        name: kept.flatten()[torch.randperm(kept.numel(), generator=generator)].view_as(kept)
        for name, kept in mask.items()
    }


def seeded_control(mask, seed):
    return shuffled(mask, torch.Generator().manual_seed(seed))


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


def without_the_mask(w1, b1, w2, kept):
    n = int(kept.sum())
    return w1[:n], b1[:n], w2[:, :n]


def backwards(w1, b1, w2, kept):
    places = kept.nonzero().flatten().flip(0)
    return w1[places], b1[places], w2[:, places]


def half_backwards(w1, b1, w2, kept):
    places = kept.nonzero().flatten()
    return w1[places.flip(0)], b1[places], w2[:, places]


def by_lists(w1, b1, w2, kept):
    places = [i for i, k in enumerate(kept.tolist()) if k]
    return [
        torch.stack([row for row, k in zip(w1, kept, strict=True) if k]),
        b1.masked_select(kept),
        w2.T[places].T,
    ]


def every_parameter(model, mask, optimizer, loss):
    right_step(model, mask, optimizer, loss)
    for name, parameter in model.named_parameters():
        parameter.data.mul_(mask[name])


def forgetful(model, mask, optimizer, loss):
    right_step(model, mask, optimizer, loss)
    optimizer.state.clear()


def starts_a_new_optimiser(model, mask, optimizer, loss):
    right_step(model, mask, torch.optim.SGD(model.parameters(), lr=0.1), loss)


def by_hand_at_a_rate(model, mask, optimizer, loss):
    optimizer.zero_grad()
    loss().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad
    apply(model, mask)


def replaces_parameters(model, mask, optimizer, loss):
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()
    for i in (0, 2):
        model[i].weight = nn.Parameter(model[i].weight.detach() * mask[f"{i}.weight"])


def rebinds(model, mask, optimizer, loss):
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        if name in mask:
            parameter = parameter * mask[name]


def forgets_no_grad(model, mask, optimizer, loss):
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        if name in mask:
            parameter.mul_(mask[name])


def zeroes_gradients_last(model, mask, optimizer, loss):
    adds_old_gradients(model, mask, optimizer, loss)
    optimizer.zero_grad()


def with_a_closure(model, mask, optimizer, loss):
    def closure():
        model.zero_grad(set_to_none=False)
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    weights = dict(model.named_parameters())
    for name, kept in mask.items():
        weights[name].data[~kept] = 0


def masks_momentum_too(model, mask, optimizer, loss):
    right_step(model, mask, optimizer, loss)
    for name, parameter in model.named_parameters():
        for value in optimizer.state.get(parameter, {}).values():
            if name in mask and getattr(value, "shape", None) == parameter.shape:
                value.mul_(mask[name])


def masks_gradient_and_weights(model, mask, optimizer, loss):
    optimizer.zero_grad()
    loss().backward()
    for name, kept in mask.items():
        model.get_parameter(name).grad *= kept
    optimizer.step()
    apply(model, mask)
    return "done"


def lowest_first(weights, mask, fraction):
    order = weights.abs().masked_fill(~mask, float("inf")).flatten().argsort()
    new = mask.clone().flatten()
    new[order[: round(fraction * int(mask.sum()))]] = False
    return new.view_as(mask)


def by_numpy(weights, mask, fraction):
    new, flat = mask.numpy().copy(), np.abs(weights.numpy())
    places = np.argwhere(new)
    order = sorted(map(tuple, places), key=lambda at: flat[at])
    for at in order[: round(fraction * len(order))]:
        new[at] = False
    return torch.from_numpy(new)


def rounds_up(w, m, f):
    n = int(m.sum())
    return rank(torch.where(m, w.abs(), -1.0), n - int(np.ceil(round(f * n, 6))))


def zeros_instead_of_the_mask(w, m, f):
    return rank(w.abs() * m, left(m, f))


def by_quantile(w, m, f):
    return m & (w.abs() > w[m].abs().quantile(f))


def by_values(model, start, mask):
    for name, parameter in model.named_parameters():
        parameter.data.copy_(start[name])
        if name in mask:
            parameter.data[~mask[name]] = 0.0


def masks_every_parameter(model, start, mask):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(start[name] * mask[name])


def rewinds_without_no_grad(model, start, mask):
    for name, parameter in model.named_parameters():
        parameter.copy_(start[name] * mask.get(name, 1))


def loads_by_assignment(model, start, mask):
    model.load_state_dict(start, assign=True)
    for name, kept in mask.items():
        model.get_parameter(name).data.mul_(kept)


def same_density(mask, seed):
    share = sum(int(m.sum()) for m in mask.values()) / sum(m.numel() for m in mask.values())
    generator = torch.Generator().manual_seed(seed)
    new = {}
    for name, m in mask.items():
        order = torch.randperm(m.numel(), generator=generator)
        new[name] = (order < round(share * m.numel())).view_as(m)
    return new


def shifts(mask, seed):
    return {n: m.flatten().roll(seed + 1).view_as(m) for n, m in mask.items()}


def controls_by_numpy(mask, seed):
    random_ = np.random.default_rng(seed)
    return {
        name: torch.from_numpy(random_.permutation(kept.numpy().ravel()).reshape(kept.shape))
        for name, kept in mask.items()
    }


def controls_by_sample(mask, seed):
    random.seed(seed)
    new = {}
    for name, kept in mask.items():
        new[name] = torch.zeros(kept.numel(), dtype=torch.bool)
        new[name][random.sample(range(kept.numel()), int(kept.sum()))] = True
        new[name] = new[name].view_as(kept)
    return new


def controls_by_the_global_generator(mask, seed):
    torch.manual_seed(seed)
    return {n: m.flatten()[torch.randperm(m.numel())].view_as(m) for n, m in mask.items()}


def numpys_global_generator_unseeded(mask, seed):
    return {
        n: torch.from_numpy(np.random.permutation(m.numpy().ravel()).reshape(m.shape))
        for n, m in mask.items()
    }


def negates(w1, b1, w2, kept):
    return -w1[kept], -b1[kept], -w2[:, kept]


def draws_a_second_batch(model, mask, optimizer, loss):
    print(f"loss {loss().item():.3f}", end="\r")
    right_step(model, mask, optimizer, loss)


def steps_before_the_gradient(model, mask, optimizer, loss):
    optimizer.zero_grad()
    optimizer.step()
    loss().backward()
    apply(model, mask)


def on_copies(model, mask, optimizer, loss):
    right_step(copy.deepcopy(model), mask, copy.deepcopy(optimizer), loss)


def opens_the_mask(model, mask, optimizer, loss):
    for kept in mask.values():
        kept.fill_(True)
    right_step(model, mask, optimizer, loss)


def lowers_the_rate(model, mask, optimizer, loss):
    right_step(model, mask, optimizer, loss)
    optimizer.param_groups[0]["lr"] *= 0.5


def freezes_afterwards(model, mask, optimizer, loss):
    right_step(model, mask, optimizer, loss)
    model.requires_grad_(False)


def by_places(model, mask, optimizer, loss):
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()
    with torch.no_grad():
        for parameter, kept in zip(model.parameters(), mask.values(), strict=False):
            parameter.mul_(kept)


def by_state(model, mask, optimizer, loss):
    optimizer.zero_grad(set_to_none=False)
    loss().backward()
    optimizer.step()
    state = model.state_dict()
    model.load_state_dict({n: w * mask[n] if n in mask else w for n, w in state.items()})


def rounds_halves_up(w, m, f):
    return rank(torch.where(m, w.abs(), -1.0), int(m.sum()) - int(f * int(m.sum()) + 0.5))


def rounds_what_is_kept(w, m, f):
    return rank(torch.where(m, w.abs(), -1.0), round((1 - f) * int(m.sum())))


def prunes_row_by_row(w, m, f):
    rows = zip(w, m, strict=True)
    return torch.stack([by_ranking(*row, f) for row in rows]) if w.ndim > 1 else by_ranking(w, m, f)


def forgets_a_branch(w, m, f):
    if f >= 0.15:
        return by_ranking(w, m, f)


def by_sorted_pairs(weights, mask, fraction):
    ranked = sorted((abs(w), i) for i, w in enumerate(weights.flatten().tolist()))
    kept = mask.flatten().tolist()
    places = [i for _, i in ranked if kept[i]]
    for i in places[: round(fraction * len(places))]:
        kept[i] = False
    return torch.tensor(kept).reshape(mask.shape)


def leaves_trained_values(model, start, mask):
    with torch.no_grad():
        for name, w in model.named_parameters():
            w.copy_(torch.where(mask[name], start[name], w) if name in mask else start[name])


def changes_the_precision(model, start, mask):
    load_masked(model.double(), start, mask)


def in_half_precision(model, start, mask):
    load_masked(model, {name: w.half().float() for name, w in start.items()}, mask)


def adds_to_the_snapshot(model, start, mask):
    load_masked(model, start, mask)
    start["rewound"] = torch.tensor(True)


def cuts_out(model, start, mask):
    model.load_state_dict({n: w[mask[n]] if n in mask else w for n, w in start.items()})


def never_the_tickets(mask, seed):
    generator, new = torch.Generator().manual_seed(seed), {}
    for name, kept in mask.items():
        others = (~kept).flatten().nonzero().flatten()
        order = torch.randperm(len(others), generator=generator)
        new[name] = torch.zeros(kept.numel(), dtype=torch.bool)
        new[name][others[order[: int(kept.sum())]]] = True
        new[name] = new[name].view_as(kept)
    return new


def leaves_the_last_layer(mask, seed):
    return seeded_control(mask, seed) | {"output.weight": mask["output.weight"].clone()}


def with_replacement(mask, seed):
    generator, new = torch.Generator().manual_seed(seed), {}
    for name, kept in mask.items():
        places = torch.randint(kept.numel(), (int(kept.sum()),), generator=generator)
        new[name] = torch.zeros(kept.numel(), dtype=torch.bool)
        new[name][places] = True
        new[name] = new[name].view_as(kept)
    return new


class Control:
    """A control by ranks of random scores, the last layer first."""

    def __call__(self, mask, seed, *, offset=7):
        generator, new = torch.Generator().manual_seed(seed + offset), {}
        for name in reversed(mask):
            kept = mask[name]
            ranks = torch.rand(kept.numel(), generator=generator).argsort().argsort()
            new[name] = (ranks < kept.sum()).view_as(kept)
        return new


WRONG = {
    "density_after_rounds": [
        (0.245, "1,000 weights"),
        (0.236, "1,000 weights"),
        (-0.2, "what *remains*", "do not add up"),
        (0.7599, "share *removed*", "density is the share kept"),
        (0.0081, "not the share kept"),
        (0.343, "one round short"),
        (0.168, "one round too many"),
        (0.7, "first round"),
        (24.01, "percentage"),
        (0.5, "1,000 weights"),
        ("half", "a number in [0, 1]", "'half'"),
        (True, "a number in [0, 1]"),
        (float("nan"), "a number in [0, 1]"),
        (24, "percentage"),
        ("24 %", "a number in [0, 1]"),
        (torch.tensor([0.7, 0.49]), "a number in [0, 1]"),
        (np.bool_(True), "a number in [0, 1]"),
    ],
    "remove_neurons": [
        (lambda w1, b1, w2, k: (w1[~k], b1[~k], w2[:, ~k]), "True means *kept*"),
        (lambda w1, b1, w2, k: (w1 * k[:, None], b1 * k, w2 * k), "is masking", "its column"),
        (lambda w1, b1, w2, k: (w1[k], b1, w2[:, k]), "takes its bias along"),
        (lambda w1, b1, w2, k: (w1[k], b1[k], w2), "a *column* of w2"),
        (lambda w1, b1, w2, k: (w1[k], b1[k], w2[:, : k.sum()]), "other values in w2"),
        (lambda w1, b1, w2, k: (w1[k], b1[k]), "three tensors"),
        (lambda w1, b1, w2, k: (w1[k], b1[k], 3), "new w2 is a tensor", "int"),
        (silences_in_place, "changed its input `w1`"),
        (without_the_mask, "other values in w1"),
        (half_backwards, "other values in w1"),
        (lambda w1, b1, w2, k: (w1[k], b1[k], w2[k]), "*column* of w2"),
        (lambda w1, b1, w2, k: (w1[:, k], b1[k], w2[:, k]), "*row* of w1"),
        (lambda w1, b1, w2, k: (w1[k].numpy(), b1[k].numpy(), w2[:, k].numpy()), "is a tensor"),
        (lambda w1, b1, w2, k: w1[k], "three tensors"),
        (negates, "other values in w1"),
        (lambda w1, b1, w2, k: (w1[k], b1[k], w2[:, k] * len(k) / k.sum()), "other values in w2"),
        (lambda w1, b1, k: (w1[k], b1[k]), "passes 4 arguments"),
    ],
    "masked_step": [
        (masks_gradients, "came back", "averages", "*after*"),
        (masks_before, "came back", "*after*", "with SGD"),
        (adds_old_gradients, "zero_grad"),
        (steps_twice, "more than one step"),
        (silences_biases, "biases have no mask"),
        (inverts, "True means *kept*"),
        (lambda model, mask, optimizer, loss: loss(), "nothing moved"),
        (every_parameter, "biases have no mask"),
        (forgetful, "remembers"),
        (starts_a_new_optimiser, "step of the optimiser"),
        (by_hand_at_a_rate, "step of the optimiser"),
        (replaces_parameters, "the optimiser still trains the old"),
        (rebinds, "came back"),
        (forgets_no_grad, "torch.no_grad()"),
        (zeroes_gradients_last, "zero_grad"),
        (draws_a_second_batch, "*next* batch", "2 times"),
        (steps_before_the_gradient, "nothing moved", "*then* optimizer.step()"),
        (on_copies, "nothing moved", "not with copies"),
        (opens_the_mask, "changed the mask"),
        (lowers_the_rate, "settings"),
        (freezes_afterwards, "needs gradients"),
        (by_places, "do not belong to the same layer"),
    ],
    "remaining_weights": [
        (205 + 51 + 88, "*remain*", "614", "430"),
        (LEFT_OVER + 58, "biases are never pruned"),
        (713 + 181 + 104, "biases are never pruned"),
        (703 + 176 + 55, "output layer", "15% and not 30%"),
        (2_030 + 506 + 160, "30% is the fraction 0.3"),
        (2_720 - LEFT_OVER, "*removed*"),
        (55 + 14 + 1, "share *removed*", "not the share kept"),
        (1_004 + 251 + 116, "one round short"),
        (703 + 176, "output layer is pruned too"),
        (LEFT_OVER - 1, "rounding"),
        (976, "rounding", "in each round"),
        (978.4, "whole number", "round"),
        (LEFT_OVER / 2_720, "density"),
        (100 * LEFT_OVER / 2_720, "percentage"),
        (1_000, "one layer and one round"),
        (float("nan"), "whole number"),
        (float("inf"), "whole number"),
        ("many", "whole number", "'many'"),
        (True, "whole number"),
        ([1, 2], "whole number"),
        ({"fc1": 703, "fc2": 176, "output": 99}, "Add up"),
        ("1,036", "biases"),
        (51, "percentage"),
        (torch.tensor([703, 176, 99]), "whole number"),
    ],
    "magnitude_pruning": [
        (by_sign, "magnitude, not sign", "-0.9"),
        (removes_largest, "*smallest* magnitudes", "largest"),
        (inverted, "True means *kept*"),
        (keeps_the_fraction, "share to remove, not the share to keep", "3 of 5", "keeps 2"),
        (fraction_of_all, "weights that *remain*, not of all", "3 of 5", "keeps 1"),
        (ranks_pruned_zeros_too, "pruned earlier", "only those still kept", "keeps 5"),
        (ranks_stale_values, "stale values", "keeps 0"),
        (revives, "nested", "came back"),
        (strict_threshold, "ties", "keeps 0"),
        (loose_threshold, "ties", "keeps 4"),
        (takes_zeros_for_pruned, "exactly zero", "the mask, not the value"),
        (rounds_down, "round(fraction * remaining)"),
        (always_removes_one, "nothing is removed"),
        (at_random, "smallest magnitudes among the kept", "you removed one of"),
        (in_place_on_the_mask, "changed its input `mask`"),
        (in_place_on_the_weights, "changed its input `weights`"),
        (lambda w, m, f: by_ranking(w, m, f).float(), "boolean", "torch.float32"),
        (lambda w, m, f: by_ranking(w, m, f).flatten(), "shape, (5, 7)", "(35,)"),
        (lambda w, m, f: by_ranking(w, m, f).numpy(), "boolean tensor", "ndarray"),
        (rounds_up, "round(fraction * remaining)"),
        (zeros_instead_of_the_mask, "nested", "came back"),
        (by_quantile, "remain"),
        (rounds_halves_up, "half to the *even* number"),
        (rounds_what_is_kept, "half to the *even* number"),
        (prunes_row_by_row, "whole layer"),
        (forgets_a_branch, "every branch needs its `return`"),
        (lambda w, m, f: by_ranking(w, m, f).byte(), "boolean", "torch.uint8"),
        (lambda w, m, f: by_ranking(w, m, f).tolist(), "boolean tensor"),
        (lambda w, m, f: by_ranking(w, m, f).int(), "boolean"),
    ],
    "rewind": [
        (lambda model, start, mask: dict(start), "unchanged", "in place"),
        (lambda model, start, mask: model.load_state_dict(start), "mask was not applied"),
        (only_masks, "still the trained ones"),
        (forgets_biases, "biases are never pruned, but they are rewound", "0.bias"),
        (shares_biases, "aliased", "start['0.bias'][0]"),
        (shares_weights_and_masks_them, "leave the snapshot as it was", "start['0.weight']"),
        (masks_the_snapshot, "leave the snapshot as it was", "start['0.weight']"),
        (masks_inverted, "True means *kept*"),
        (reinitialises, "return to their values in the snapshot"),
        (freezes, "no longer requires gradients"),
        (edits_the_mask, "changed the mask"),
        (lambda model, start, mask: start.clear(), "start['0.weight'] is gone"),
        (masks_every_parameter, "biases have no mask"),
        (rewinds_without_no_grad, "torch.no_grad()"),
        (loads_by_assignment, "snapshot"),
        (leaves_trained_values, "what training made of them"),
        (changes_the_precision, "type of numbers", "torch.float64"),
        (in_half_precision, "return to their values in the snapshot"),
        (adds_to_the_snapshot, "another entry"),
        (cuts_out, "leaves the shape of a tensor"),
    ],
    "control": [
        (lambda mask, seed: dict(mask), "the ticket's own mask"),
        (lambda mask, seed: seeded_control(mask, 0), "different seeds give the same mask"),
        (lambda mask, seed: shuffled(mask, None), "same seed must give the same mask"),
        (over_the_network, "*every layer*", "hidden.weight keeps"),
        (coin_tosses, "exact, not right on average"),
        (lambda mask, seed: {n: ~m for n, m in mask.items()}, "True means *kept*", "keeps 20"),
        (shuffles_rows, "weights, not neurons", "output neurons"),
        (shuffles_within_columns, "weights, not neurons", "input neurons"),
        (shuffles_in_place, "changed the mask it was given"),
        (lambda mask, seed: list(mask.values()), "dictionary", "list"),
        (lambda mask, seed: {"hidden.weight": mask["hidden.weight"]}, "every layer"),
        (
            lambda mask, seed: {n: m.float() for n, m in seeded_control(mask, seed).items()},
            "hidden.weight",
            "boolean",
            "torch.float32",
        ),
        (same_density, "layer"),
        (shifts, "neurons"),
        (numpys_global_generator_unseeded, "same seed must give the same mask"),
        (lambda mask, seed: seeded_control(mask, seed // 2), "different seeds give the same mask"),
        (lambda mask, seed: seeded_control(mask, seed % 2), "different seeds give the same mask"),
        (never_the_tickets, "in no draw", "*all* entries"),
        (leaves_the_last_layer, "output.weight is the same in every draw"),
        (with_replacement, "exact"),
        (lambda mask, seed: dict.fromkeys(mask), "hidden.weight", "NoneType"),
    ],
}

RIGHT = {
    "density_after_rounds": [
        0.2401,
        0.24,
        "0.24",
        (1 - 0.3) ** 4,
        Fraction(7, 10) ** 4,
        np.float32(0.2401),
        torch.tensor([0.2401]),
    ],
    "remove_neurons": [
        lambda w1, b1, w2, kept: (w1[kept], b1[kept], w2[:, kept]),
        by_lists,
        backwards,
        lambda w1, b1, w2, k: tuple(t.double() for t in (w1[k], b1[k], w2[:, k])),
    ],
    "masked_step": [
        right_step,
        with_a_closure,
        masks_momentum_too,
        masks_gradient_and_weights,
        by_state,
    ],
    "remaining_weights": [
        LEFT_OVER,
        float(LEFT_OVER),
        torch.tensor(LEFT_OVER),
        "978",
        np.int64(LEFT_OVER),
    ],
    "magnitude_pruning": [
        by_package,
        by_ranking,
        lowest_first,
        by_numpy,
        by_sorted_pairs,
    ],
    "rewind": [
        load_masked,
        load_then_mask,
        by_values,
    ],
    "control": [
        shuffle_within_layers,
        seeded_control,
        controls_by_numpy,
        controls_by_sample,
        controls_by_the_global_generator,
        Control(),
    ],
}
