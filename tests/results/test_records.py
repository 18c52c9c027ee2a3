from __future__ import annotations

import json
import os

import pandas as pd
import pytest
from samples import table

import lth_tutorial as lt
from lth_tutorial.results.records import COLUMNS, PROVENANCE, lengthen, load_provenance


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
    with pytest.raises(ValueError, match="schema 99; .* reads schema 2: .* measure .* run r"):
        lt.load_rows("r", root=tmp_path)
    for other in ("{", "[]", "null", json.dumps(about | {"device": "another"})):
        path.write_text(other)
        with pytest.raises(ValueError, match=r"r\.json is damaged"):
            load_provenance("r", root=tmp_path)


def test_one_turned_bit_of_the_provenance_is_noticed(record, tmp_path):
    path = lt.save_rows(record[1], "r", record[2], root=tmp_path).with_suffix(".json")
    raw, about = path.read_bytes(), lt.load_provenance("r", root=tmp_path)
    for i in range(8 * len(raw)):
        turned = bytearray(raw)
        turned[i // 8] ^= 1 << i % 8
        path.write_bytes(turned)
        try:
            assert lt.load_provenance("r", root=tmp_path) == about  # a space became another
        except ValueError:
            continue


def test_provenance_that_is_another_kind_of_json_is_refused(record, tmp_path):
    _, long, provenance = record
    path = lt.save_rows(long, "r", provenance, root=tmp_path).with_suffix(".json")
    for wrong in (b"[" * 100_000, b'{"schema": 2, "sha256": 5}', b"[1]", b"\xfe\xff{"):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match="r.json"):
            lt.load_rows("r", root=tmp_path)
        if b"sha256" not in wrong:
            with pytest.raises(ValueError, match="is no record of this package"):
                lt.save_rows(long, "r", provenance, root=tmp_path)
            assert path.read_bytes() == wrong
    path.write_bytes(b'{"schema": 2, "sha256": 5}')
    lt.save_rows(long, "r", provenance, root=tmp_path)
    assert len(lt.load_rows("r", root=tmp_path)) == len(long)


def test_a_record_of_an_earlier_version_loads_with_a_note_and_gets_a_checksum(record, tmp_path):
    path = lt.save_rows(record[1], "r", record[2], root=tmp_path).with_suffix(".json")
    about = json.loads(path.read_text())
    old = {key: value for key, value in about.items() if key not in ("checksum", "record")}
    path.write_text(json.dumps(old | {"schema": 1}))
    with pytest.warns(lt.UncheckedFileWarning, match="r.json was written without a checksum"):
        rows = lt.load_rows("r", root=tmp_path)
    lt.save_rows(rows, "r", rows.attrs["provenance"], root=tmp_path)
    assert json.loads(path.read_text()) == about, "and says nothing any more"
    lt.load_rows("r", root=tmp_path)


def test_rows_of_a_record_are_saved_anew_under_its_provenance(record, tmp_path):
    lt.save_rows(record[1], "r", record[2], root=tmp_path)
    rows = lt.load_rows("r", root=tmp_path)
    some = rows[rows["seed"] == 0]
    lt.save_rows(some, "part", rows.attrs["provenance"], root=tmp_path)
    again = lt.load_rows("part", root=tmp_path)
    assert len(again) == len(some) and again.attrs["provenance"]["record"] == "part"


def test_exchanged_records_are_noticed(record, tmp_path):
    for name in ("a", "b"):
        lt.save_rows(record[1], name, record[2] | {"device": name}, root=tmp_path)
    for suffix in (".csv", ".json"):
        a, b, t = (tmp_path / f"{name}{suffix}" for name in "abt")
        a.rename(t), b.rename(a), t.rename(b)
    with pytest.raises(ValueError, match="record 'b': it was renamed or exchanged"):
        lt.load_rows("a", root=tmp_path)


BAD_NAMES = [
    "", ".", "..", "../x", "a/b", "/abs/x", "a\\b", ".hidden", "-x", "a:b", "a b", "a\n", "a\0",
    "nul", "COM1.x", "x" * 101, "a.", None, 3, b"r", ["r"],
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_a_name_that_is_no_plain_file_name_is_refused(record, tmp_path, name):
    root = tmp_path / "inside"
    for call in (
        lambda: lt.save_rows(record[1], name, record[2], root=root),
        lambda: lt.load_rows(name, root=root),
        lambda: lt.load_provenance(name, root=root),
    ):
        with pytest.raises(ValueError, match="(plain file name of letters|name is a text).*got"):
            call()
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("name", ["digits-winning-tickets", "a_1.2+b", "Größe", "r"])
def test_usual_names_are_taken(record, tmp_path, name):
    lt.save_rows(record[1], name, record[2], root=tmp_path)
    assert lt.recorded(root=tmp_path) == [name]


def test_a_users_own_table_is_not_overwritten(record, tmp_path):
    (tmp_path / "results.csv").write_text("mine")
    (tmp_path / "package.json").write_text("{}")
    for name in ("results", "package"):
        with pytest.raises(ValueError, match=rf"{name}\.\w+ is no record of this package"):
            lt.save_rows(record[1], name, record[2], root=tmp_path)
    assert lt.recorded(root=tmp_path) == []
    assert (tmp_path / "results.csv").read_text() == "mine"
    assert (tmp_path / "package.json").read_text() == "{}"


class Kill(BaseException):
    pass


def test_a_record_can_be_read_whatever_moment_a_kill_comes(record, tmp_path, monkeypatch):
    """Every call that changes the disk is the last one once; a real kill leaves the same files."""
    _, long, about = record
    some = long[long["seed"] == 0]

    def files() -> dict:
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def save(rows, n: int | None = None) -> bool:
        calls = [0]

        def dying(function):
            def call(*arguments, **options):
                calls[0] += 1
                if n is not None and calls[0] >= n:
                    raise Kill  # and whatever would tidy up dies too
                return function(*arguments, **options)

            return call

        with monkeypatch.context() as now:
            for owner, name in ((os, "replace"), (os, "fsync"), (os, "unlink"), (os, "chmod")):
                now.setattr(owner, name, dying(getattr(owner, name)))
            try:
                lt.save_rows(rows, "r", about, root=tmp_path)
                return True
            except Kill:
                return False

    save(some)
    seen, n = set(), 0
    whole = False
    while not whole:
        n += 1
        whole = save(long, n)
        found = len(lt.load_rows("r", root=tmp_path))
        assert found in (len(some), len(long)) and lt.recorded(root=tmp_path) == ["r"]
        seen.add((whole, found))
        save(long if found == len(some) else some)  # a killed writer is no obstacle
        save(some)
        assert len(lt.load_rows("r", root=tmp_path)) == len(some)
        assert set(files()) == {"r.csv", "r.json"} or n < 99
    assert n > 5 and len(seen) == 3, "old, new before the end, new at the end"


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.assign(note="mine"), "no place for note; its columns are record, data"),
        (lambda rows: rows.assign(arm="NA"), "read again as it is: .*,NA,"),
        (lambda rows: rows.assign(arm="a\rb"), "could not be read again"),
        (lambda rows: rows.assign(seed=rows["seed"] + 0.5), "could not be read again"),
        (lambda rows: rows.assign(value="many"), "could not be read again: .*'many'"),
        (lambda rows: rows.assign(value=True), "could not be read again"),
    ],
)
def test_rows_that_would_come_back_otherwise_are_refused(record, tmp_path, change, message):
    _, long, provenance = record
    long = long.drop_duplicates(["seed", "round", "step", "metric"])
    lt.save_rows(long, "r", provenance, root=tmp_path)
    with pytest.raises(ValueError, match=message):
        lt.save_rows(change(long), "r", provenance, root=tmp_path)
    assert len(lt.load_rows("r", root=tmp_path)) == len(long)


def test_rows_that_say_something_twice_are_not_widened(record):
    with pytest.raises(ValueError, match="say something twice: {'arm': 'ticket'"):
        lt.widen(pd.concat([record[1], record[1].iloc[:1]]))


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
