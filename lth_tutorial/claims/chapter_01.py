"""The claims of chapter 1: pruning and fine-tuning."""

from __future__ import annotations

from lth_tutorial.claims.rules import Claim, Effect, Setting, difference

# The criteria were fixed after a pilot with seeds 100 to 111, before the seeds that decide were
# run. The margin of 0.5 points is the one by which chapter 4 judges matching on the digits.

_RECORD = "digits-fine-tuning"
_SETTING = "100-50 network on digits, Adam, 600 steps, then 300 steps of fine-tuning per round"
_PAPER = "Han et al. 2015"
_NAMES = {
    "fine_tuned": "pruned in rounds",
    "one_shot": "pruned once",
    "no_retraining": "not retrained",
}


def _claim(
    key: str, statement: str, source: str, a: str, b: str, round: int, density: str, at_least: float
) -> Claim:
    """Return a claim about one paired difference of accuracies at one density."""
    name = f"accuracy: {_NAMES.get(a, a)} − {_NAMES.get(b, b)}"
    effect = Effect(name, difference("accuracy", a, b, round=round), at_least)
    setting = Setting(f"{density} of weights", (effect,))
    return Claim(key, 1, statement, source, _RECORD, _SETTING, (setting,), live_only=True)


CLAIMS: tuple[Claim, ...] = (
    _claim(
        "most-weights-can-go",
        "Most weights can be removed without loss of accuracy, if the rest is fine-tuned.",
        _PAPER, "fine_tuned", "dense", 2, "25 %", -0.005,
    ),
    _claim(
        "retraining-matters",
        "Without fine-tuning, the same pruning costs much accuracy.",
        _PAPER, "one_shot", "no_retraining", 3, "12.5 %", 0.05,
    ),
    _claim(
        "in-rounds-beats-once",
        "Pruning in rounds goes further than pruning once, for as many steps of fine-tuning.",
        _PAPER, "fine_tuned", "one_shot", 5, "3.1 %", 0.003,
    ),
    _claim(
        "magnitude-beats-chance",
        "Small weights are the ones to remove: a random choice of as many per layer is worse.",
        "a control of this book", "fine_tuned", "random", 3, "12.5 %", 0.005,
    ),
)  # fmt: skip
