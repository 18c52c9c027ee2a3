"""The claims of the quarrel give the verdicts that made-up rows deserve."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lth_tutorial.claims import CLAIMS
from lth_tutorial.claims.quarrel import ROUND
from lth_tutorial.experiments import experiment

OWN = {c.key: c for c in CLAIMS if c.key.startswith("quarrel")}
GOOD = {
    "low rate, step 0: ticket": 0.90, "low rate, step 0: reinit": 0.86,
    "low rate, step 50: ticket": 0.90, "low rate, step 50: reinit": 0.86,
    "high rate, step 0: ticket": 0.94, "high rate, step 0: reinit": 0.939,
    "high rate, step 50: ticket": 0.96, "high rate, step 50: reinit": 0.94,
    "no batch norm: ticket": 0.93, "no batch norm: reinit": 0.91,
    "high rate, batches of 50: ticket": 0.93, "high rate, batches of 50: reinit": 0.91,
    "rate 0.003, 4 times the steps: ticket": 0.95, "rate 0.003, 4 times the steps: reinit": 0.92,
    "rate 0.2: ticket": 0.95, "rate 0.2: reinit": 0.95,
}  # fmt: skip
BARRIERS = {
    ("low rate: dense", 0): 0.01, ("high rate: dense", 0): 0.15, ("high rate: dense", 50): 0.005,
    ("rate 0.2, copies: dense", 0): 0.07,
    ("rate 0.003, copies: dense", 0): 0.004,
}  # fmt: skip


def rows(change=(), barriers=(), seeds=32):
    noise = np.random.default_rng(0).normal(0, 0.002, (seeds, len(GOOD) + len(BARRIERS)))
    table = []
    for seed in range(seeds):
        draws = iter(noise[seed])
        for arm, accuracy in (GOOD | dict(change)).items():
            table.append(
                {"arm": arm, "seed": seed, "round": ROUND, "density": 0.0625, "step": pd.NA,
                 "accuracy": accuracy + next(draws), "height": np.nan}
            )  # fmt: skip
        for (arm, step), height in (BARRIERS | dict(barriers)).items():
            table.append(
                {"arm": arm, "seed": seed, "round": 0, "density": 1.0, "step": step,
                 "accuracy": np.nan, "height": height + next(draws)}
            )  # fmt: skip
    return pd.DataFrame(table).astype({"step": "Int64"})


@pytest.mark.parametrize("key", OWN)
def test_rows_that_tell_the_story_make_every_claim_hold(key):
    assert OWN[key].verdict(rows()) == "holds"
    assert OWN[key].verdict(None) == "not yet run"
    least = OWN[key].minimum_n
    assert OWN[key].verdict(rows(seeds=8)) == f"not enough runs (8 of {least})"


@pytest.mark.parametrize(
    ("key", "change", "barriers"),
    [
        ("quarrel-found", {"low rate, step 0: reinit": 0.90}, {}),
        ("quarrel-contradicted", {"high rate, step 0: reinit": 0.90}, {}),
        ("quarrel-contradicted-mnist", {"high rate, step 0: reinit": 0.90}, {}),
        ("quarrel-rescued", {"high rate, step 50: ticket": 0.93}, {}),
        ("quarrel-rescued", {"high rate, step 50: reinit": 0.97}, {}),
        ("quarrel-rescue-is-of-the-high-rate", {"low rate, step 50: ticket": 0.95}, {}),
        ("quarrel-instability", {}, {("low rate: dense", 0): 0.2}),
        ("quarrel-instability", {}, {("high rate: dense", 50): 0.1}),
        ("quarrel-explained", {"rate 0.2: reinit": 0.90}, {}),
        ("quarrel-explained", {}, {("rate 0.2, copies: dense", 0): 0.01}),
        ("quarrel-needs-noise", {"high rate, batches of 50: reinit": 0.93}, {}),
        ("quarrel-needs-noise-glorot", {"no batch norm: reinit": 0.93,
                                        "high rate, batches of 50: reinit": 0.93}, {}),
    ],
)  # fmt: skip
def test_rows_that_tell_another_story_make_a_claim_fail(key, change, barriers):
    assert OWN[key].verdict(rows(change, barriers)) == "fails here"


def test_every_arm_that_a_claim_reads_is_measured():
    for name in ("digits-quarrel", "digits-three-acts", "mnist-quarrel", "digits-quarrel-rates"):
        labels = {part.label for part in experiment(name).parts}
        read = {arm.split(": ")[0] for arm in [*GOOD, *(arm for arm, _ in BARRIERS)]}
        own = {label for label in read if label.startswith("rate ") == name.endswith("rates")}
        if name == "mnist-quarrel":
            own -= {"no batch norm", "high rate, batches of 50"}
        if name == "digits-three-acts":
            own -= {"no batch norm"}
        assert own <= labels, own - labels
