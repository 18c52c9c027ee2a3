"""The experiments of chapter 13 at smoke scale: every claim finds its arms and rounds."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest

import lth_tutorial as lt
from lth_tutorial.claims import CLAIMS
from lth_tutorial.experiments import EXPERIMENTS, experiment, run

NAMES = [each.name for each in EXPERIMENTS if each.chapter == 13]
SMALL = {
    "resnet_14": "resmlp_bn_8_2", "resnet_20": "resmlp_bn_8_3", "resnet_32": "resmlp_bn_8_5",
    "mlp_300_300_100": "mlp_6_6_4", "mlp_300_300_300_100": "mlp_6_6_6_4",
    "mlp_300_300_300_300_100": "mlp_6_6_6_6_4", "mlp_100_50": "mlp_10_5",
}  # fmt: skip


def smoke(part):
    """Return the part with small networks of the same structure, on few and plain batches."""
    train = replace(part.train, augment=False, batch_size=10, weight_decay=0.0)
    if hasattr(part, "networks"):
        small = tuple((n, SMALL.get(m, m.replace("64", "8"))) for n, m in part.networks)
        return replace(part, train=train, networks=small)
    return replace(part, train=train, model=SMALL[part.model])


@pytest.mark.parametrize("name", NAMES)
def test_a_smoke_run_writes_a_record_that_all_claims_read(name, digits, tmp_path):
    design = experiment(name)
    design = replace(design, parts=tuple(map(smoke, design.parts)), seeds=(0,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that die in networks so small
        rows, provenance = run(design, digits, scale=0.01)
    lt.save_rows(rows, name, provenance, root=tmp_path)
    wide = lt.widen(lt.load_rows(name, root=tmp_path))
    if "elastic" in name:  # networks that know nothing yet have no barrier
        wide["height"] = wide["height"].fillna(0.0) if "height" in wide else 0.0
    claims = [claim for claim in CLAIMS if claim.record == name]
    assert claims
    for claim in claims:
        for setting in claim.settings:
            for effect in setting.effects:
                assert effect.interval(wide).n == 1, (claim.key, setting.name)
    verdicts = lt.claims({name: wide}, record=name)["verdict"]
    assert verdicts.str.startswith("not enough runs (1 of").all()


def test_the_cost_of_a_scaled_run_shrinks_with_it():
    (part, _) = experiment("digits-dual").parts
    from lth_tutorial.experiments import scaled

    (small, _) = scaled(experiment("digits-dual"), 0.1).parts
    assert (small.penalised_steps, small.ramp) == (60, 40) != (part.penalised_steps, part.ramp)
    assert small.strengths == part.strengths
