"""Networks by name, initialised from a seed, and the layers that chapters put into them.

`build` gives a network by its name and draws its weights; `architectures` has the fully connected
and convolutional ones of the papers, `transformer` a small vision transformer. `layers` turns a
network into one with batch norm or with one-bit activations (chapter 12). Nothing in the package
needs these networks: every function takes any `torch.nn.Module`. What that means is decided here:
`weights` says which tensors can be pruned (`uses` asks a forward pass that nobody knows,
`parametrized` and `in_basis` know what weights are computed from), `initialization` draws them
anew, `calls` says what a forward pass must return, and `first_pass` whether it does.
"""

from lth_tutorial.networks.architectures import (
    mlp,
)
from lth_tutorial.networks.build import (
    build_model,
)
from lth_tutorial.networks.initialization import (
    InitializationWarning,
    reinitialize,
)
from lth_tutorial.networks.layers import (
    SignActivation,
    with_batch_norm,
    with_sign_activations,
)
from lth_tutorial.networks.weights import (
    LeftOutWarning,
    LostZerosWarning,
)

__all__ = [
    "build_model",
    "reinitialize",
    "InitializationWarning",
    "LeftOutWarning",
    "LostZerosWarning",
    "mlp",
    "SignActivation",
    "with_batch_norm",
    "with_sign_activations",
]
