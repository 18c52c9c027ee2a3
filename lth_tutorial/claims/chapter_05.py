"""The claims of chapter 5: what is left of pruning when the weights are not inherited."""

from __future__ import annotations

from lth_tutorial.claims.rules import Claim, Effect, Setting, difference

# Live criteria were fixed before the seeds that decide were run, after a pilot with seeds 100 to
# 107; the short fine-tuning had none. The margin of half a point is that of chapters 1 and 4.

_FILTERS, _UNFAIR = "digits-filters", "digits-filters-short-tuning"
_SINGLE = "digits-single-weights"
_CNN = "16-32-32 CNN with batch norm on digits, SGD, 300 steps"
_MLP = "100-50 network on digits, SGD, 400 steps, pruned once"
_VGG, _VGG_RECORD = "VGG-16 on CIFAR-10, SGD, 160 epochs", "cifar10-vgg16-filters"
_SHORT = "VGG-16 on CIFAR-10, SGD, 5,000 steps (short protocol)"
_PAPER = "Liu et al. 2019"
_NAMES = {
    "units_l1": "fine-tuned",
    "fine_tuned": "fine-tuned",
    "fine_tune": "fine-tuned",
    "scratch_e": "Scratch-E",
    "scratch_b": "Scratch-B",
    "rewind": "ticket",
    "reinit": "re-initialised",
}


def _effect(a: str, b: str, least: float, *, round: int, label: str = "") -> Effect:
    measure = difference("accuracy", f"{label}{a}", f"{label}{b}", round=round)
    return Effect(f"accuracy: {_NAMES[a]} − {_NAMES[b]}", measure, least)


def _live(
    key: str, statement: str, source: str, record: str, network: str, where: str, *effects: Effect,
) -> Claim:  # fmt: skip
    setting = Setting(where, effects)
    return Claim(key, 5, statement, source, record, network, (setting,), live_only=True)


def _vgg(suffix: str, record: str, network: str, *, round: int) -> tuple[Claim, ...]:
    """Return the claims about VGG-16, for one protocol; in `round`, 5 % of the weights are left."""
    return (
        Claim(
            f"architecture-suffices-{suffix}", 5,
            "The pruned architecture, trained from scratch, matches the fine-tuned network.",
            f"{_PAPER}, section 4", record, network,
            tuple(
                Setting(where, (
                    _effect("scratch_b", "units_l1", -0.003, round=index, label="filters: "),
                ))
                for index, where in ((1, "70 % of the filters"), (2, "half of the filters"))
            ),
        ),
        Claim(
            f"low-rate-favours-inheritance-{suffix}", 5,
            "At a low learning rate, trained weights beat new ones under the same unstructured "
            "mask.",
            f"{_PAPER}, section 4", record, f"{network}, rate 0.01",
            (Setting("5 % of weights", (
                _effect(
                    "fine_tuned", "scratch_e", 0.003, round=round, label="weights, low rate: "
                ),
            )),),
        ),
    )  # fmt: skip


CLAIMS: tuple[Claim, ...] = (
    _live(
        "architecture-suffices",
        "Without its filters' weights, the pruned architecture trains to the accuracy of the "
        "fine-tuned network, for as many operations as the dense one took.",
        f"{_PAPER}, section 4", _FILTERS, _CNN, "a quarter of the filters",
        _effect("scratch_b", "units_l1", -0.005, round=2),
    ),
    _live(
        "as-many-epochs-suffice",
        "The same for as many steps as the dense network took.",
        f"{_PAPER}, section 4", _FILTERS, _CNN, "half of the filters",
        _effect("scratch_e", "units_l1", -0.005, round=1),
    ),
    _live(
        "short-tuning-flatters-scratch",
        "Against fine-tuning for a third of the steps at a tenth of the rate, training from "
        "scratch looks far better.",
        "a trap of this book", _UNFAIR, _CNN, "a quarter of the filters",
        _effect("scratch_e", "units_l1", 0.01, round=2),
    ),
    Claim(
        "low-rate-favours-inheritance", 5,
        "At a low learning rate, single weights that are inherited (trained, or initial) beat new "
        "ones under the same mask.",
        f"{_PAPER}, sections 4 and 6", _SINGLE, f"{_MLP}, rate 0.01",
        (Setting("6.2 % of weights", (
            _effect("fine_tune", "reinit", 0.003, round=2, label="low rate: "),
            _effect("rewind", "reinit", 0.003, round=2, label="low rate: "),
        ), "any"),),
    ),
    Claim(
        "no-ticket-at-high-rates", 5,
        "At a high learning rate, a ticket is no better than new weights under its mask.",
        f"{_PAPER}, section 6", _SINGLE, f"{_MLP}, rate 0.1",
        (Setting("6.2 % of weights", (
            Effect(
                "accuracy: ticket − re-initialised",
                difference("accuracy", "high rate: rewind", "high rate: reinit", round=2),
                0.003, "below",
            ),
        )),),
    ),
    *_vgg("vgg16", _VGG_RECORD, _VGG, round=2),
    *_vgg("vgg16-short", f"{_VGG_RECORD}-short", _SHORT, round=1),
)  # fmt: skip
