"""The experiments of chapter 14 at smoke scale, and what they leave behind besides rows."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import lth_tutorial as lt
from lth_tutorial.experiments import experiment, run
from lth_tutorial.experiments.__main__ import main
from lth_tutorial.experiments.looks import LocalityPart
from lth_tutorial.experiments.spiral import DescentPart, MasksPart, SpiralPrunersPart
from lth_tutorial.variants.shipped import (
    load_masks,
    load_solution,
    pack_masks,
    pack_solutions,
    shipped_files,
    unpack_masks,
)
from lth_tutorial.variants.spiral_search import Found

SHORT = lt.TrainConfig(steps=20, batch_size=40, optimizer="adam", lr=1e-2)


@pytest.fixture
def alone(monkeypatch):
    """One worker: processes take longer to start than these runs take."""
    for module in ("looks", "spiral"):
        monkeypatch.setattr(f"lth_tutorial.experiments.{module}.available_workers", lambda: 1)


def test_masks_survive_packing_to_the_bit():
    masks = {
        ("original", 3, 12): {
            "fc1.weight": torch.rand(7, 13) < 0.1,
            "output.weight": torch.ones(2, 7) > 0,
        },
        ("class clone", 0, 0): {"fc1.weight": torch.rand(5, 3) < 0.5},
    }
    again = unpack_masks(pack_masks(masks))
    assert set(again) == set(masks)
    for cell, mask in masks.items():
        assert list(again[cell]) == list(mask)
        assert all(torch.equal(again[cell][name], kept) for name, kept in mask.items())
    assert pack_masks(masks) == pack_masks(masks)
    with pytest.raises(ValueError, match="no packed masks, or they are damaged"):
        unpack_masks(b"PK something else")


def test_a_packed_mask_takes_less_than_a_bit_per_weight_where_it_is_sparse():
    kept = torch.rand(300, 784, generator=torch.Generator().manual_seed(0)) < 0.02
    assert len(pack_masks({("a", 0, 0): {"fc1.weight": kept}})) < 300 * 784 / 8 / 2


def test_locality_on_every_kind_of_images_at_smoke_scale(digits, tmp_path, alone):
    imp = lt.IMPConfig(rounds=2, fraction=0.5, scope="layer")
    parts = tuple(
        LocalityPart("mlp_10", SHORT, imp, arm, images, f"{arm} on {images}")
        for arm, images in (
            ("ticket", "original"), ("one_shot", "original"), ("ticket", "permuted"),
            ("ticket", "gaussian_shared"),
        )
    )  # fmt: skip
    sifted = LocalityPart("sifting_10", SHORT, imp, "sifted", label="sifting")
    design = replace(experiment("mnist-locality"), seeds=(0, 1), parts=(*parts, sifted))
    rows, about = run(design, digits, workdir=tmp_path)
    lt.save_rows(rows, design.name, about, root=tmp_path)
    wide = lt.widen(lt.load_rows(design.name, root=tmp_path))
    assert wide.groupby("arm").size().eq(6).all() and wide["arm"].nunique() == 5
    own = wide[wide["arm"] == "ticket on permuted: ticket"]
    assert own["neighbours_here"].notna().all()
    files = sorted(path.name for path in tmp_path.glob("part_*/shipped/*"))
    assert files == [
        "one-shot-on-original.npz", "sifting.npz", "ticket-on-gaussian-shared.npz",
        "ticket-on-original.npz", "ticket-on-permuted.npz",
    ]  # fmt: skip
    masks = unpack_masks((tmp_path / "part_0" / "shipped" / files[3]).read_bytes())
    # All rounds of the first seed, the last of the others.
    assert sorted(masks) == [
        ("ticket on original", 0, 0), ("ticket on original", 0, 1), ("ticket on original", 0, 2),
        ("ticket on original", 1, 2),
    ]  # fmt: skip
    kept = masks["ticket on original", 1, 2]["fc1.weight"]
    row = wide[(wide["arm"] == "ticket on original: ticket") & (wide["seed"] == 1)].iloc[-1]
    assert row["neighbours"] == pytest.approx(lt.neighbour_share(kept, (8, 8)), abs=1e-5)


def test_the_search_ships_the_sparsest_network_that_it_found(tmp_path, alone):
    data = lt.cubist_spiral(200)
    parts = (
        DescentPart((3, 3, 2), SHORT, SHORT, restarts=4, pool=2, children=4, label="descent"),
        MasksPart((2, 2, 2), (14, 13), SHORT, restarts=2, label="every mask"),
        MasksPart((3, 2, 2), (14,), SHORT, draw=3, label="random"),
    )
    design = replace(experiment("spiral-search"), seeds=(0, 1), parts=parts, together=(1, 1))
    rows, _ = run(design, data, workdir=tmp_path)
    wide = lt.widen(rows)
    every = wide[wide["arm"] == "every mask: exhaustive"]
    # All 14 weights: one mask. One less: of each layer one, up to the names of units (2·2 with
    # inputs; 1; 1; 1), as long as every unit stays connected: of the last layer none.
    assert every.loc[every["weights"] == 14, "masks"].eq(1).all()
    listed = len(lt.enumerate_masks((2, 2, 2), 13))
    assert every.loc[every["weights"] == 13, "masks"].eq(listed).all()
    assert every.loc[every["weights"] == 13, "trainings"].eq(2 * listed).all()
    descent = wide[wide["arm"] == "descent: search"]
    assert descent.groupby("seed")["weights"].max().eq(23).all()


def test_solutions_survive_packing_and_the_sparsest_of_all_files_is_loaded(tmp_path):
    data = lt.cubist_spiral(200)
    for record, widths in (("spiral-masks", (3, 2, 2)), ("spiral-search", (3, 3, 3))):
        folder = shipped_files(record, root=tmp_path)
        folder.mkdir(parents=True)
        model = lt.spiral_network(widths, 0)
        mask = lt.dense_mask(model)
        weights = sum(m.numel() for m in mask.values())
        one = Found(weights, lt.evaluate(model, data).accuracy, 1, mask, lt.snapshot(model))
        (folder / f"solutions-{weights}.json").write_bytes(pack_solutions({"0.95": one}))
    model, mask = load_solution(0.95, root=tmp_path)
    expected = lt.snapshot(lt.spiral_network((3, 2, 2), 0))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in lt.snapshot(model).items())
    assert sum(int(kept.sum()) for kept in mask.values()) == 18
    with pytest.raises(ValueError, match="0.995"):
        load_solution(0.995, root=tmp_path)
    with pytest.raises(FileNotFoundError, match="run spiral-search"):
        load_solution(0.95, root=tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="run mnist-locality"):
        load_masks("mnist-locality", root=tmp_path)


def test_the_command_line_puts_masks_beside_the_record(tmp_path, monkeypatch, alone, capsys):
    imp = lt.IMPConfig(rounds=1, fraction=0.5, scope="layer")
    part = LocalityPart("mlp_6", SHORT, imp, label="original")
    design = replace(experiment("mnist-locality"), dataset="digits", seeds=(0, 1), parts=(part,))
    monkeypatch.setattr("lth_tutorial.experiments.EXPERIMENTS", (design,))
    assert main(["run", design.name, "--out", str(tmp_path), "--workdir", str(tmp_path / "w")]) == 0
    masks = load_masks(design.name, root=tmp_path)
    assert set(masks) == {("original", 0, 0), ("original", 0, 1), ("original", 1, 1)}
    assert "original.npz" in capsys.readouterr().out


def test_pruners_of_one_width_are_rows_of_one_part(alone):
    part = SpiralPrunersPart(4, SHORT, (30, 20), arms=("ticket", "snip"), label="width 4")
    design = replace(experiment("spiral-pruners"), seeds=(0, 1), parts=(part,))
    rows, _ = run(design, lt.cubist_spiral(200))
    wide = lt.widen(rows)
    assert set(wide["arm"]) == {"width 4: ticket", "width 4: snip"}
    assert np.isfinite(wide["weights"]).all()


def test_every_search_of_the_record_is_possible():
    """Masks are counted and drawn here, so that a run of minutes cannot stop at a refusal."""
    for part in experiment("spiral-masks").parts:
        for n in getattr(part, "weights", ()):
            drawn = lt.random_masks(part.widths, n, 5, 0) if part.draw else None
            assert drawn or lt.enumerate_masks(part.widths, n)


def test_the_locality_record_compares_equal_densities():
    ticket, once, *_ = experiment("mnist-locality").parts
    for name, share in ticket.imp.fraction.items():
        assert (1 - once.imp.fraction[name]) == pytest.approx((1 - share) ** 5)
    assert (once.imp.rounds, ticket.imp.rounds) == (1, 5)
    assert len(experiment("mnist-locality").seeds) >= 8


def test_damaged_files_beside_a_record_are_named(tmp_path):
    folder = shipped_files("spiral-search", root=tmp_path)
    folder.mkdir(parents=True)
    model = lt.spiral_network((3, 3, 3), 0)
    mask = lt.dense_mask(model)
    whole = pack_solutions({"0.95": Found(24, 0.5, 1, mask, lt.snapshot(model))})
    path = folder / "solutions-a.json"
    digit = whole.replace(b'"weights": 24', b'"weights": 25')
    for wrong in (digit, b"[" * 100_000, b'{"0.95": {"weights": 3}}', b"\xfe\xff{", b"[1]", b"3"):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match="solutions-a.json is damaged"):
            load_solution(0.95, root=tmp_path)
    known = json.loads(whole)
    del known["sha256"]
    path.write_text(json.dumps(known))
    with pytest.warns(lt.UncheckedFileWarning, match="without a checksum"):
        load_solution(0.95, root=tmp_path)
    raw = pack_masks({("a", 0, 0): lt.dense_mask(model)})
    turned = bytearray(raw)
    turned[raw.index(b".npy") + 30] ^= 8
    for wrong in (raw[:-30], b"", bytes(turned)):
        (folder / "a.npz").write_bytes(wrong)
        with pytest.raises(ValueError, match=r"a\.npz: these are no packed masks"):
            load_masks("spiral-search", root=tmp_path)
