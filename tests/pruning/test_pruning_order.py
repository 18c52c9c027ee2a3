"""The order of a dictionary never decides: the model's does, else that of the first dictionary."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import pytest
import torch
from samples import blobs

import lth_tutorial as lt

pytestmark = [  # equal scores show best whether an order decides; they may empty a layer
    pytest.mark.filterwarnings("ignore:.*scores are equal:UserWarning"),
    pytest.mark.filterwarnings("ignore::lth_tutorial.LayerCollapseWarning"),
]

DATA = lt.make_dataset("blobs", blobs(120, 1), None, blobs(60, 2))
CONFIG = lt.TrainConfig(steps=6, batch_size=20)


def model(seed: int = 0):
    return lt.build_model("mlp_12_6", seed=seed, data=DATA)


def turned(value):
    """Return a dictionary of tensors in another order; anything else as it is."""
    return dict(reversed(value.items())) if isinstance(value, dict) else value


NET, OTHER = model(), model(1)
STATE, START = lt.snapshot(NET), lt.snapshot(OTHER)
MASK = lt.dense_mask(NET)
SOME = lt.prune(lt.random_scores(MASK, 3), MASK, 0.5)
TIED = {name: torch.ones(kept.shape) for name, kept in MASK.items()}  # every choice is a tie
RATIO = {"fc1.weight": 0.5, "fc2.weight": 0.25, "output.weight": 0.1}
COUNTS = {name: kept.numel() // 2 for name, kept in MASK.items()}
X = DATA.normalize(DATA.x_train[:4])
GROUPS = lt.unit_groups(NET, X)
UNITS = {name: torch.arange(group.size) > 2 for name, group in GROUPS.items() if not group.pinned}
STRUCTURED = lt.unit_mask(NET, UNITS, GROUPS)
FOUND = lt.edge_popup(NET, DATA, 0.5, CONFIG)

WITH_MODEL = {
    "apply_mask_": lambda m=SOME: after(lambda net: lt.apply_mask_(net, m)),
    "rewind_": lambda s=STATE, m=SOME: after(lambda net: lt.rewind_(net, s, m)),
    "train": lambda m=SOME: lt.train(model(), DATA, CONFIG, mask=m).final,
    "train_replicates": lambda m=SOME: (
        lt.train_replicates(
            [model(), model(1)], DATA, CONFIG, data_seeds=[0, 1], masks=[m, turned(m)]
        )[1].final
    ),
    "snip_scores": lambda m=SOME: lt.snip_scores(NET, DATA, m),
    "gradient_scores": lambda m=SOME, b=TIED: lt.gradient_scores(NET, DATA, m, base=b),
    "grasp_scores": lambda m=SOME: lt.grasp_scores(NET, DATA, m),
    "fisher_scores": lambda m=SOME: lt.fisher_scores(NET, DATA, m),
    "obd_scores": lambda m=SOME: lt.obd_scores(NET, DATA, m),
    "synflow_scores": lambda m=SOME: lt.synflow_scores(NET, DATA, m),
    "connected_weights": lambda m=SOME: lt.connected_weights(NET, DATA, m),
    "count_paths": lambda m=SOME: lt.count_paths(NET, DATA, m),
    "prune_to_density": lambda m=MASK, s=TIED: lt.prune_to_density(
        lambda *_: s, NET, DATA, 0.3, mask=m
    ),
    "barrier": lambda a=STATE, b=START: lt.barrier(NET, a, b, DATA, points=3),
    "plane": lambda a=STATE, b=START, c=FOUND.others | FOUND.scores: lt.plane(
        NET, a, b, c, DATA, points=3
    ),
    "instability": lambda m=SOME: lt.instability(
        "mlp_12_6", DATA, CONFIG, branch_steps=[2], seeds=[0, 1], masks={0: m, 1: turned(m)}
    ).to_csv(),
    "unit_scores": lambda g=GROUPS: lt.unit_scores(NET, g, "random"),
    "unit_mask": lambda u=UNITS, g=GROUPS: lt.unit_mask(NET, u, g),
    "silence_": lambda u=UNITS, g=GROUPS: after(lambda net: lt.silence_(net, u, g)),
    "remove_units": lambda u=UNITS: lt.snapshot(lt.remove_units(NET, u, X)),
}

WITHOUT = {
    "magnitude_scores": lambda s=STATE, m=MASK: lt.magnitude_scores(s, m),
    "relative_magnitude_scores": lambda s=STATE, m=MASK: lt.relative_magnitude_scores(s, m),
    "movement_scores": lambda s=STATE, o=START, m=MASK: lt.movement_scores(s, o, m),
    "magnitude_increase_scores": lambda s=STATE, o=START, m=MASK: lt.magnitude_increase_scores(
        s, o, m
    ),
    "prune": lambda s=TIED, m=MASK: lt.prune(s, m, 0.05),
    "prune, by layer": lambda s=TIED, m=MASK, f=RATIO: lt.prune(s, m, f, scope="layer"),
    "keep_best": lambda s=TIED, m=MASK: lt.keep_best(s, m, 70),
    "keep_best, by layer": lambda s=TIED, m=MASK, k=COUNTS: lt.keep_best(s, m, k),
    "prune_like": lambda s=TIED, m=MASK, t=SOME: lt.prune_like(s, m, t),
    "overlap": lambda a=SOME, b=MASK: lt.overlap(a, b),
    "interpolate": lambda a=STATE, b=START: lt.interpolate(a, b, 0.3),
    "layer_counts": lambda m=MASK, r=SOME: lt.layer_counts(m, 0.3, r),
    "large_final_mask": lambda a=START, b=STATE, m=MASK: lt.large_final_mask(
        a, {n: t.sign() for n, t in b.items()} if isinstance(b, dict) else b, m, 0.5, scope="global"
    ),
    "rescale_kept": lambda s=STATE, m=SOME: lt.rescale_kept(s, m),
    "replace_kept": lambda s=STATE, m=SOME: lt.replace_kept(s, m, "redraw", 0, same_sign=False),
    "kept_units": lambda m=STRUCTURED, g=GROUPS: lt.kept_units(m, g),
}


def after(change) -> lt.State:
    net = model()
    change(net)
    return lt.snapshot(net)


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    return a == b


def permuted(call, keep_first: bool):
    values = [p.default for p in inspect.signature(call).parameters.values()]
    return call(*[v if keep_first and not i else turned(v) for i, v in enumerate(values)])


@pytest.mark.parametrize("name", WITH_MODEL)
def test_where_there_is_a_model_its_order_rules(name):
    expected, got = WITH_MODEL[name](), permuted(WITH_MODEL[name], keep_first=False)
    assert same(expected, got)
    if isinstance(expected, dict):
        assert list(expected) == list(got)


@pytest.mark.parametrize("name", WITHOUT)
def test_where_there_is_none_the_others_are_put_into_the_order_of_the_first(name):
    expected, got = WITHOUT[name](), permuted(WITHOUT[name], keep_first=True)
    assert same(expected, got)
    if isinstance(expected, dict):
        assert list(expected) == list(got)


def test_every_function_that_takes_a_dictionary_is_here():
    words = ("Mask", "State", "Scores", "Units", "Mapping")
    alone = {  # one dictionary and no model, an order that means something, or no tensors
        "dense_mask", "density", "layer_densities", "shuffle_within_layers", "random_scores",
        "save_mask", "state_hash", "all_units", "cost_table", "training_cost", "load_state_",
        "claims", "save_rows", "save_ticket",
    }  # fmt: skip
    takes = set()
    for name in dir(lt):
        function = getattr(lt, name)
        ours = getattr(function, "__module__", "").startswith("lth_tutorial.")
        if inspect.isfunction(function) and ours and ".variants." not in function.__module__:
            kinds = [str(p.annotation) for p in inspect.signature(function).parameters.values()]
            if any(word in kind for kind in kinds for word in words):
                takes.add(name)
    tested = {name.partition(",")[0] for name in (*WITH_MODEL, *WITHOUT)}
    assert takes - tested - alone == set()


def test_a_state_from_a_file_has_the_order_of_the_network(tmp_path):
    result = lt.train(model(), DATA, CONFIG, workdir=tmp_path)
    assert list(result.final) == list(lt.snapshot(model())) == list(result.start)
