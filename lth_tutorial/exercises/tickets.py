"""In code: the start weights of a ticket, and the mask of its control (chapter 04)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lth_tutorial.exercises.outcome import (
    Check,
    NothingDone,
    NothingReturned,
    ReaderError,
    guarded,
    mask_problem,
)
from lth_tutorial.pruning.masks import Mask
from lth_tutorial.states import State


def rewind(fn: Callable[[nn.Module, State, Mask], None] | None = None) -> Check:
    """Check a function `fn(model, start, mask)` that rewinds the model in place.

    Afterwards its weights are those of the snapshot `start` where the mask keeps them and zero
    elsewhere, its biases those of the snapshot. `start` stays what it was, whatever happens to the
    model later.
    """

    def check(call: Callable) -> str | None:
        generator = torch.Generator().manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        original = _copy(model.state_dict())
        mask = {
            name: torch.rand(w.shape, generator=generator) < 0.6
            for name, w in original.items()
            if w.ndim == 2
        }
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        trained, start, given = _copy(model.state_dict()), _copy(original), _copy(mask)
        try:
            returned = call(model, start, given)
        except ReaderError as error:
            if isinstance(error.__cause__, KeyError) and "bias" in str(error.__cause__):
                return "biases have no mask, because they are never pruned: rewind them without one"
            raise
        if set(given) != set(mask) or any(not torch.equal(given[n], mask[n]) for n in mask):
            return "your function changed the mask: rewinding only reads it"
        changed = _first_difference("start", start, original)
        if set(start) > set(original):
            changed = "it has another entry now"
        if changed:
            return (
                "rewinding must leave the snapshot as it was, the next round needs it again: "
                f"{changed}"
            )
        now = model.state_dict()
        if returned is None and all(torch.equal(now[name], trained[name]) for name in now):
            raise NothingDone
        problem = _rewinding_problem(model, original, trained, mask)
        if problem:
            return problem
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        changed = _first_difference("start", start, original)
        if changed:
            return (
                "the snapshot is aliased: the model shares its memory, so training the model "
                f"rewrites the snapshot. Copy the values. After one step {changed}"
            )
        return None

    return guarded(fn, check, "weights and biases rewound under the mask, the snapshot untouched")


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _first_difference(what: str, got: State, expected: State) -> str | None:
    """Return "what[name][index] is …, not …" for the first number that differs, if any does."""
    for name, tensor in expected.items():
        if name not in got:
            return f"{what}[{name!r}] is gone"
        if got[name].shape != tensor.shape:
            return f"{what}[{name!r}] has shape {tuple(got[name].shape)}, not {tuple(tensor.shape)}"
        wrong = (got[name].detach() != tensor).nonzero()
        if len(wrong):
            at = tuple(wrong[0].tolist())
            place = ", ".join(map(str, at))
            return f"{what}[{name!r}][{place}] is {got[name][at]:.6g}, not {tensor[at]:.6g}"
    return None


def _rewinding_problem(model: nn.Module, start: State, trained: State, mask: Mask) -> str | None:
    now = _copy(model.state_dict())
    expected = {n: torch.where(mask[n], t, 0.0) if n in mask else t for n, t in start.items()}
    weights = {name: expected[name] for name in mask}
    biases = {name: tensor for name, tensor in expected.items() if name not in mask}
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    wrong_weight = _first_difference("model.state_dict()", now, weights)
    wrong_bias = _first_difference("model.state_dict()", now, biases)
    if wrong_weight:
        if all(torch.equal(now[name], trained[name]) for name in now):
            idea = (
                "the model that was passed in is unchanged: load the snapshot into it in place, "
                "rather than returning a state or another model"
            )
        elif all(torch.equal(now[n], torch.where(m, trained[n], 0.0)) for n, m in mask.items()):
            idea = "the weights are masked but still the trained ones: rewind them to the snapshot"
        elif all(
            torch.equal(now[n], torch.where(m, start[n], trained[n])) for n, m in mask.items()
        ):
            idea = "the pruned weights must be zero, but they keep what training made of them"
        elif all(torch.equal(now[name], start[name]) for name in mask):
            idea = "the mask was not applied: pruned weights must be zero after rewinding"
        elif all(torch.equal(now[n], torch.where(m, 0.0, start[n])) for n, m in mask.items()):
            idea = "True means *kept*: you set the kept weights to zero"
        else:
            idea = "the kept weights return to their values in the snapshot, the others are zero"
        return f"{idea}. {wrong_weight}"
    if wrong_bias:
        idea = "biases are never pruned, but they are rewound with the weights"
        return f"{idea}. {wrong_bias}"
    other = next((name for name, tensor in now.items() if tensor.dtype != start[name].dtype), None)
    if other:
        return f"{other} has another type of numbers now, {now[other].dtype}: copy values only"
    if frozen:
        return f"the ticket is trained next, but {frozen[0]} no longer requires gradients"
    return None


def control(fn: Callable[[Mask, int], Mask] | None = None) -> Check:
    """Check a function `fn(mask, seed)` that returns a random mask, the control for a ticket's.

    It keeps as many weights in every layer as the given mask and depends on nothing but the seed.
    """
    block = torch.zeros(6, 5, dtype=torch.bool)
    block[:2] = True
    sparse = torch.zeros(4, 6, dtype=torch.bool)
    sparse[:3, :3] = True  # another density than the first layer's: each has its own count
    mask = {"hidden.weight": block, "output.weight": sparse}

    def check(call: Callable) -> str | None:
        drawn = []
        for seed in range(6):
            given = _copy(mask)
            new = call(given, seed)
            if set(given) != set(mask) or not _equal(given, mask):
                return "your function changed the mask it was given: return a new one"
            problem = _control_problem(new, mask)
            if problem:
                return problem
            drawn.append(_copy(new))
        if all(_equal(new, mask) for new in drawn):
            return (
                "the control is the ticket's own mask: it must keep *other* weights, or it cannot "
                "tell whether the choice of weights matters"
            )
        if any(_equal(a, b) for a, b in itertools.combinations(drawn, 2)):
            return (
                "different seeds give the same mask (tried 0 to 5): then eight replicates are one, "
                "and no interval means anything. Draw with a generator seeded by `seed`"
            )
        for name, kept in mask.items():
            if all(torch.equal(new[name], drawn[0][name]) for new in drawn):
                return f"{name} is the same in every draw: *every* layer is drawn anew"
            if not any((new[name] & kept).any() for new in drawn):
                return (
                    f"in no draw does {name} keep a weight that the ticket keeps: a random mask is "
                    f"drawn from *all* entries, and meets some of them by chance"
                )
        if not _equal(call(_copy(mask), 3), drawn[3]):
            return (
                "the same seed must give the same mask (called twice with seed 3, the masks "
                "differ): otherwise nobody can repeat the experiment. Use a generator seeded by "
                "`seed`"
            )
        for name, kept in mask.items():
            for axis, unit in ((1, "output"), (0, "input")):
                counts = kept.sum(axis).sort().values
                if all(torch.equal(new[name].sum(axis).sort().values, counts) for new in drawn):
                    return (
                        f"weights, not neurons, are shuffled: in every draw the {unit} neurons of "
                        f"{name} keep {counts.tolist()} weights as before, so the structure of the "
                        f"ticket survives. Shuffle all entries of a layer"
                    )
        return None

    return guarded(fn, check, "as many weights in every layer, drawn anew by each seed")


def _equal(a: Mask, b: Mask) -> bool:
    return all(torch.equal(a[name], b[name]) for name in b)


def _control_problem(new: Any, mask: Mask) -> str | None:
    if new is None:
        raise NothingReturned
    if not isinstance(new, dict) or set(new) != set(mask):
        got = sorted(new) if isinstance(new, dict) else type(new).__name__
        return f"a mask is a dictionary with an entry for every layer, {sorted(mask)}; got {got}"
    for name, kept in mask.items():
        problem = mask_problem(new[name], kept, one_of_several=True)
        if problem:
            return f"{name}: {problem}"
    wanted = {name: int(kept.sum()) for name, kept in mask.items()}
    got = {name: int(kept.sum()) for name, kept in new.items()}
    for name, n in wanted.items():
        if got[name] == n:
            continue
        if got == {name: m.numel() - wanted[name] for name, m in mask.items()}:
            return f"True means *kept*: {name} keeps {got[name]} weights instead of {n}"
        if sum(got.values()) == sum(wanted.values()):
            return (
                "the count must be right in *every layer*, not only in total: how many weights a "
                f"layer keeps matters by itself. {name} keeps {got[name]} weights instead of {n}"
            )
        return (
            "the count must be exact, not right on average: otherwise the control differs in "
            f"density too. {name} keeps {got[name]} weights instead of {n}"
        )
    return None
