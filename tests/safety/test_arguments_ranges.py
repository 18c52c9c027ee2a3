"""Every number, word and list that a public function takes, wrong one at a time.

The walk goes over all of `lth_tutorial.__all__`: each argument gets values that no function can
mean (NaN, True for a number, a fraction for a count, an empty list, a text …), the others are
right. Each time there must be a ValueError or TypeError that repeats the value, before a step.
"""

from __future__ import annotations

import copy
import inspect
import math
import types
import typing
from collections.abc import Iterable, Sequence

import pytest
import torch
from samples import blobs, table
from torch import nn

import lth_tutorial as lt
from lth_tutorial.safety.kinds import hints
from lth_tutorial.training.steps import Step

WRONG = {
    int: [-1, 2.5, True, "3", math.nan, None],
    float: [math.nan, math.inf, True, "0.5", None],
    bool: [1, "no", None],
    str: [3],
    typing.Literal: ["no such thing", 3],
}
MEANT = {
    ("best_single", "target"): [-1], ("best_subset", "target"): [-1],
    ("typical_error", "target"): [-1], ("load_solution", "target"): [-1],
    ("drawing_epoch", "masks"): [[]], ("random_histories", "masks"): [[]],  # no epoch yet
    ("sifting_network", "widths"): [[]],  # no hidden layer
    ("train", "save_at"): [[]], ("train_replicates", "save_at"): [[]],
    ("scratch", "longest"): [math.inf], ("scratch_config", "longest"): [math.inf],  # no limit
    ("basis_experiment", "shuffled"): [[]], ("settling_rows", "histories"): [[]],
    ("t_interval", "values"): [[], [math.nan], [math.inf]],
}  # fmt: skip
"""What looks wrong and is not, by function and argument."""


def kinds_of(hint: object) -> set:
    """Return what an annotation is made of, as far as it is numbers, words and lists of them."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return set().union(*map(kinds_of, inside))
    if origin is typing.Literal:
        return {typing.Literal}
    if origin in (Sequence, Iterable, *map(typing.get_origin, (typing.Sequence[int],))):
        return {(list, *kinds_of(inside[0]))}
    return {hint} if hint in (int, float, bool, str, type(None)) else {object}


def wrong_values(kinds: set, name: str = ""):
    if name in ("workdir", "root", "path"):
        yield ""  # would be the current folder
    for kind in kinds:
        if isinstance(kind, tuple):
            yield []
            yield from (
                [w] for w in WRONG.get(kind[1] if len(kind) == 2 else None, ()) if w is not None
            )
        for value in WRONG.get(kind, ()) if not isinstance(kind, tuple) else ():
            fits_another = (
                (value is None and type(None) in kinds)
                or (isinstance(value, str) and str in kinds)
                or (isinstance(value, float) and kind is int and float in kinds)
                or (value == -1 and float in kinds)
            )
            if not fits_another:
                yield value


class Began(BaseException):
    """A step of training was made: too late for a complaint about an argument."""


@pytest.fixture
def right(tiny_data, tmp_path) -> typing.Callable[[str], dict]:
    """Return a function from a public function's name to right values of its arguments."""
    model = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    mask, state = lt.dense_mask(model), lt.snapshot(model)
    scores, x = lt.magnitude_scores(state, mask), tiny_data.x_train[:4]
    config, imp = lt.TrainConfig(steps=40, batch_size=20), lt.IMPConfig(rounds=1)
    net = nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3))
    small, groups = nn.Sequential(nn.Linear(8, 3)), lt.unit_groups(net, x)
    part = torch.rand(40, 1, 8, 8), torch.arange(40) % 3
    images, plane = lt.make_dataset("images", part, None, part), lt.load_dataset("cubist_spiral")
    long, linear = lt.load_rows("digits-winning-tickets"), lt.relu_network([8, 4, 3], seed=0)
    generator = torch.Generator().manual_seed(0)
    apart = [
        {n: t + torch.randn(t.shape, generator=generator) for n, t in state.items()}
        for _ in range(2)
    ]
    kept = torch.rand(4, 64, generator=generator) > 0.5
    rows = table(ticket=[0.8, 0.7, 0.6], random=[0.5, 0.6, 0.4])

    def build(seed: int) -> nn.Module:
        return lt.build_model("mlp_12_6", seed=seed, data=tiny_data)

    short = lt.TrainConfig(steps=24, batch_size=20)
    rounds = lt.iterative_magnitude_pruning(build(0), tiny_data, short, imp)
    found = lt.edge_popup(build(0), tiny_data, 0.5, short)
    with pytest.warns(lt.TicketWarning):  # so high a threshold says nothing, and is always met
        drawn = lt.early_bird(copy.deepcopy(net), tiny_data, short, window=2, threshold=0.9)
    history = lt.train_history(build, tiny_data, short, seeds=[0])
    blocks = lt.build_model("resmlp_bn_16_2", seed=0, data=tiny_data)

    pool = {
        **dict.fromkeys(("a", "b", "target", "mask"), mask),
        **dict.fromkeys(("state", "start", "final"), state),
        **dict.fromkeys(
            ("config", "train_config", "finetune_config", "low", "first", "again"), config
        ),
        "model": model,
        "data": tiny_data,
        "scores": scores,
        "x": x,
        "imp_config": imp,
        "imp": imp,
        "seed": 0,
        "data_seed": 0,
        "seeds": [0],
        "data_seeds": [0],
        "models": [model],
        "fraction": 0.5,
        "density": 0.5,
        "keep": 0.5,
        "steps": 5,
        "n": 20,
        "rows": rows,
        "groups": groups,
        "arm": "ticket",
        "others": ["random"],
        "arm_a": "ticket",
        "step": 0,
        "arm_b": "random",
        "masks": [mask, mask],
        "path": tmp_path / "file",
        "batch_size": 20,
        "values": torch.rand(1, 5, dtype=torch.float64),
        "branch_steps": [2],
        "rewind_steps": [0],
        "name": "digits-winning-tickets",
        "weights": state,
        "widths": [3, 3, 3],
        "rounds": rounds,
        "supermask": found,
        "ticket": drawn,
        "history": history,
        "bases": {},
        "init": lt.signed_constant_,
        "source": blocks,
    }
    over_pixels = ("displacements", "neighbour_share", "kept_at_distance", "shuffle_units")
    own = {
        "load_dataset": {"name": "digits"},
        "build_model": {"name": "mlp_8"},
        "make_dataset": {"train": blobs(20, 1), "val": None, "test": blobs(20, 2)},
        "corrupt_data": {"how": "random_labels"},
        "keep_best": {"keep": 20},
        "restore_pixels": {"rows": torch.rand(3, 64)},
        "mlp": {"sizes": [8, 4, 3]},
        "cubist_spiral": {"points": 100},
        "bar_images": {"n": 30},
        "with_batch_norm": {"model": small},
        "layer_counts": {"rule": "erdos_renyi"},
        "prune_to_density": {"criterion": lt.snip_scores},
        "adversarial_examples": {"y": tiny_data.y_train[:4], "attack": lt.pgd(0.1, bounds=(-9, 9))},
        "fgsm": {"eps": 0.1},
        "pgd": {"eps": 0.1},
        "unit_scores": {"model": net},
        "interpolate": {"a": state, "b": state, "alpha": 0.5},
        "barrier": {"a": state, "b": state},
        "plane": {"a": state, "b": apart[0], "c": apart[1]},
        "cost_table": {"models": {"a": net}},
        "training_cost": {"models": {"a": net}},
        "scratch_config": {"dense": net, "small": small, "budget": "epochs"},
        "load_shipped_ticket": {"name": "digits-mlp-400-400-biprop-norm"},
        "train_supermasks": {"design": lt.SupermaskConfig(keep=0.5)},
        "top_k_mask": {"scores": torch.rand(4, 4)},
        "large_final_mask": {"same_sign": True},
        "replace_kept": {"values": "rewind", "same_sign": True},
        "typical_error": {"target": 0.1},
        "best_single": {"target": 0.1},
        "best_subset": {"target": 0.1},
        "output_error": {"model": linear, "target": linear},
        "prune_random_layer": {"weight": torch.rand(2, 3), "n": 5},
        "prune_random_network": {"target": linear, "n": 5},
        "relu_network": {"sizes": [8, 4, 3]},
        "subset_sum_experiment": {"numbers": [2, 3]},
        "early_bird": {"model": net},
        "imitation_experiment": {
            "model": lambda s: lt.relu_network([8, 4, 3], seed=s),
            "numbers": [3],
        },
        "train_history": {"model": build},
        "settling_experiment": {"model": build},
        "early_bird_experiment": {"model": "mlp_bn_12_6", "draw_epochs": [1]},
        "boosting_experiment": {"measure_steps": [0, 5]},
        "prune_groups": {"coefficients": state},
        "prune_before_training": {"densities": [0.5]},
        "structured_experiment": {"fractions": [0.5]},
        "supermask_experiment": {"keeps": [0.5]},
        "basis_experiment": {"bases": ["identity"]},
        "block_map": {"target": blocks, "lists": [0, 1]},
        "append_blocks": {"blocks": 3, "wanted": 5},
        "interpolate_blocks": {"blocks": 3, "wanted": 5},
        "dual_experiment": {"penalised_steps": 5, "ramp": 5},
        "bases_of": {"model": net, "kind": "svd"},
        "elastic_experiment": {"networks": {"a": "mlp_12_6"}, "pairs": [("a", "a")]},
        "parse_block_map": {"text": "0:0"},
        "settling_rows": {"histories": [[mask, mask]]},
        "random_histories": {"masks": [[mask, mask]]},
        "dct_matrix": {"n": 4},
        "dct_2d": {"height": 2, "width": 2},
        "first_layer": {"shape": (1, 2, 4)},
        **{name: {"kept": kept, "shape": (1, 8, 8)} for name in over_pixels},
        "paths_to": {"layer": 1},
        "enumerate_masks": {"weights": 3},
        "fewest_weights": {"target": 0.9, "rows": rows.assign(weights=9)},
        "random_masks": {"weights": 3, "n": 2},
        "matching": {"margin": 0.01},
        "widen": {"rows": long},
        "told": {"interval": lt.t_interval([0.1, 0.2])},
        "difference_at": {"round": 0},
        "mask_histories": {"by": "magnitude"},
        "compare_on_spiral": {"width": 4, "counts": [10]},
        "t_interval": {"values": [1.0, 2.0]},
        "summarize": {"by": ["arm", "round"]},
        "verdicts": {"table": lt.claims(chapter=4)},
        "save_rows": {"rows": long, "provenance": long.attrs["provenance"], "root": tmp_path},
        "claims": {"rows": None},
        "gallery": {"rows": None},
        "load_masks": {"record": "spiral-search"},
        "explore": {"draw": print, "values": [1, 2], "label": "x", "caption": "c", "alt": "a"},
        "spiral_network": {"widths": 3},
        "locality_experiment": {"model": build},
    }
    images_of = (
        "permute_pixels",
        "pixel_order",
        "restore_pixels",
        "gaussian_clone",
        "small_convolution",
    )
    own |= {name: own.get(name, {}) | {"data": images} for name in images_of}
    plane_of = ("compare_on_spiral", "descend", "train_masks")
    own |= {name: own.get(name, {}) | {"data": plane} for name in plane_of}

    def arguments(name: str) -> dict:
        parameters = inspect.signature(getattr(lt, name)).parameters.values()
        special = {k: v for k, v in own.get(name, {}).items() if k in {p.name for p in parameters}}
        needed = {
            p.name: pool[p.name]
            for p in parameters
            if p.default is p.empty and p.name in pool and p.name not in special
        }
        if "model" in needed and "seeds" in {p.name for p in parameters}:
            needed["model"] = build
        return needed | special

    return arguments


def walk(right, functions) -> list[str]:
    """Return every wrong value that was taken, or refused without being repeated."""
    silent = []
    for name in functions:
        function, base = getattr(lt, name), right(name)
        for argument, (hint, _) in hints(function).items():
            default = inspect.signature(function).parameters[argument].default
            for value in wrong_values(kinds_of(hint), argument):
                if value == default or value in MEANT.get((name, argument), ()):
                    continue
                try:
                    function(**base | {argument: value})
                    seen = "nothing said"
                except Began:
                    seen = "a step was made"
                except (ValueError, TypeError) as error:
                    repeated = repr(value[0]) if isinstance(value, list) and value else repr(value)
                    seen = str(error)
                    if repeated in seen or (value == [] and argument in seen):
                        continue
                except Exception as error:
                    seen = f"{type(error).__name__}: {error}"
                silent.append(f"{name}({argument}={value!r}): {seen[:200]}")
    return silent


FUNCTIONS = [
    name
    for name in lt.__all__
    if name != "random_products"  # its first arguments have no names
    and inspect.isfunction(getattr(lt, name))
    and inspect.signature(getattr(lt, name)).parameters
]


def test_a_wrong_value_of_any_argument_is_repeated_before_the_first_step(
    right, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)

    def step(*_, **__):
        raise Began

    monkeypatch.setattr(Step, "__call__", step)
    silent = walk(right, FUNCTIONS)
    assert not silent, "\n".join(silent)
