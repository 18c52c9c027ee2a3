"""The short protocols: each is declared, and runs from a budget to the gallery."""

from __future__ import annotations

from dataclasses import fields, replace

import matplotlib
import numpy as np
import pytest
from PIL import Image

import lth_tutorial as lt
from lth_tutorial.experiments import EXPERIMENTS, experiment, short
from lth_tutorial.experiments.__main__ import main
from lth_tutorial.training.config import IMPConfig, TrainConfig

matplotlib.use("Agg")
SHORT = [design.name for design in short.EXPERIMENTS]
LONG = [
    d.name for d in EXPERIMENTS
    if d.dataset == "cifar10" and not d.name.endswith("-short") and d.chapter not in (9, 13, 14)
]  # fmt: skip


def configs(design):
    return [v for part in design.parts for v in vars(part).values() if isinstance(v, TrainConfig)]


@pytest.mark.parametrize("name", LONG)
def test_every_long_protocol_has_a_short_one(name):
    assert f"{name}-short" in SHORT or name == "cifar10-conv2-imp"  # a part of cifar10-conv-imp


@pytest.mark.parametrize("name", SHORT)
def test_a_short_protocol_is_short_and_has_claims(name):
    design = experiment(name)
    assert len(design.seeds) >= 3
    for config in configs(design):
        assert config.steps <= 12_000 and 32 <= config.batch_size <= 128
        assert config.precision == "bf16"
    claims = [claim for claim in lt.CLAIMS if claim.record == name]
    assert claims and all("short" in claim.key and "short" in claim.network for claim in claims)
    rewound = {part.label: part.rewind_steps for part in design.parts if "rewinding" in name}
    assert all(len(steps) == 1 for steps in rewound.values()), "a part for each rewind step"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of random images of CIFAR-10's shape."""
    root, random = tmp_path_factory.mktemp("images") / "cifar10-noise", np.random.default_rng(0)
    for split, n in (("train", 8), ("test", 2)):
        for label in range(10):
            (root / split / str(label)).mkdir(parents=True)
            for i in range(n):
                pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / str(label) / f"{i}.png")
    return root


def tiny(design):
    """Return a design with one seed, batches of 8 and as few rounds as it can have."""

    def smaller(part):
        changes = {}
        for field in fields(part):
            value = getattr(part, field.name)
            if isinstance(value, TrainConfig):
                changes[field.name] = replace(value, batch_size=8)
            if isinstance(value, IMPConfig) and not hasattr(part, "rounds"):
                changes[field.name] = replace(value, rounds=1)
        return replace(
            part, **changes, **({"synflow_rounds": 1} if hasattr(part, "synflow_rounds") else {})
        )

    parts = tuple(smaller(part) for part in design.parts)
    return replace(design, seeds=(0,), together=(), parts=parts)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_a_short_protocol_runs_from_budget_to_gallery(name, folder, tmp_path, monkeypatch, capsys):
    """Stopped by a budget, gone on with, merged elsewhere, shown."""
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path / "home")
    few = tuple(tiny(design) for design in EXPERIMENTS)
    monkeypatch.setattr("lth_tutorial.experiments.EXPERIMENTS", few)
    # Of 6,300 steps, three: fewer would have no rewind step in the middle.
    scale = "0.0005" if "after-pruning" in name else "0.0002"
    run = ["run", name, "--scale", scale, "--data", f"folder:{folder}"]
    run += ["--out", str(tmp_path / "a")]
    assert main([*run, "--budget", "0.2s"]) == 0
    assert "stopped: the time is up" in capsys.readouterr().out
    assert main(run) == 0
    assert main(["merge", str(tmp_path / "a"), "--out", str(tmp_path / "b")]) == 0
    rows = lt.load_rows(name, root=tmp_path / "b")
    assert rows["data"].unique() == ["folder-cifar10-noise"]
    assert {part["label"] for part in rows.attrs["provenance"]["parts"]} == {
        entry["part"] for entry in rows.attrs["provenance"]["tasks"]
    }
    page = lt.gallery(name, rows)._repr_html_()
    assert "n = 1" in page and ("not enough runs (" in page or "not yet run" in page)
    # On noise, copies end no better than a constant answer, and there is no barrier to draw.
    assert "<img" in page or "instability" in name
