from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from samples import table

import lth_tutorial as lt
from lth_tutorial.results.records import COLUMNS, PROVENANCE, lengthen, load_provenance
from lth_tutorial.runtime import write_atomically


@pytest.fixture
def record():
    rows = table(ticket=[0.9, 0.8], random=[0.5, 0.6])
    rows["steps_to_95"], rows["steps_to_95_censored"] = 40, rows["accuracy"] < 0.7
    provenance = dict.fromkeys(PROVENANCE, "…")
    return rows, lengthen(rows, record="r", data="digits"), provenance


def test_rows_survive_the_way_to_disk_and_back(record, tmp_path):
    wide, long, provenance = record
    lt.save_rows(long, "r", provenance, root=tmp_path)
    loaded = lt.load_rows("r", root=tmp_path)
    assert tuple(loaded.columns) == COLUMNS
    back = lt.widen(loaded).sort_values(["arm", "seed", "round"], ignore_index=True)
    wide = wide.sort_values(["arm", "seed", "round"], ignore_index=True)
    pd.testing.assert_frame_equal(back[wide.columns], wide, check_dtype=False)
    assert loaded.attrs["provenance"]["command"] == "…"
    assert lt.recorded(root=tmp_path) == ["r"]


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-5], lambda b: b.replace(b"0.8", b"0.9"), lambda b: b""]
)
def test_a_damaged_or_edited_table_is_refused(record, tmp_path, damage):
    path = lt.save_rows(record[1], "r", record[2], root=tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"r\.csv is not the table that r\.json describes"):
        lt.load_rows("r", root=tmp_path)


def test_damaged_provenance_and_other_schemas_are_refused(record, tmp_path):
    path = lt.save_rows(record[1], "r", record[2], root=tmp_path).with_suffix(".json")
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"schema": 99}))
    with pytest.raises(ValueError, match="schema 99; .* reads schema 1: .* measure .* run r"):
        lt.load_rows("r", root=tmp_path)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"r\.json is damaged"):
        load_provenance("r", root=tmp_path)


def test_a_record_that_was_not_run_says_so(record, tmp_path):
    lt.save_rows(record[1], "r", record[2], root=tmp_path)
    with pytest.raises(FileNotFoundError, match="'other' is not yet run; recorded so far: r"):
        lt.load_rows("other", root=tmp_path)


def test_an_incomplete_record_is_not_written(record, tmp_path):
    _, long, provenance = record
    for rows, about, message in (
        (long.drop(columns="value"), provenance, "lacks value"),
        (long, {k: v for k, v in provenance.items() if k != "device"}, "lacks device"),
        (long.iloc[:0], provenance, "no rows"),
        (pd.concat([long, long.iloc[:1]]), provenance, "says something twice"),
    ):
        with pytest.raises(ValueError, match=message):
            lt.save_rows(rows, "r", about, root=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "f"
    write_atomically(path, b"old")

    def fail(*arguments):
        raise OSError("disk full")

    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["f"]


def test_concurrent_writers_leave_one_whole_file(tmp_path):
    contents = [bytes([i]) * 100_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda c: write_atomically(tmp_path / "f", c), contents))
    assert (tmp_path / "f").read_bytes() in contents and len(list(tmp_path.iterdir())) == 1


def test_records_are_not_mixed_silently(record):
    _, long, _ = record
    for column, other in (("scale", 0.1), ("record", "s"), ("data", "mnist")):
        with pytest.raises(ValueError, match=f"mix {column}"):
            lt.widen(pd.concat([long, long.assign(**{column: other})]))


@pytest.mark.parametrize("name", lt.recorded())
def test_every_shipped_record_is_in_order(name):
    """Schema, provenance, declared replicates, values in range."""
    from lth_tutorial.experiments import experiment, scaled
    from lth_tutorial.experiments.design import LotteryPart

    rows, about = lt.load_rows(name), load_provenance(name)
    design = scaled(experiment(name), about["scale"])
    assert set(PROVENANCE) <= set(about) and about["scale"] == rows["scale"].unique().item()
    assert set(rows["seed"]) == set(about["seeds"]) <= set(design.seeds)
    assert len(about["seeds"]) >= 5 or name.startswith("cifar")
    labels = {part.label for part in design.parts}
    assert {arm.rpartition(": ")[0] for arm in rows["arm"]} <= labels
    for part in (part for part in design.parts if isinstance(part, LotteryPart)):
        arms = [f"{part.label}: {arm}" if part.label else arm for arm in part.arms]
        wide = lt.widen(rows[rows["arm"].isin(arms)])
        assert set(wide["round"]) == set(range(part.imp.rounds + 1))
        assert len(wide) == len(arms) * len(about["seeds"]) * (part.imp.rounds + 1)
    shares = rows[rows["metric"].str.contains("accuracy")]
    assert shares["value"].between(0, 1).all() and rows["density"].between(0, 1).all()
    assert not rows.duplicated(["arm", "seed", "round", "step", "metric"]).any()
