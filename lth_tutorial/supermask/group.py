"""What the training loop trains when it looks for supermasks: scores instead of weights.

`training.fit` trains the parameters of a *group*. This one wraps the group of a network (or of a
stack of them), shows the loop its scores as parameters, and puts the effective weights into the
network at each forward pass. The frozen weights are never handed to an optimiser.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lth_tutorial.data.dataset import generator_for
from lth_tutorial.supermask.design import SupermaskConfig, batch_norm_parameters
from lth_tutorial.supermask.frozen import draw_scores, maskable_weights
from lth_tutorial.supermask.weights import (
    Sampled,
    StraightThrough,
    choose_masks,
    gains,
    rescaling,
    signs,
)
from lth_tutorial.training.groups import SingleModel, Stack

SCORE = "score of "


class MaskedGroup:
    """Networks with frozen weights, and trained scores that choose among them."""

    def __init__(
        self, models: Sequence[nn.Module], design: SupermaskConfig, steps: int, seeds: Sequence[int]
    ) -> None:
        """Take networks that `can_stack`, or a single one; one seed of the scores for each."""
        stacked = len(models) > 1
        self.inner = Stack(models) if stacked else SingleModel(models[0])
        self.models, self.size, self.design, self.steps = models, len(models), design, steps
        # Sampled masks come from generators of their own: only the network's layers may be random.
        self.seeds, self.training, self.is_random = seeds, True, self.inner.is_random
        reads_numbers = design.method == "sampled" or bool(design.anneal)
        self.is_recordable = self.inner.is_recordable and not reads_numbers
        own = self.inner.tensors if stacked else dict(models[0].state_dict())
        self.tensors = {
            name: (t if stacked else t[None]).detach().clone() for name, t in own.items()
        }
        names = list(maskable_weights(models[0]))
        self.frozen = {name: self.tensors.pop(name) for name in names}
        self.values, self.magnitudes = dict(self.frozen), {}
        if design.binary:
            self.values = {name: signs(weight) for name, weight in self.frozen.items()}
            self.magnitudes = {name: weight.abs() for name, weight in self.frozen.items()}
        drawn = [
            draw_scores(maskable_weights(model), None if design.method == "sampled" else seed)
            for model, seed in zip(models, seeds, strict=True)
        ]
        self.scores = {
            name: torch.stack([each[name] for each in drawn]).requires_grad_() for name in names
        }
        learned = batch_norm_parameters(models[0]) if design.learn_batchnorm else []
        for name in learned:
            self.tensors[name].requires_grad_()
        self.parameters = {f"{SCORE}{name}": score for name, score in self.scores.items()}
        self.parameters |= {name: self.tensors[name] for name in learned}
        device = next(iter(self.scores.values())).device
        self.done = torch.zeros(self.size, dtype=torch.int64, device=device)  # steps

    def set_training(self, training: bool) -> None:
        """Switch between training and evaluation behaviour."""
        self.training = training
        self.inner.set_training(training)

    def restore_modes(self) -> None:
        """Put every module back into the mode in which it arrived."""
        self.inner.restore_modes()

    def logits(self, x: Tensor) -> Tensor:
        """Map [replicates, batch, …] to [replicates, batch, classes] with the effective weights."""
        with torch.autocast(x.device.type, enabled=False):  # gains are sums over many weights
            effective = self.weights()
        if self.training:
            self.done += 1
        tensors = self.tensors | effective
        if isinstance(self.inner, Stack):
            self.inner.parameters, self.inner.buffers = tensors, tensors
            return self.inner.logits(x)
        # Not t[0]: backward, indexing writes a tensor of zeros first.
        tensors = {name: tensor.squeeze(0) for name, tensor in tensors.items()}
        return functional_call(self.models[0], tensors, (x[0],))[None]

    def weights(self) -> dict[str, Tensor]:
        """Return the effective weights, through which gradients reach the scores."""
        masks = self.masks()
        effective = {}
        for name, score in self.scores.items():
            values = self.values[name]
            mask = masks[name].to(score.dtype)  # products with booleans are slow
            factor = self.factor(name, mask)
            if self.design.method == "sampled":
                effective[name] = Sampled.apply(score, mask, values, factor)
            else:
                weight = self.frozen[name]
                effective[name] = StraightThrough.apply(score, mask, weight, values, factor)
        return effective

    def factor(self, name: str, mask: Tensor) -> Tensor | None:
        """Return what the kept values of a layer are multiplied by, if by anything."""
        factor = gains(self.magnitudes[name], mask) if self.design.binary else None
        if self.design.rescale:
            factor = rescaling(mask) * (1 if factor is None else factor)
        return factor

    @torch.no_grad()
    def masks(self) -> dict[str, Tensor]:
        """Return the masks at the present step, booleans [replicates, …]; the same ones each time.

        Sampled masks are drawn for evaluation too, as by Zhou et al.: scores are trained for such
        masks. Cutting at one half instead cost LeNet-300-100 on MNIST 10 to 40 points (seed 100).
        """
        if self.design.method != "sampled":
            # Reading a number stalls a GPU: only where the density changes.
            step = int(self.done[0]) if self.design.anneal else self.steps
            keep = self.design.density(step, self.steps)
            return choose_masks(self.scores, keep, self.design.scope)
        return {
            name: self._uniform(i, score) < score.sigmoid()
            for i, (name, score) in enumerate(self.scores.items())
        }

    def _uniform(self, layer: int, like: Tensor) -> Tensor:
        """Return numbers in [0, 1), each replicate's from a generator of its own."""
        drawn = [
            torch.rand(like.shape[1:], generator=generator_for("sampled mask", seed, step, layer))
            for seed, step in zip(self.seeds, self.done.tolist(), strict=True)
        ]
        return torch.stack(drawn).to(like.device)

    def combine(self, tensors: Sequence[Tensor]) -> Tensor:
        """Arrange one tensor per replicate like the parameters."""
        return torch.stack(list(tensors))

    def state(self) -> dict[str, Tensor]:
        """Return live views of all that training changes, the replicate dimension first."""
        scores = {f"{SCORE}{name}": score.detach() for name, score in self.scores.items()}
        rest = {name: tensor.detach() for name, tensor in self.tensors.items()}
        return scores | rest | {"steps done": self.done}

    def write_back(self) -> None:
        """Nothing to do: the models keep the weights with which they arrived."""
