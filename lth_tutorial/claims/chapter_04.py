"""The claims of chapter 4: winning tickets."""

from __future__ import annotations

from lth_tutorial.claims.rules import Claim, Effect, Setting, difference

# Live criteria were fixed after a pilot with seeds 100 to 115, before the seeds that decide were
# run. They differ from the full-scale ones where the small setting cannot resolve those: one test
# image of the digits is 0.2 points, and the step of minimum validation loss scatters widely over
# 300 validation images, so speed is measured by the steps to 95 % there.

_LIVE = "100-50 network on digits, Adam, 600 steps"
_LENET = "LeNet-300-100 on MNIST, Adam, 50,000 steps"
_PAPER = "Frankle & Carbin 2019"
_NAMES = {"reinit": "re-initialised", "one_shot": "one-shot"}


def _ticket_minus(other: str, round: int, threshold: float) -> Effect:
    measure = difference("accuracy", "ticket", other, round=round)
    return Effect(f"accuracy: ticket − {_NAMES.get(other, other)}", measure, threshold)


def _sooner(metric: str, slow: str, round: int, factor: float = 1.0, part: str = "") -> Effect:
    words = metric.replace("_", " ").replace("steps to 95", "steps to 95 %")
    times = "" if factor == 1 else f"{factor:g} · "
    other = slow if slow == "dense" else f"{part}{slow}"
    measure = difference(metric, other, f"{part}ticket", round=round, factor=factor)
    return Effect(f"{words}: {_NAMES.get(slow, slow)} − {times}ticket", measure, 0.0, unit="steps")


def _inverted_u(middle: int, last: int) -> tuple[Effect, ...]:
    # A rise at one declared density and a fall at the end. Where the curve has its maximum is no
    # criterion: with noise in every round, the maximum of a falling curve lies inside as well.
    return (
        _ticket_minus("dense", middle, 0.0),
        Effect(
            "accuracy: dense − sparsest ticket",
            difference("accuracy", "dense", "ticket", round=last),
            0.0,
        ),
    )


_CONVOLUTIONAL = (
    "Tickets of a convolutional network generalise better than the dense network, and sooner."
)


def _generalises(name: str, part: str, round: int) -> Setting:
    return Setting(name, (
        Effect(
            "accuracy at early stopping: ticket − dense",
            difference("early_stop_accuracy", f"{part}ticket", "dense", round=round), 0.01,
        ),
        _sooner("early_stop_step", "dense", round, part=part),
    ))  # fmt: skip


def _both(
    key: str, statement: str, section: str, *, live: Setting, mnist: Setting
) -> tuple[Claim, Claim]:
    """Return a claim of the paper twice: on the digits, and on MNIST by the paper's protocol."""
    source = f"{_PAPER}, {section}"
    return (
        Claim(key, 4, statement, source, "digits-winning-tickets", _LIVE, (live,)),
        Claim(
            f"{key}-mnist", 4, statement, source, "mnist-lenet-imp", _LENET, (mnist,), minimum_n=5
        ),
    )


CLAIMS: tuple[Claim, ...] = (
    *_both(
        "tickets-match",
        "A sparse subnetwork, trained from its own initial weights, matches the dense network and "
        "learns no later.",
        "sections 1 and 2",
        live=Setting("26 % of weights", (
            _ticket_minus("dense", 2, -0.005), _sooner("steps_to_95", "dense", 2),
        )),
        mnist=Setting("21 % of weights", (
            _ticket_minus("dense", 7, -0.001), _sooner("early_stop_step", "dense", 7),
        )),
    ),
    *_both(
        "initialisation-matters",
        "With other initial weights, the same mask is less accurate or learns later.",
        "section 2",
        live=Setting("26 % of weights", (
            _ticket_minus("reinit", 2, 0.003), _sooner("steps_to_95", "reinit", 2, 1.5),
        ), "any"),
        mnist=Setting("21 % of weights", (
            _ticket_minus("reinit", 7, 0.003), _sooner("early_stop_step", "reinit", 7, 1.5),
        ), "any"),
    ),
    *_both(
        "mask-matters",
        "It matters which weights survive, not only how many in each layer.",
        "section 2",
        live=Setting("4.0 % of weights", (_ticket_minus("random", 5, 0.005),)),
        mnist=Setting("3.6 % of weights", (_ticket_minus("random", 15, 0.005),)),
    ),
    *_both(
        "inverted-u",
        "Accuracy first rises and then falls as weights are removed.",
        "section 2",
        live=Setting("51 and 2.2 % of weights", _inverted_u(1, 6)),
        mnist=Setting("51 and 1.2 % of weights", _inverted_u(3, 20)),
    ),
    *_both(
        "iterative-beats-one-shot",
        "Pruning little by little finds better tickets than pruning once.",
        "section 2",
        live=Setting("4.0 % of weights", (_ticket_minus("one_shot", 5, 0.003),)),
        mnist=Setting("3.6 % of weights", (_ticket_minus("one_shot", 15, 0.003),)),
    ),
    Claim(
        "convolutional-tickets", 4, _CONVOLUTIONAL, f"{_PAPER}, section 3", "cifar10-conv2-imp",
        "Conv-2 on CIFAR-10, Adam, 20,000 steps", (_generalises("8.8 % of weights", "", 11),),
    ),
    # The share is the paper's best; rounds of 45 % reach it in four. Without a pilot.
    Claim(
        "convolutional-tickets-short", 4, _CONVOLUTIONAL, f"{_PAPER}, section 3",
        "cifar10-conv-imp-short",
        "Conv-N on CIFAR-10, Adam, 8,000 to 12,000 steps (short protocol)",
        tuple(
            _generalises(f"Conv-{depth}, after four rounds of 45 %", f"conv_{depth}: ", 4)
            for depth in (2, 4, 6)
        ),
    ),
    Claim(
        "masks-know", 4,
        "A ticket's mask alone lifts the untrained network far above chance.",
        "Zhou et al. 2019, section 5", "digits-winning-tickets", _LIVE,
        (Setting("26 % of weights", (
            Effect(
                "accuracy before training: ticket − random",
                difference("start_accuracy", "ticket", "random", round=2), 0.20,
            ),
        )),),
    ),
)  # fmt: skip
