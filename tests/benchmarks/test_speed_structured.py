"""What removing half of VGG-16's filters buys on a CPU, by the clock."""

from __future__ import annotations

import pytest
import torch

import lth_tutorial as lt

pytestmark = pytest.mark.bench


def test_removing_half_of_the_filters_of_vgg_16_makes_it_faster(capsys):
    model, x = lt.build_model("vgg_16", seed=0), torch.randn(32, 3, 32, 32)
    groups = lt.unit_groups(model, x)
    scores, units = lt.unit_scores(model, groups), lt.all_units(groups)
    units = lt.prune(scores, units, 0.5, scope="layer", min_per_layer=1)
    networks = {"dense": model, "removed": lt.remove_units(model, units, x)}
    speedup = float(lt.cost_table(networks, x, repeats=9)["speedup"][1])
    with capsys.disabled():
        what = "VGG-16, batch 32, without half of its filters: times as fast"
        print(f"\n{what:76} {speedup:6.2f}  (at least 1.8)", end="")
    assert speedup >= 1.8
