"""Planes through three networks, and the path of pruning."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import lth_tutorial as lt


@pytest.fixture
def three(tiny_data, config):
    models = [lt.build_model("mlp_12_6", seed=seed, data=tiny_data) for seed in range(3)]
    return [lt.train(model, tiny_data, config).final for model in models]


def test_a_plane_goes_through_its_three_networks(tiny_data, tiny_model, three):
    found = lt.plane(tiny_model, *three, tiny_data, points=3, margin=0, split="train")
    assert found.anchors[0] == (0, 0) and found.anchors[1][1] == 0
    distances = [math.dist(found.anchors[i], found.anchors[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    flat = [torch.cat([t.flatten() for t in state.values()]) for state in three]
    expected = [float((flat[i] - flat[j]).norm()) for i, j in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(distances, expected, rtol=1e-4)
    assert (found.x[0], found.y[0]) == (0, 0), "the first network is a grid point"
    tiny_model.load_state_dict(three[0])
    assert found.losses[0][0] == pytest.approx(lt.evaluate(tiny_model, tiny_data, "train").loss)
    assert (len(found.errors), len(found.errors[0])) == (3, 3)


def test_every_point_of_the_grid_is_the_network_there(tiny_data, tiny_model, three):
    a, b, c = three
    found = lt.plane(tiny_model, a, b, c, tiny_data, points=4, margin=0.3)
    (_, _), (width, _), (along, above) = found.anchors
    for row, y in enumerate(found.y):
        for column, x in enumerate(found.x):
            gamma = y / above
            beta = (x - gamma * along) / width
            state = {k: (1 - beta - gamma) * a[k] + beta * b[k] + gamma * c[k] for k in a}
            tiny_model.load_state_dict(state)
            metrics = lt.evaluate(tiny_model, tiny_data)
            assert found.losses[row][column] == pytest.approx(metrics.loss, rel=1e-3)
            assert found.errors[row][column] == pytest.approx(1 - metrics.accuracy, abs=0.02)


def test_networks_on_one_line_have_no_plane(tiny_data, tiny_model, three):
    a, b, _ = three
    for c in (a, b, lt.interpolate(a, b, 0.5)):
        with pytest.raises(ValueError, match="lie on one line"):
            lt.plane(tiny_model, a, b, c, tiny_data, points=3)
    with pytest.raises(ValueError, match="lie on one line"):
        lt.plane(tiny_model, a, a, b, tiny_data, points=3)
    with pytest.raises(ValueError, match="margin is a share of at least 0; got -1"):
        lt.plane(tiny_model, *three, tiny_data, margin=-1)
    with pytest.raises(ValueError, match="at least 3; got 2"):
        lt.plane(tiny_model, *three, tiny_data, points=2)


def test_the_barriers_between_rounds_are_those_of_their_networks(tiny_data, tiny_model, config):
    rounds = lt.iterative_magnitude_pruning(
        tiny_model, tiny_data, replace(config, steps=60), lt.IMPConfig(rounds=2)
    )
    rows = lt.round_barriers(tiny_model, rounds, tiny_data, points=5)
    assert rows["round"].tolist() == [1, 2]
    assert rows["density"].tolist() == [rounds[1].density, rounds[2].density]
    expected = lt.barrier(tiny_model, rounds[1].state, rounds[2].state, tiny_data, points=5)
    assert rows["height"].iloc[1] == expected.height
    assert rows["error_b"].iloc[1] == pytest.approx(1 - rounds[2].accuracy)
    with pytest.raises(ValueError, match="two rounds; got 1"):
        lt.round_barriers(tiny_model, rounds[:1], tiny_data)
