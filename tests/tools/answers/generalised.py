"""Chapter 13: stored numbers, moved tickets, an artefact, a penalty."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch


def by_sums(outside, blocks, picks):
    kept = outside[0] + sum(blocks[j][0] for j in picks)
    return kept / (outside[1] + sum(blocks[j][1] for j in picks))


def by_list(outside, blocks, picks):
    layers = [outside, *[blocks[j] for j in picks]]
    return np.sum([k for k, _ in layers]) / np.sum([n for _, n in layers])


def by_tensor(outside, blocks, picks):
    counts = torch.tensor(blocks, dtype=torch.float64)[picks].sum(0) + torch.tensor(outside)
    return counts[0] / counts[1]


def by_fraction(outside, blocks, picks):
    kept, total = outside
    for j in picks:
        kept, total = kept + blocks[j][0], total + blocks[j][1]
    return Fraction(kept, total)


def total(outside, blocks, picks, i):
    return outside[i] + sum(blocks[j][i] for j in picks)


def by_where(gradient, weight, kept, strength):
    return torch.where(kept, gradient, gradient + strength * weight)


def by_product(gradient, weight, kept, strength):
    return gradient + strength * weight * (1 - kept.float())


def by_index(gradient, weight, kept, strength):
    new = gradient.clone()
    new[~kept] += strength * weight[~kept]
    return new


def by_autograd(gradient, weight, kept, strength):
    weight = weight.clone().requires_grad_()
    (strength / 2 * weight[~kept].square().sum()).backward()
    return gradient + weight.grad


def in_place(gradient, weight, kept, strength):
    gradient[~kept] += strength * weight[~kept]
    return gradient


def moves_weights(gradient, weight, kept, strength):
    weight[~kept] *= 1 - strength
    return gradient


def opens_the_mask(gradient, weight, kept, strength):
    new = by_where(gradient, weight, kept, strength)
    kept.fill_(True)
    return new


def sorts_the_list(outside, blocks, picks):
    picks.sort()
    return by_sums(outside, blocks, picks)


WRONG = {
    "numbers_stored": [
        (128, "coefficients alone"),
        (128 + 100**2 + 64**2, "need not be stored"),
        (20 * 100 + 15 * 64, "come on top"),
        (128 + 20 * 64 + 15 * 100, "swapped"),
        (128 + 20 + 15, "an entry for every unit"),
        (6400, "dense layer"),
        (128 + 2000, "inputs' side are missing"),
        (128 + 960, "outputs' side are missing"),
        (128 + 35 * 164, "belongs to one side"),
        (128 + 20 * 15, "counts coefficients"),
        (7, "add kept coefficients"),
        (True, "is a number"),
        ("many", "is a number"),
        (torch.tensor([128, 2960]), "is a number"),
        (20 * 15 + 2960, "not all 20 × 15"),
        (2 * 128 + 2960, "places of the kept coefficients"),
        (3 * 128 + 2960, "places of the kept coefficients"),
        (3089, "add kept coefficients"),
    ],
    "moved_density": [
        (lambda o, b, p: by_sums(o, b, range(len(b))), "density of the *source*"),
        (lambda o, b, p: by_sums((0, 0), b, p), "outside the blocks"),
        (
            lambda o, b, p: np.mean([k / n for k, n in (o, *(b[j] for j in p))]),
            "a mean of densities",
        ),
        (lambda o, b, p: total(o, b, p, 0) / total(o, b, range(len(b)), 1), "the target's"),
        (lambda o, b, p: by_sums(o, b, set(p)), "counts twice"),
        (lambda o, b, p: 1 - by_sums(o, b, p), "share that is pruned"),
        (lambda o, b, p: total(o, b, p, 0), "divide by all weights"),
        (lambda o, b, p: 100 * by_sums(o, b, p), "not a percentage"),
        (lambda o, b, p: o[0] / o[1] + by_sums((0, 0), b, p), "cannot be added"),
        (lambda o, b, p: 0.123, "98/600"),
        (lambda o, b, p: "text", "the density is a number"),
        (lambda o, b, p: b[9], "IndexError"),
        (lambda o, b, p: (o[0], o[1]), "the density is a number"),
        (lambda o, b, p: str(by_sums(o, b, p)), "is a number; got str"),
        (sorts_the_list, "changed the lists"),
        (lambda o, b, p: by_sums(o, b, [j - 1 for j in p]), "98/600"),
        (lambda o, b, p: round(by_sums(o, b, p), 2), "98/600"),
        (lambda o, b, p: np.mean([b[j][0] / b[j][1] for j in p]), "98/600"),
    ],
    "artefact": [
        ("ab", "the artefact"),
        ("bd", "differ by the optimiser alone"),
        ("de", "any rotation"),
        ("ac", "no cosines"),
        ("bf", "no control"),
        ("ad", "one thing at a time"),
        ("cd", "one thing at a time"),
        ("cf", "meaningless basis"),
        ("b", "*two* runs"),
        ("bb", "*different* runs"),
        ("bz", "no run z"),
        (3, "two runs by their letters"),
        ("be", "one thing at a time"),
        ("af", "no cosines"),
        ("ae", "optimiser alone"),
        ("b, c and f", "*two* runs"),
        ("compare b with d", "optimiser alone"),
        (["b", None], "*two* runs"),
    ],
    "penalised_gradient": [
        (lambda g, w, k, s: g + s * w * k, "True means *kept*"),
        (lambda g, w, k, s: g + s * w, "weight decay"),
        (lambda g, w, k, s: g + s * w.sign() * ~k, "ℓ1"),
        (lambda g, w, k, s: g * k, "masks the gradient"),
        (lambda g, w, k, s: g * k + s * w * ~k, "still serve the loss"),
        (lambda g, w, k, s: g - s * w * ~k, "would grow"),
        (lambda g, w, k, s: g + 2 * s * w * ~k, "the derivative is λ · w"),
        (lambda g, w, k, s: g + s * w**2 * ~k, "derivative, not its value"),
        (lambda g, w, k, s: s * w * ~k, "gradient of the loss is missing"),
        (lambda g, w, k, s: g + w * ~k, "strength λ is missing"),
        (lambda g, w, k, s: g, "the penalty is missing"),
        (lambda g, w, k, s: g + 0.5, "the answer is"),
        (in_place, "wrote into the gradient"),
        (moves_weights, "changed the weights"),
        (lambda g, w, k, s: g.sum(), "the weight's shape"),
        (lambda g, w, k, s: g + s / 2 * w * ~k, "takes the half away"),
        (lambda g, w, k, s: g + s * w.abs() * ~k, "with its sign"),
        (lambda g, w, k, s: g + s / 2 * w**2 * ~k, "derivative, not its value"),
        (lambda g, w, k, s: (g + s * w) * ~k, "keep their gradient"),
        (lambda g, w, k, s: g + 0.7 * w * ~k, "λ = 0"),
        (opens_the_mask, "changed the mask"),
        (lambda g, w, k, s: None if s == 0 else by_where(g, w, k, s), "every branch"),
        (lambda g, w, k, s: g + s * w * -k, "`~mask` inverts"),
        (lambda g, w, k, s: g + s * w * (1 - k), "`~mask` inverts"),
        (lambda g, w, k, s: g + s * ~k, "the answer is"),
    ],
}

RIGHT = {
    "numbers_stored": [3088, 3088.0, "3,088", np.int64(3088), torch.tensor(3088)],
    "moved_density": [
        by_sums,
        by_list,
        by_tensor,
        by_fraction,
    ],
    "artefact": [
        "bc",
        "cb",
        ("b", "c"),
        ["C", "B"],
        {"b", "c"},
        "b - c",
        "b, c",
        "b and c",
        "b vs c",
        "'bc'",
        "bc.",
        "b_c",
        ["bc"],
        ("run b", "run C"),
        np.array(["b", "c"]),
        (letter for letter in "bc"),
    ],
    "penalised_gradient": [
        by_where,
        by_product,
        by_index,
        by_autograd,
        lambda g, w, k, s: by_where(g.double(), w, k, s),
        lambda g, w, k, s: by_where(g, w, k, s).tolist(),
    ],
}
