"""The packed tickets that come with the package, and how they are made."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

import lth_tutorial as lt
import lth_tutorial.supermask.shipped
from lth_tutorial.experiments import EXPERIMENTS, Experiment, experiment, run
from lth_tutorial.experiments.__main__ import main
from lth_tutorial.experiments.supermasks import SupermaskPart
from lth_tutorial.experiments.tickets import has_tickets, pack_tickets
from lth_tutorial.supermask.shipped import SUFFIX, shipped_folder

SHIPPED = lt.shipped_tickets()


def test_the_files_are_small():
    sizes = [path.stat().st_size for path in shipped_folder().iterdir()]
    assert len(sizes) == len(SHIPPED) >= 4
    assert max(sizes) <= 1.5e6 and sum(sizes) <= 4e6
    assert (8 * SHIPPED["bytes"] / SHIPPED["weights"]).max() < 1.7


@pytest.mark.parametrize("name", SHIPPED.index)
def test_a_shipped_ticket_is_a_network_of_frozen_weights(name):
    """Loading checks the hashes of frozen and of effective weights."""
    network, row = lt.load_shipped_ticket(name), SHIPPED.loc[name]
    assert not network.training
    weights = {n: p for n, p in network.named_parameters() if n in lt.dense_mask(network)}
    assert sum(w.numel() for w in weights.values()) == row["weights"]
    kept = sum(int(w.count_nonzero()) for w in weights.values())
    assert kept == sum(round(row["keep"] * w.numel()) for w in weights.values())
    if row["arm"].startswith("biprop"):
        assert all(len(w.unique()) == 3 for w in weights.values()), "−gain, 0, gain"


@pytest.mark.parametrize("name", SHIPPED.index)
def test_a_shipped_ticket_is_the_best_run_of_its_record(name):
    row = SHIPPED.loc[name]
    design, rows = experiment(row["record"]), lt.widen(lt.load_rows(row["record"]))
    (part,) = [
        part for part in design.parts if part.model == row["network"] and row["arm"] in part.packed
    ]
    arm = f"{part.label}: {row['arm']}" if part.label else row["arm"]
    own = rows[(rows["arm"] == arm) & (rows["round"] == 1)].set_index("seed")["accuracy"]
    assert own.idxmax() == row["seed"] and len(own) == row["n"]
    assert row["accuracy"] == pytest.approx(own.max(), abs=2e-3)


@pytest.mark.parametrize("name", SHIPPED.index)
def test_a_shipped_ticket_is_as_accurate_as_it_says(name, digits):
    row = SHIPPED.loc[name]
    if row["data"] == "digits":
        data = digits
    elif "LTH_TUTORIAL_DATA" in os.environ:
        data = lt.load_dataset(row["data"], root=os.environ["LTH_TUTORIAL_DATA"])
    else:
        pytest.skip("needs the data set: set LTH_TUTORIAL_DATA to the folder that has it")
    accuracy = lt.evaluate(lt.load_shipped_ticket(name), data).accuracy
    # An image on the border may fall to the other side on another machine.
    assert accuracy == pytest.approx(row["accuracy"], abs=2.1 / len(data.y_test))


def test_an_unknown_ticket_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=re.escape("Did you mean 'digits-mlp-400-400-biprop")):
        lt.load_shipped_ticket("digits-mlp-400-biprop")


@pytest.fixture
def small(monkeypatch):
    """An experiment with two arms to pack, under the name of one that exists."""
    train = lt.TrainConfig(steps=30, batch_size=50, optimizer="adam", lr=0.02)
    part = SupermaskPart(
        "mlp_16", train, None, ("edge_popup", "biprop_norm"), (0.5, 0.3), batch_norm=True,
        packed=("edge_popup", "biprop_norm"), label="small",
    )  # fmt: skip
    design = Experiment("digits-wide-multi-prize", 12, "?", "digits", (0, 1, 2), (part,))
    others = [each for each in EXPERIMENTS if each.name != design.name]
    monkeypatch.setattr("lth_tutorial.experiments.EXPERIMENTS", (*others, design))
    return design


def load(path: Path, data):
    return lt.load_ticket(path, lt.with_batch_norm(lt.build_model("mlp_16", seed=9, data=data)))


def test_the_best_seed_of_every_arm_is_packed(small, digits, tmp_path, monkeypatch):
    work = tmp_path / "work"
    rows, _ = run(small, digits, workdir=work)
    paths = pack_tickets(small, digits, rows, tmp_path / "a", workdir=work)
    assert [path.name for path in paths] == [
        f"digits-mlp-16-{arm}{SUFFIX}" for arm in ("edge-popup", "biprop-norm")
    ]
    wide = lt.widen(rows)
    for path, arm in zip(paths, small.parts[0].packed, strict=True):
        own = wide[(wide["arm"] == f"small: {arm}") & (wide["round"] == 1)]
        assert own["accuracy"].nunique() > 1, "else any seed is the best"
        assert lt.evaluate(load(path, digits), digits).accuracy == own["accuracy"].max()
    again = pack_tickets(small, digits, rows, tmp_path / "b")  # searched once more, one seed alone
    monkeypatch.setattr(lth_tutorial.supermask.shipped, "shipped_folder", lambda: tmp_path / "b")
    table = lt.shipped_tickets()
    assert list(table.index) == sorted(path.stem for path in again)
    for name, row in table.iterrows():
        own = wide[(wide["arm"] == f"small: {row['arm']}") & (wide["round"] == 1)]
        assert row["seed"] == own.set_index("seed")["accuracy"].idxmax() and row["n"] == 3
        assert row["accuracy"] == pytest.approx(own["accuracy"].max(), abs=0.02), name


def test_a_whole_run_writes_its_tickets_and_a_scaled_one_does_not(small, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    command = ["run", small.name, "--out"]
    assert main([*command, str(tmp_path / "half"), "--scale", "0.5"]) == 0
    assert main([*command, str(tmp_path / "whole")]) == 0
    found = [sorted(p.name for p in tmp_path.glob(f"{f}/*{SUFFIX}")) for f in ("half", "whole")]
    assert len(found[0]) == 0 and len(found[1]) == 2
    before = {path.name: path.read_bytes() for path in (tmp_path / "whole").glob(f"*{SUFFIX}")}
    for path in (tmp_path / "whole").glob(f"*{SUFFIX}"):
        path.unlink()
    assert main(["pack", small.name, "--out", str(tmp_path / "whole")]) == 0
    assert sorted(before) == sorted(p.name for p in tmp_path.glob(f"whole/*{SUFFIX}"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits-winning-tickets", "names no arms to pack; these do: mnist-edge-popup"),
        ("cifar10-multi-prize", "not yet run"),
    ],
)
def test_what_cannot_be_packed_is_said(name, message, capsys):
    assert main(["pack", name]) == 2
    assert message in capsys.readouterr().err


def test_a_record_of_other_settings_is_not_packed(small, digits, tmp_path, monkeypatch, capsys):
    rows, about = run(small, digits)
    rows.attrs["provenance"] = about | {"data": "mnist"}
    monkeypatch.setattr("lth_tutorial.experiments.__main__.load_rows", lambda name, root: rows)
    assert main(["pack", small.name, "--out", str(tmp_path)]) == 2
    assert "data: 'mnist' there, 'digits' here" in capsys.readouterr().err


def test_a_scaled_record_is_not_packed(small, digits, tmp_path, monkeypatch, capsys):
    rows, about = run(small, digits, scale=0.5)
    rows.attrs["provenance"] = about
    monkeypatch.setattr("lth_tutorial.experiments.__main__.load_rows", lambda name, root: rows)
    assert main(["pack", small.name, "--out", str(tmp_path)]) == 2
    assert "scale 0.5, and a packed ticket is of a whole run" in capsys.readouterr().err
    assert has_tickets(small) and not has_tickets(replace(small, parts=()))
