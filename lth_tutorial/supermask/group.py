"""What the training loop trains when it looks for supermasks: scores instead of weights.

`training.loop.fit` trains the parameters of a *group*. This one holds networks (as a stack, or side
by side), shows the loop its scores as parameters, and puts the effective weights into the networks
at each forward pass. The frozen weights are never handed to an optimiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from lth_tutorial.data.dataset import generator_for
from lth_tutorial.networks.calls import call_with
from lth_tutorial.pruning import radix
from lth_tutorial.pruning.radix import Highest
from lth_tutorial.states import tensors_of
from lth_tutorial.supermask.design import SupermaskConfig, batch_norm_parameters
from lth_tutorial.supermask.frozen import draw_scores, maskable_weights
from lth_tutorial.supermask.weights import (
    Sampled,
    StraightThrough,
    choose_masks,
    gains,
    rescaling,
    selector,
    signs,
)
from lth_tutorial.training.branches import ONE_BY_ONE, Lanes, in_order
from lth_tutorial.training.groups import SingleModel, Stack, can_stack

SCORE = "score of "


class MaskedGroup:
    """Networks with frozen weights, and trained scores that choose among them."""

    def __init__(
        self, models: Sequence[nn.Module], design: SupermaskConfig, steps: int,
        seeds: Sequence[int], *, channels_last: bool = False,
    ) -> None:  # fmt: skip
        """Take networks of one structure, several of them as a stack if they `can_stack`, else side
        by side; one seed of the scores for each."""
        stacked = len(models) > 1 and can_stack(models)
        self.stack = Stack(models) if stacked else None
        self.singles = [] if stacked else [SingleModel(model) for model in models]
        self.models, self.size, self.design, self.steps = models, len(models), design, steps
        self.channels_last = channels_last and not stacked
        # Sampled masks come from generators of their own: only the network's layers may be random.
        self.seeds, self.training = seeds, True
        self.is_random = any(single.is_random for single in self.singles)
        reads_numbers = design.method == "sampled" or bool(design.anneal)
        self.is_recordable = not (self.is_random or reads_numbers)
        states = [tensors_of(model) for model in models]
        self.tensors = {
            name: torch.stack([state[name].detach() for state in states]) for name in states[0]
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
        # All scores lie side by side, so that a GPU can rank them without gathering them first.
        self.all_scores = torch.cat([torch.stack([d[n] for d in drawn]).flatten() for n in names])
        self.scores = {
            name: part.view(len(models), *drawn[0][name].shape).requires_grad_()
            for name, part in zip(names, self._parts(self.all_scores), strict=True)
        }
        learned = batch_norm_parameters(models[0]) if design.learn_batchnorm else []
        for name in learned:
            self.tensors[name].requires_grad_()
        self.parameters = {f"{SCORE}{name}": score for name, score in self.scores.items()}
        self.parameters |= {name: self.tensors[name] for name in learned}
        device = self.all_scores.device
        self.lanes = Lanes(self.size, device)
        self.highest: Highest | None = None
        self.done = torch.zeros(self.size, dtype=torch.int64, device=device)  # steps

    def _parts(self, flat: Tensor) -> list[Tensor]:
        """Return the parts of a vector that belong to the layers."""
        return list(flat.split([weight.numel() for weight in self.frozen.values()]))

    def set_training(self, training: bool) -> None:
        """Switch between training and evaluation behaviour."""
        self.training = training
        for group in self._groups():
            group.set_training(training)

    def restore_modes(self) -> None:
        """Put every module back into the mode in which it arrived."""
        for group in self._groups():
            group.restore_modes()

    def _groups(self) -> list[SingleModel | Stack]:
        return self.singles if self.stack is None else [self.stack]

    def logits(self, x: Tensor) -> Tensor:
        """Map [replicates, batch, …] to [replicates, batch, classes] with the effective weights."""
        with torch.autocast(x.device.type, enabled=False):  # gains are sums over many weights
            effective = self.weights()
        if self.training:
            self.done += 1
        tensors = self.tensors | effective
        if self.stack is not None:
            self.stack.parameters, self.stack.buffers = tensors, tensors
            return self.stack.logits(x)
        own = {name: _each(tensor) for name, tensor in tensors.items()}
        lanes = self.lanes if torch.is_grad_enabled() else ONE_BY_ONE
        calls = [partial(self._one, own, x, i) for i in range(self.size)]
        return torch.cat(lanes(calls, [x, *effective.values()]))

    def _one(self, tensors: dict[str, Sequence[Tensor]], x: Tensor, i: int) -> Tensor:
        own = {name: each[i] for name, each in tensors.items()}
        batch = in_order(x[i], channels_last=self.channels_last)
        return call_with(self.models[i], own, batch)[None]

    def weights(self) -> dict[str, Tensor]:
        """Return the effective weights, through which gradients reach the scores."""
        masks = self.masks(torch.float32)  # products with booleans are slow
        effective = {}
        for name, score in self.scores.items():
            values = self.values[name]
            mask = masks[name].to(score.dtype)
            factor = self.factor(name, mask)
            if self.design.method == "sampled":
                effective[name] = Sampled.apply(score, mask, values, factor)
            else:
                weight = self.frozen[name]
                effective[name] = StraightThrough.apply(score, mask, weight, values, factor)
        return effective

    def factor(self, name: str, mask: Tensor) -> Tensor | None:
        """Return what the kept values of a layer are multiplied by, if by anything."""
        factor = self._gains(self.magnitudes[name], mask) if self.design.binary else None
        if self.design.rescale:
            factor = rescaling(mask) * (1 if factor is None else factor)
        return factor

    def _gains(self, magnitude: Tensor, mask: Tensor) -> Tensor:
        if self.stack is not None or magnitude.is_cuda:
            return gains(magnitude, mask)
        # A product of a batch may add up in another order: to the bits of each network alone.
        return torch.cat(
            [gains(*pair) for pair in zip(magnitude.split(1), mask.split(1), strict=True)]
        )

    @torch.no_grad()
    def masks(self, dtype: torch.dtype = torch.bool) -> dict[str, Tensor]:
        """Return the masks at the present step, [replicates, …]; the same ones each time.

        Sampled masks are drawn for evaluation too, as by Zhou et al.: scores are trained for such
        masks. Cutting at one half instead cost LeNet-300-100 on MNIST 10 to 40 points (seed 100).
        """
        if self.design.method != "sampled":
            # Reading a number stalls a GPU: only where the density changes.
            step = int(self.done[0]) if self.design.anneal else self.steps
            keep = self.design.density(step, self.steps)
            if radix.is_available(self.all_scores.device) and not self.design.anneal:
                return self._chosen_at_once(keep, dtype)
            chosen = choose_masks(self.scores, keep, self.design.scope)
            return {name: mask.to(dtype) for name, mask in chosen.items()}
        return {
            name: (self._uniform(i, score) < score.sigmoid()).to(dtype)
            for i, (name, score) in enumerate(self.scores.items())
        }

    def _chosen_at_once(self, keep: float, dtype: torch.dtype) -> dict[str, Tensor]:
        """Return the masks of all layers and replicates, chosen together on a GPU."""
        if self.highest is None:
            self.highest = selector(self.scores, keep, self.design.scope)
        bits = self.all_scores.view(torch.int32)
        chosen = self._parts(self.highest(bits, magnitudes=True, dtype=dtype))
        pairs = zip(self.scores.items(), chosen, strict=True)
        return {name: part.view(score.shape) for (name, score), part in pairs}

    def _uniform(self, layer: int, like: Tensor) -> Tensor:
        """Return numbers in [0, 1), each replicate's from a generator of its own."""
        drawn = [
            torch.rand(like.shape[1:], generator=generator_for("sampled mask", seed, step, layer))
            for seed, step in zip(self.seeds, self.done.tolist(), strict=True)
        ]
        return torch.stack(drawn).to(like.device)

    def leaves(self, name: str) -> list[Tensor]:
        """Return the one tensor that holds a parameter of all replicates, if there is such."""
        return [self.parameters[name]] if name in self.parameters else []

    def state(self) -> dict[str, Tensor]:
        """Return live views of all that training changes, the replicate dimension first."""
        scores = {f"{SCORE}{name}": score.detach() for name, score in self.scores.items()}
        rest = {name: tensor.detach() for name, tensor in self.tensors.items()}
        return scores | rest | {"steps done": self.done}

    def write_back(self) -> None:
        """Nothing to do: the models keep the weights with which they arrived."""


def _each(tensor: Tensor) -> Sequence[Tensor]:
    """Return the tensors of all replicates; of one replicate without a copy on the way back."""
    if len(tensor) == 1:
        return (tensor.squeeze(0),)
    # Not tensor[i] where gradients flow: backward, indexing writes a tensor of zeros first. But
    # batch norm may write its statistics into that, and not into a result of unbind.
    return tensor.unbind(0) if tensor.requires_grad else [tensor[i] for i in range(len(tensor))]
