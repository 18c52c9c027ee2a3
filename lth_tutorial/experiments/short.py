"""Short protocols for CIFAR-10: minutes of a GPU beside the papers' hours.

Each answers the question of a longer experiment without the `-short`, in 5,000 to 12,000 steps, by
a cosine schedule and in bfloat16. What that changes is said where it is set. The criteria of their
claims were declared before any of them was run; a pilot with a prototype of the engine had shown
which effects such budgets can show at all.
"""

from __future__ import annotations

from dataclasses import replace

from lth_tutorial.experiments.after_pruning import RetrainingPart
from lth_tutorial.experiments.criteria import CHECKED, BeforeTrainingPart
from lth_tutorial.experiments.design import Experiment, InstabilityPart, LotteryPart
from lth_tutorial.experiments.stability import RewindingPart
from lth_tutorial.experiments.structured import StructuredPart, UnstructuredPart
from lth_tutorial.experiments.supermasks import SupermaskPart
from lth_tutorial.tickets.before_training import METHODS
from lth_tutorial.training.config import IMPConfig, TrainConfig

_SEEDS = tuple(range(3))
_SGD = TrainConfig(
    steps=7_000, batch_size=128, lr=0.1, weight_decay=1e-4, schedule="cosine", augment=True,
    precision="bf16",
)  # fmt: skip

# Noise is what makes training unstable: smaller batches, twice the usual rate, and more steps than
# the others have. With batches of 128 at rate 0.1 and 5,000 steps, tickets rewound to
# initialisation were as good as any in a pilot.
_NOISY = replace(_SGD, steps=10_000, batch_size=64, lr=0.2)
_TO_17_PERCENT = IMPConfig(rounds=4, fraction=0.36)

# Penalty times the sum of all rates is about that of the longer protocol.
_SLIMMED = replace(_SGD, steps=5_000, bn_l1=2e-3)
_PLAIN = replace(_SLIMMED, bn_l1=0.0)
_FINETUNE = replace(_PLAIN, steps=1_250, lr=1e-3, schedule="steps")
_SCRATCH = ("units_random", "scratch_e", "scratch_b")

# The papers' rates. A pilot on the CPU (Conv-2, 500 steps, seed 100) found none that was better:
# edge-popup 56 % at rate 0.1, 48 % at 0.5; binary activations 41 % at 0.1, 39 % at 0.01.
_SCORES = replace(_SGD, steps=6_000)
_DENSE = replace(_SCORES, optimizer="adam", lr=3e-4, weight_decay=0.0)
_PRIZE = replace(_SCORES, steps=5_000)
_PRIZE_DENSE = replace(_DENSE, steps=5_000)
_BINARY = replace(_PRIZE, optimizer="adam", weight_decay=0.0)
_RESNET_18 = replace(_PRIZE, weight_decay=5e-4)


def _rewound(label: str, train: TrainConfig, step: int, *arms: str) -> RewindingPart:
    chosen = {"arms": arms} if arms else {}
    return RewindingPart(
        "resnet_20", train, _TO_17_PERCENT, (step,), (0, 4), label=label, **chosen
    )  # fmt: skip


def _convolutional(model: str, steps: int, lr: float, share: float) -> LotteryPart:
    """Return a lottery with the paper's optimiser; rounds of 45 % for its rounds of 20 %."""
    layers = int(model.removeprefix("conv_"))
    shares = {f"conv{i}.weight": share for i in range(1, layers + 1)}
    shares |= {"fc1.weight": 0.45, "fc2.weight": 0.45, "output.weight": 0.25}
    train = TrainConfig(
        steps=steps, batch_size=60, optimizer="adam", lr=lr, eval_every=200, precision="bf16"
    )
    imp = IMPConfig(rounds=5, fraction=shares, scope="layer")
    return LotteryPart(model, train, imp, ("ticket", "reinit"), label=model)


EXPERIMENTS = (
    Experiment(
        name="cifar10-resnet20-instability-short",
        chapter=6,
        question="From which step on is ResNet-20 on CIFAR-10 stable, in 7,000 steps?",
        dataset="cifar10",
        seeds=_SEEDS,
        parts=(InstabilityPart("resnet_20", _SGD, (0, 50, 200, 500, 1_500)),),
    ),
    Experiment(
        name="cifar10-multi-prize-short",
        chapter=12,
        question="What do one-bit weights and activations cost untrained networks on CIFAR-10?",
        dataset="cifar10",
        seeds=_SEEDS,
        parts=(
            *(
                SupermaskPart(
                    name, _PRIZE, _PRIZE_DENSE, ("edge_popup", "biprop"), (0.5,), "kaiming_normal",
                    False, label=name,
                )
                for name in ("conv_6", "conv_4", "conv_2")
            ),
            *(
                SupermaskPart(
                    name, _BINARY, _PRIZE_DENSE, ("biprop_1_1", "biprop_1_1_norm"), (0.5,),
                    "kaiming_normal", False, True, label=f"{name}, batch norm",
                )
                for name in ("conv_6", "conv_4", "conv_2")
            ),
            SupermaskPart(
                "resnet_18", _RESNET_18, _RESNET_18, ("biprop", "biprop_norm"), (0.2,),
                "kaiming_normal", False, label="resnet_18",
            ),
            SupermaskPart(
                "vgg_small", _BINARY, _PRIZE_DENSE, ("biprop_1_1", "biprop_1_1_norm"), (0.25,),
                "kaiming_normal", False, label="vgg_small",
            ),
        ),
    ),
    Experiment(
        name="cifar10-edge-popup-short",
        chapter=10,
        question="How good are untrained convolutional networks, by depth and by density?",
        dataset="cifar10",
        seeds=_SEEDS,
        parts=tuple(
            SupermaskPart(
                name, _SCORES, _DENSE, label=name,
                keeps=(0.5, 0.1, 0.3, 0.7, 0.9) if name == "conv_4" else (0.5,),
            )
            for name in ("conv_4", "conv_6", "conv_2", "conv_8")
        ),
    ),
    Experiment(
        name="cifar10-resnet20-rewinding-short",
        chapter=6,
        question="Does rewinding make sparse ResNet-20 stable and accurate, in 10,000 steps?",
        dataset="cifar10",
        seeds=_SEEDS,
        # A part for each rewind step, so that each can be run alone.
        parts=(
            _rewound("step 0", _NOISY, 0),
            _rewound("step 2,000", _NOISY, 2_000),
            _rewound("low rate", replace(_NOISY, lr=0.01), 0, "ticket", "reinit"),
            _rewound(
                "warm-up", replace(_NOISY, lr=0.06, warmup_steps=5_000), 0, "ticket", "reinit"
            ),
            _rewound("step 500", _NOISY, 500),
        ),
    ),
    Experiment(
        name="cifar10-resnet20-after-pruning-short",
        chapter=7,
        question="Fine-tune, or rewind weights or rate, of a pruned ResNet-20, in 6,300 steps?",
        dataset="cifar10",
        seeds=_SEEDS,
        parts=(
            # The longer protocol's rewind steps, divided by ten.
            RetrainingPart(
                "resnet_20", replace(_SGD, steps=6_300), IMPConfig(rounds=3, fraction=0.55),
                (200, 3_150, 5_000), iterative=False,
            ),
        ),
    ),
    Experiment(
        name="cifar10-conv-imp-short",
        chapter=4,
        question="Do convolutional tickets generalise better, for Conv-2, Conv-4 and Conv-6?",
        dataset="cifar10",
        seeds=_SEEDS,
        # Not augmented and at a constant rate, as in the paper: tickets are judged at early
        # stopping, which needs a network that can overfit.
        parts=(
            _convolutional("conv_2", 8_000, 2e-4, 0.25),
            _convolutional("conv_4", 10_000, 3e-4, 0.25),
            _convolutional("conv_6", 12_000, 3e-4, 0.35),
        ),
    ),
    Experiment(
        name="cifar10-vgg16-filters-short",
        chapter=5,
        question="Does a small VGG-16 need the large one's weights, or its shape, in 5,000 steps?",
        dataset="cifar10",
        seeds=_SEEDS,
        parts=(
            StructuredPart(
                "vgg_16", _PLAIN, _FINETUNE, (0.3, 0.5), ("units_l1", *_SCRATCH), label="filters"
            ),
            UnstructuredPart(
                "vgg_16", replace(_PLAIN, lr=0.01), _FINETUNE, (0.95,), label="weights, low rate"
            ),
            UnstructuredPart("vgg_16", _PLAIN, _FINETUNE, (0.95,), label="weights, high rate"),
        ),
    ),
    Experiment(
        name="cifar10-slimming-short",
        chapter=3,
        question="Does an ℓ1 penalty on batch norm's scales make channels that can go?",
        dataset="cifar10",
        seeds=_SEEDS,
        parts=(
            StructuredPart(
                "vgg_16", _SLIMMED, _FINETUNE, (0.4, 0.7), ("units_bn_scale", *_SCRATCH),
                scope="global", label="slimming",
            ),
            StructuredPart(
                "vgg_16", _PLAIN, _FINETUNE, (0.4, 0.7), ("units_bn_scale", "units_random"),
                scope="global", label="no penalty",
            ),
        ),
    ),
    Experiment(
        name="cifar10-pruning-at-init-short",
        chapter=8,
        question="What do masks that are drawn before training know, of ResNet-20 on CIFAR-10?",
        dataset="cifar10",
        seeds=_SEEDS,
        parts=(
            # Not "magnitude", and "grasp" only where it is to be better: for the time.
            BeforeTrainingPart(
                "resnet_20", replace(_SGD, steps=5_000), (0.1, 0.05),
                tuple(arm for arm in CHECKED if arm not in ("magnitude", "grasp")), label="checks",
            ),
            BeforeTrainingPart(
                "resnet_20", replace(_SGD, steps=5_000), (0.02,),
                tuple(arm for arm in METHODS if arm != "magnitude"), label="sparse",
            ),
        ),
    ),
)  # fmt: skip
