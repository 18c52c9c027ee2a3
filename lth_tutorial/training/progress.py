"""What a training run gathers while it goes on: all that a checkpoint must hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.pruning.masks import Mask
from lth_tutorial.states import State, state_hash
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.evaluation import evaluate_group
from lth_tutorial.training.groups import split_states
from lth_tutorial.training.identity import describe_model
from lth_tutorial.training.outcome import TrainResult


class Run:
    """A run so far.

    Attributes:
        step: where training starts, or continues.
        kept: states by name, with the replicate dimension first: the start, snapshots, and the
            best by validation loss.
        points: the history of every replicate.
        diverged: replicate to the step at which it diverged.
    """

    def __init__(self, group, data: Dataset, config: TrainConfig, start_step: int) -> None:
        self.group, self.data, self.config, self.step = group, data, config, start_step
        self.optimizer = _optimizer(group.parameters.values(), config)
        self.kept: dict[str, State] = {}
        self.points: list[list[dict]] = [[] for _ in range(group.size)]
        self.unread: list[tuple[int, Tensor, Tensor]] = []
        self.best_loss = torch.full((group.size,), math.inf, device=data.device)
        self.diverged: dict[int, int] = {}
        self.keep("start")

    def keep(self, name: str) -> None:
        """Keep a copy of the present weights."""
        self.kept[name] = {key: tensor.clone() for key, tensor in self.group.state().items()}

    def record(self, step: int) -> None:
        """Add a validation point, and keep the weights of the replicates that are best there."""
        if len(self.data.x_val) == 0:
            return
        loss, accuracy = evaluate_group(self.group, self.data, "val")
        self.unread.append((step, loss, accuracy))
        better = loss < self.best_loss
        self.best_loss = torch.where(better, loss, self.best_loss)
        best = self.kept.setdefault("early_stop", {})
        for name, now in self.group.state().items():
            choice = better.view(-1, *(1,) * (now.ndim - 1))
            best[name] = torch.where(choice, now, best.get(name, now))

    def _read_points(self) -> None:
        """Put the validation points into the history; reading each at once would stall a GPU."""
        for step, loss, accuracy in self.unread:
            for points, a, b in zip(self.points, loss.tolist(), accuracy.tolist(), strict=True):
                points.append({"step": step, "val_loss": a, "val_accuracy": b})
        self.unread.clear()

    def progress(self, step: int) -> tuple[dict[str, State], dict]:
        """Return all that training needs to continue before the given step."""
        self._read_points()
        moments = {
            f"{i}.{name}": torch.as_tensor(value)
            for i, state in self.optimizer.state_dict()["state"].items()
            for name, value in state.items()
            if value is not None
        }
        own = {"weights": self.group.state(), "optimizer": moments}
        own |= {"best_loss": {"best_loss": self.best_loss}}
        about = {"step": step, "points": self.points, "diverged": list(self.diverged.items())}
        return self.kept | own, about

    def resume(self, states: Mapping[str, State], about: dict) -> None:
        """Become the run that `progress` was taken from."""
        self.step, self.points, self.diverged = (
            about["step"], about["points"], dict(about["diverged"]),
        )  # fmt: skip
        self.kept = {name: states[name] for name in states}
        self._write(self.kept.pop("weights"))
        moments = self.kept.pop("optimizer")
        self.best_loss = self.kept.pop("best_loss")["best_loss"]
        saved = self.optimizer.state_dict()
        for key, value in moments.items():
            i, _, name = key.partition(".")
            saved["state"].setdefault(int(i), {})[name] = value
        self.optimizer.load_state_dict(saved)

    def set_weights(self, states: Sequence[State]) -> None:
        """Leave the models as they were at the end of a finished run."""
        self._write({name: torch.stack([s[name] for s in states]) for name in states[0]})
        self.group.write_back()

    @torch.no_grad()
    def _write(self, stacked: State) -> None:
        for name, tensor in self.group.state().items():
            tensor.copy_(stacked[name])

    def results(self, stop_step: int) -> list[TrainResult]:
        """Return one result per replicate."""
        self._read_points()
        self.keep("final")
        size = self.group.size
        each = {name: split_states(stacked) for name, stacked in self.kept.items() if stacked}
        return [
            TrainResult(
                history=[p for p in self.points[i] if p["step"] <= self.diverged.get(i, stop_step)],
                states={name: states[i] for name, states in each.items()},
                steps=self.config.steps,
                diverged_step=self.diverged.get(i),
            )
            for i in range(size)
        ]


def identity(
    run: Run, masks: Sequence[Mask] | None, start_step, stop_step, save_at, data_seeds
) -> dict:
    """Return what determines a run: a folder that holds another is not continued."""
    return {
        "schema": 1,
        "config": run.config,
        "data": run.data.fingerprint,
        "model": describe_model(run.group.models[0]),
        "initial_state": state_hash(run.kept["start"]),
        "masks": [state_hash(mask) for mask in masks or ()],
        "steps": [start_step, stop_step],
        "save_at": save_at,
        "data_seeds": data_seeds,
    }


def _optimizer(parameters: Iterable[Tensor], config: TrainConfig) -> torch.optim.Optimizer:
    trained = [p for p in parameters if p.requires_grad]
    on_gpu = bool(trained) and trained[0].is_cuda
    options = {"lr": config.lr, "weight_decay": config.weight_decay, "fused": on_gpu or None}
    if config.optimizer == "adam":
        return torch.optim.Adam(trained, capturable=on_gpu, **options)
    return torch.optim.SGD(trained, momentum=config.momentum, **options)
