"""Torch-Pruning, an independent implementation, as the judge of coupling and removal."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch

import lth_tutorial as lt

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    oracle = pytest.importorskip("torch_pruning", reason="needs the package torch-pruning")

NAMES = ["mlp_100_50", "conv_2", "vgg_11", "resnet_20"]


def network(name):
    shape = (1, 28, 28) if name.startswith("mlp") else (3, 32, 32)
    return lt.build_model(name, seed=0).eval(), torch.ones(2, *shape)


def dependencies(model, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return oracle.DependencyGraph().build_dependency(model, example_inputs=x)


def prune_outputs(graph, layer, indices):
    linear = isinstance(layer, torch.nn.Linear)
    function = oracle.prune_linear_out_channels if linear else oracle.prune_conv_out_channels
    return graph.get_pruning_group(layer, function, idxs=indices)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_layers_are_coupled(name):
    model, x = network(name)
    graph = dependencies(model, x)
    names = {module: layer for layer, module in model.named_modules()}
    for group in lt.unit_groups(model, x).values():
        if group.pinned:
            continue
        found = {"out": set(), "in": set(), "norm": set()}
        for dependency, _ in prune_outputs(graph, model.get_submodule(group.name), [0]):
            layer = names.get(dependency.target.module)
            kind = dependency.handler.__name__
            if layer is None:
                continue
            part = "norm" if "batchnorm" in str(dependency.target).lower() else kind.split("_")[1]
            found[part].add(layer)
        assert found["out"] == set(group.rows), group.name
        assert found["in"] == set(group.columns), group.name
        assert found["norm"] == set(group.norms), group.name


@pytest.mark.parametrize("name", NAMES)
def test_the_same_filters_removed_give_the_same_network(name):
    model, x = network(name)
    groups = lt.unit_groups(model, x)
    scores = lt.unit_scores(model, groups, "l1")
    units = lt.prune(scores, lt.all_units(groups), 0.5, scope="layer")
    ours, theirs = lt.remove_units(model, units, x), copy.deepcopy(model)
    for group_name, kept in units.items():
        graph = dependencies(theirs, x)
        gone = (~kept).nonzero().flatten().tolist()
        prune_outputs(graph, theirs.get_submodule(group_name), gone).prune()
    state = theirs.state_dict()
    assert state.keys() == ours.state_dict().keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in ours.state_dict().items())
