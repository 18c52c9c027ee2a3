"""The recorded experiment of chapter 7, and the claims that its rows decide."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

import lth_tutorial as lt
from lth_tutorial.claims import CLAIMS
from lth_tutorial.experiments import experiment, run

FULL = "cifar10-resnet20-after-pruning"


def test_a_smoke_run_writes_a_record_that_the_claims_read(digits, tmp_path):
    design = experiment(FULL)
    (part,) = design.parts
    small = replace(part, model="mlp_8", train=replace(part.train, augment=False, batch_size=50))
    design = replace(design, parts=(small,), seeds=(0, 1))
    rows, provenance = run(design, digits, scale=0.001)
    lt.save_rows(rows, FULL, provenance, root=tmp_path)
    wide = lt.widen(lt.load_rows(FULL, root=tmp_path))
    assert sorted(wide["step"].unique()) == [2, 32, 50]
    densities = wide.groupby("round")["density"].mean()
    assert densities.tolist() == pytest.approx([1, 0.45, 0.2025, 0.0911], abs=2e-3)
    at_scale = wide.replace({"step": {2: 2_000}})
    table = lt.claims({FULL: at_scale}, record=FULL).set_index("key")["verdict"]
    assert len(table) == 3 and set(table) == {"not enough runs (2 of 3)"}


def test_the_networks_of_the_record_are_the_papers():
    (part,) = experiment(FULL).parts
    assert (part.model, part.train.steps, part.train.lr_drops) == (
        "resnet_20", 63_000, (32_000, 48_000),
    )  # fmt: skip
    assert part.train.augment and part.train.weight_decay == 1e-4 and len(part.arms) == 3
    assert max(part.rewind_steps) > 48_000, "one budget lies behind the last drop"


def live_rows(gap: float, steps=(0, 350)) -> pd.DataFrame:
    """Return rows in which fine-tuning loses `gap`, except at step 350, where rewinding does."""
    return pd.DataFrame(
        {
            "arm": arm,
            "seed": seed,
            "rewind_step": k,
            "round": i,
            "density": 0.5**i,
            "accuracy": 0.98 + seed / 1000 - gap * ((i > 0) and arm == loser),
        }
        for k, loser in zip(steps, ("fine_tune", "rewind"), strict=True)
        for arm in ("rewind", "lr_rewind", "fine_tune")
        for seed in range(4)
        for i in range(6)
    )


def test_the_claims_read_the_rewind_step_they_name():
    def verdicts(gap):
        rows = live_rows(gap)
        measured = {"digits-after-pruning": rows, "digits-fine-tuning-rate": rows.query(
            "rewind_step == 0"
        )}  # fmt: skip
        return lt.claims(measured, chapter=7, level="live").set_index("key")["verdict"]

    wide, none = verdicts(0.02), verdicts(0.0)
    assert (
        wide["rate-rewinding-beats-fine-tuning"] == wide["rewinding-beats-fine-tuning"] == "holds"
    )
    assert wide["short-budgets-favour-fine-tuning"] == "holds"
    assert wide["rate-explains-the-gap"] == "fails here"
    assert none["rate-rewinding-beats-fine-tuning"] == "fails here"
    assert none["rate-explains-the-gap"] == none["pruned-networks-match"] == "holds"


def test_matching_is_declared_for_several_densities():
    (claim,) = (claim for claim in CLAIMS if claim.key == "pruned-networks-match")
    rows = live_rows(0.0)
    sparse = (rows["arm"] == "lr_rewind") & (rows["round"] >= 2)
    rows.loc[sparse, "accuracy"] -= 0.03
    assert claim.verdict(rows) == "holds only if 50 % of weights, k = 0"
