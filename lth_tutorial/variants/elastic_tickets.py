"""Tickets moved between depths, beside their controls: the experiment of elastic tickets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.pruning.masks import Mask, dense_mask, shuffle_within_layers
from lth_tutorial.pruning.prune import prune_like
from lth_tutorial.runtime import choose, progress_bar
from lth_tutorial.safety.arguments import checked, different_arms, different_seeds
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.stability.instability import copies_and_barriers
from lth_tutorial.states import State
from lth_tutorial.tickets.arms import model_builder
from lth_tutorial.tickets.lottery import (
    IMPRound,
    as_rounds,
    check_fits,
    converged,
    imp_rounds,
    train_from,
)
from lth_tutorial.tickets.measures import rows_of
from lth_tutorial.training.config import IMPConfig, TrainConfig
from lth_tutorial.training.identity import within
from lth_tutorial.variants.elastic import (
    block_map,
    block_stages,
    interpolate_blocks,
    transfer_ticket,
)

if TYPE_CHECKING:
    import pandas as pd

ARMS = ("stretched", "stretched_reinit", "stretched_random", "magnitude_at_rewind")
OWN = "ticket"


@dataclass(frozen=True)
class _Network:
    """One network's own tickets: its builder, the last round and the rewind points by seed."""

    build: Callable[[int], nn.Module]
    rounds: list[dict[int, IMPRound]]
    rewind_step: int

    def points(self) -> dict[int, State]:
        """Return the weights at the rewind step of the seeds that came to the last round."""
        dense = self.rounds[0]
        return {s: dense[s].result.snapshots[self.rewind_step] for s in self.rounds[-1]}

    def masks(self) -> dict[int, Mask]:
        """Return the tickets' masks."""
        return {seed: r.mask for seed, r in self.rounds[-1].items()}


@checked
@one_writer
def elastic_experiment(
    networks: Mapping[str, str | Callable[[int], nn.Module]],
    data: Dataset,
    train_config: TrainConfig,
    imp_config: IMPConfig,
    *,
    pairs: Sequence[tuple[str, str]],
    arms: Sequence[str] = ARMS,
    lists: Callable[[int, int], list[int]] = interpolate_blocks,
    barriers: bool = True,
    seeds: Sequence[int] = range(8),
    workdir: str | Path | None = None,
) -> pd.DataFrame:
    """Move tickets between networks of different depths, and train them beside their controls.

    Args:
        networks: by a short name, a name for `build_model` or a function from a seed to a module.
        pairs: (source, target), names in `networks`. The source's ticket of the last round is
            moved to the target, rewound weights, batch norm and mask alike.
        arms: any of "stretched" (the moved ticket), "stretched_reinit" (its mask on the target's
            own weights at the rewind step), "stretched_random" (its mask shuffled within layers,
            on the moved weights), "magnitude_at_rewind" (as many of the target's own largest
            weights at the rewind step, layer by layer: no training before pruning).
        lists: from the numbers of blocks of a stage, source and target, to a block list.
        barriers: train two copies of "stretched" and of the target's own ticket on other data
            orders, and measure the barrier between them.
        seeds: replicates; a seed draws the initial weights and the order of the data.
        workdir: folder to continue from.

    Returns:
        A frame with the columns of `lottery_experiment` and `height`, the barrier in [0, 1]. Arms
        are called "TARGET, ticket" (every round) and "SOURCE to TARGET, stretched" (the last
        round); round 0 is the target's dense network. A seed whose own ticket diverged has no
        later rows.

    Raises:
        ValueError: for unknown networks, arms or pairs, and for networks between which no ticket
            can move, before the first step.
    """
    import pandas as pd

    pairs, arms, seeds = _check(networks, pairs, arms, seeds)
    builders = {name: model_builder(model, data) for name, model in networks.items()}
    maps = {pair: _map(*(builders[name](seeds[0]) for name in pair), lists) for pair in pairs}
    used = [name for name in networks if any(name in pair for pair in pairs)]
    for name in used:
        check_fits(builders[name](seeds[0]), train_config, imp_config)
    k, after = imp_config.rewind_step, train_config.steps - imp_config.rewind_step
    targets = {target for _, target in pairs}
    copies = 2 * barriers * (len(targets) + len(pairs) * ("stretched" in arms))
    total = len(used) * (train_config.steps + imp_config.rounds * after)
    total += (len(pairs) * len(arms) + copies) * after
    rows: list[dict] = []
    with progress_bar(total * len(seeds), "elastic tickets") as bar:
        own = {
            name: _own_tickets(
                builders[name], data, train_config, imp_config, seeds, bar.update,
                within(workdir, f"own_{name}"),
            )
            for name in used
        }  # fmt: skip

        def heights(name: str, starts, masks, folder: Path | None) -> dict[int, float]:
            found = copies_and_barriers(
                builders[name], data, train_config, k, starts, masks, branches=2, curves=False,
                on_step=bar.update, workdir=folder, points=11, split="test",
                batch_norm="reestimate",
            )  # fmt: skip
            return {row["seed"]: row["height"] for row in found}

        for name in used:
            rows += _own_rows(name, own[name], data)
            if barriers and name in targets:
                found = heights(
                    name, own[name].points(), own[name].masks(), within(workdir, f"copies_{name}")
                )
                last = [r for r in rows if r["arm"] == f"{name}, {OWN}" and r["round"]]
                for row in (r for r in last if r["round"] == imp_config.rounds):
                    row["height"] = found[row["seed"]]
        for source, target in pairs:
            moved = _move(own[source], own[target], maps[source, target])
            label, models = f"{source} to {target}", {s: own[target].build(s) for s in moved}
            dense = rows_of("", models, data, {s: own[target].rounds[0][s] for s in moved})
            for arm in arms:
                starts, masks = _arm(arm, moved, own[target])
                folder = within(workdir, label.replace(" ", "_"), arm)
                results = train_from(
                    models, starts, masks, data, train_config, k, on_step=bar.update,
                    workdir=folder,
                )  # fmt: skip
                found = as_rounds(imp_config.rounds, models, data, masks, results)
                new = rows_of(f"{label}, {arm}", models, data, found)
                if arm == "stretched" and barriers:
                    high = heights(target, starts, masks, within(workdir, f"copies_{label}"))
                    new = [row | {"height": high[row["seed"]]} for row in new]
                rows += [row | {"arm": f"{label}, {arm}"} for row in dense] + new
    frame = pd.DataFrame(rows)
    steps = ("early_stop_step", "steps_to_90", "steps_to_95", "diverged_step")
    return frame.astype(dict.fromkeys(steps, "Int64"))


def _map(source: nn.Module, target: nn.Module, lists) -> dict[str, str]:
    """Return the blocks' map, proved on the networks before anything is trained."""
    counts = zip(block_stages(source), block_stages(target), strict=False)
    found = block_map(source, target, [lists(len(have), len(need)) for have, need in counts])
    transfer_ticket(source.state_dict(), dense_mask(source), target, found)
    return found


def _own_tickets(build, data, config, imp: IMPConfig, seeds, on_step, workdir) -> _Network:
    models = {seed: build(seed) for seed in seeds}
    rounds = list(imp_rounds(models, data, config, imp, on_step, workdir))
    rounds[-1] = {s: r for s, r in rounds[-1].items() if converged(r.result)}
    return _Network(build, rounds, imp.rewind_step)


def _own_rows(name: str, network: _Network, data: Dataset) -> list[dict]:
    models = {seed: network.build(seed) for seed in network.rounds[0]}
    return [row for r in network.rounds for row in rows_of(f"{name}, {OWN}", models, data, r)]


def _move(source: _Network, target: _Network, blocks) -> dict[int, tuple[State, Mask]]:
    """Return the moved ticket of every seed that has a ticket in both networks."""
    points, masks = source.points(), source.masks()
    seeds = [seed for seed in masks if seed in target.masks()]
    return {
        seed: transfer_ticket(points[seed], masks[seed], target.build(seed), blocks)
        for seed in seeds
    }


def _arm(
    arm: str, moved: Mapping[int, tuple[State, Mask]], target: _Network
) -> tuple[dict[int, State], dict[int, Mask]]:
    """Return start weights and masks of an arm, with the counts that the moved masks have."""
    starts = {seed: state for seed, (state, _) in moved.items()}
    masks = {seed: mask for seed, (_, mask) in moved.items()}
    own = {seed: target.points()[seed] for seed in moved}
    if arm == "stretched_reinit":
        return own, masks
    if arm == "stretched_random":
        return starts, {seed: shuffle_within_layers(mask, seed) for seed, mask in masks.items()}
    if arm == "magnitude_at_rewind":
        full = {seed: dense_mask(target.build(seed)) for seed in moved}
        largest = {
            seed: prune_like(
                {name: own[seed][name].abs() for name in mask}, full[seed], mask, scope="layer"
            )
            for seed, mask in masks.items()
        }
        return own, largest
    return starts, masks


def _check(networks, pairs, arms, seeds) -> tuple[list[tuple[str, str]], list[str], list[int]]:
    pairs, arms = [tuple(pair) for pair in pairs], different_arms(arms, ARMS)
    for pair in pairs:
        if len(pair) != 2 or pair[0] == pair[1]:
            raise ValueError(f"a pair is (source, target), two different networks; got {pair}")
        for name in pair:
            choose("network", name, networks)
    if not pairs or len(set(pairs)) < len(pairs):
        raise ValueError(f"pairs are one or more different ones; got {pairs}")
    return pairs, arms, different_seeds(seeds)
