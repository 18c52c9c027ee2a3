"""The named experiments of structured pruning, at smoke scale on random images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import lth_tutorial as lt
from lth_tutorial.experiments import experiment, run


@pytest.fixture(scope="module")
def noise():
    x = torch.randint(256, (300, 3, 32, 32), dtype=torch.uint8)
    y = torch.arange(300) % 10
    return lt.make_dataset(
        "noise", (x[:200], y[:200]), (x[200:250], y[200:250]), (x[250:], y[250:])
    )


def smoke(name, **changes):
    """Return the experiment with one seed and a small network."""
    design = experiment(name)
    parts = tuple(replace(part, **changes) for part in design.parts)
    return replace(design, seeds=(0,), parts=parts)


def test_inherited_weights_and_scratch_are_measured_for_filters_and_for_weights(noise, tmp_path):
    design = smoke("cifar10-vgg16-filters", model="vgg_tiny", fractions=(0.5,))
    rows, about = run(design, noise, scale=2e-5, workdir=tmp_path)
    again, read = run(design, noise, scale=2e-5, workdir=tmp_path)
    assert rows.equals(again)
    assert not read["resumed"] and read["wall_time_s"] >= about["wall_time_s"], "times add up"
    wide = lt.widen(rows)
    arms = {"fine_tuned", "scratch_e", "scratch_b"}
    for label in ("weights, high rate", "weights, low rate"):
        assert {f"{label}: {arm}" for arm in arms} <= set(wide["arm"])
    assert wide[wide["round"] == 0].groupby("arm").size().eq(1).all()
    by_arm = wide[wide["round"] == 1].set_index("arm")
    assert by_arm.loc["weights, low rate: fine_tuned", "density"] == pytest.approx(0.5, abs=1e-3)
    filters = by_arm.loc[["filters: scratch_e", "filters: scratch_b"], "steps"].tolist()
    assert filters == [2, 4]
    assert wide["accuracy"].between(0, 1).all()


def test_slimming_is_measured_beside_the_same_network_without_penalty(noise):
    design = smoke("cifar10-slimming", model="vgg_tiny", fractions=(0.4,))
    penalties = [part.train.bn_l1 for part in design.parts]
    assert penalties[0] > 0 == penalties[1]
    assert all(part.finetune.bn_l1 == 0 for part in design.parts)
    rows, _ = run(design, noise, scale=2e-5)
    expected = {"slimming: units_bn_scale", "slimming: scratch_b", "no penalty: units_bn_scale"}
    assert expected <= set(rows["arm"])


def test_rates_of_convolutional_tickets_fit_their_networks():
    for part in experiment("cifar10-conv-imp").parts:
        assert set(part.imp.fraction) == set(lt.dense_mask(lt.build_model(part.model, seed=0)))
