"""Training under a mask, alone or many replicates at once, in a way that survives being killed.

Read `config` (the settings), then `loop` (the training itself) and `steps` (one step of it).
`groups` says when several networks train as one stack, `branches` how a GPU trains those of any
kind side by side, `plan` where it finds its batches, `precision` how it rounds. `replicates` trains
many seeds, `workers` in processes, and `failures` says what happens when memory or a device is
lost. `checkpoints` and `progress` are the files from which a killed run continues to the same bits,
and `identity` says whose a folder is; `checks` looks at everything before the first step,
`evaluation` measures, `outcome` is what a run leaves behind, and `attacks` are those of adversarial
training. Every chapter trains through this room.
"""

from lth_tutorial.training.attacks import (
    Attack,
    AttackWarning,
    adversarial_examples,
    fgsm,
    pgd,
)
from lth_tutorial.training.config import (
    IMPConfig,
    Removal,
    TrainConfig,
    learning_rate,
)
from lth_tutorial.training.evaluation import (
    evaluate,
)
from lth_tutorial.training.failures import (
    MemoryWarning,
)
from lth_tutorial.training.identity import DamagedFileWarning, VersionWarning
from lth_tutorial.training.loop import (
    train,
)
from lth_tutorial.training.outcome import (
    DivergenceWarning,
    Metrics,
    TrainResult,
)
from lth_tutorial.training.replicates import (
    train_replicates,
)
from lth_tutorial.training.steps import Step as Step

__all__ = [
    "TrainConfig",
    "IMPConfig",
    "Removal",
    "learning_rate",
    "TrainResult",
    "Metrics",
    "DivergenceWarning",
    "MemoryWarning",
    "DamagedFileWarning",
    "VersionWarning",
    "evaluate",
    "train",
    "train_replicates",
    "Attack",
    "AttackWarning",
    "fgsm",
    "pgd",
    "adversarial_examples",
]
