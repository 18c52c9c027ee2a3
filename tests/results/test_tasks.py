"""Records as sets of finished tasks: nothing is lost on the way apart and together."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import lth_tutorial as lt
from lth_tutorial.results import tasks as module
from lth_tutorial.results.objects import names_of, read_object, write_object
from lth_tutorial.results.records import PROVENANCE, load_provenance
from lth_tutorial.results.tasks import combine, from_bytes, join, lines_of, split, to_bytes


@pytest.mark.parametrize("name", lt.recorded())
def test_a_shipped_record_converts_without_loss(name, tmp_path):
    rows = lt.load_rows(name)
    about = rows.attrs["provenance"]
    tasks = split(rows)
    assert len(tasks) == len(about["parts"]) * len(about["seeds"])
    assert len({task.name for task in tasks}) == len(tasks)
    again = [from_bytes(to_bytes(task), task.name) for task in tasks]
    together, provenance = join(again[::-1], about["parts"])
    assert lines_of(together) == lines_of(rows)
    assert provenance["seeds"] == sorted(about["seeds"])
    assert provenance["wall_time_s"] == pytest.approx(about["wall_time_s"], abs=0.11)
    for key in ("commit", "versions", "device", "date", "parts"):
        assert provenance[key] == about[key]
    for entry in about.get("earlier", []):
        (own,) = [e for e in provenance["tasks"] if set(e["seeds"]) == set(entry["seeds"])]
        assert all(own[key] == entry[key] for key in ("commit", "device", "date"))
    kept = {key: about[key] for key in ("command", "scale", "data")}
    lt.save_rows(together, name, {**kept, **provenance}, root=tmp_path)
    saved = lt.load_rows(name, root=tmp_path)
    assert lines_of(saved) == lines_of(rows)
    for one, other in zip(tasks, split(saved), strict=True):
        assert one.key == other.key and lines_of(one.rows) == lines_of(other.rows)
        times = one.about["seconds"], other.about["seconds"]
        assert times[0] == pytest.approx(times[1], abs=1e-3)
        assert {**one.about, "seconds": 0} == {**other.about, "seconds": 0}
    assert {k for k in PROVENANCE} <= set(load_provenance(name, root=tmp_path))


@pytest.fixture
def some():
    return split(lt.load_rows("mnist-lenet-instability"))


def elsewhere(task, **about):
    return replace(task, about={**task.about, "finished": "2030-01-01T00:00:00", **about})


def altered(task, factor):
    return replace(task, rows=task.rows.assign(value=task.rows["value"] * factor))


def test_the_same_task_twice_counts_once(some):
    kept, aside = combine([("a", some[0]), ("b", elsewhere(some[0])), ("a", some[1])])
    assert [task.key for task in kept] == [some[0].key, some[1].key] and not aside


def test_times_by_the_clock_may_differ(some):
    clock = some[0].rows.assign(metric="seconds")
    one = replace(some[0], rows=clock)
    kept, aside = combine([("a", one), ("b", altered(elsewhere(one), 2))])
    assert kept == [one] and not aside


def test_other_rows_on_the_same_kind_of_machine_are_an_error_that_shows_both(some):
    other = altered(elsewhere(some[0]), 1.5)
    with pytest.raises(ValueError, match="only a has .*; only b has .*Nothing was written"):
        combine([("a", some[0]), ("b", other)])


@pytest.mark.parametrize(
    "about",
    [{"device": "NVIDIA H200"}, {"versions": {"torch": "9.9"}}, {"precision": "tf32"}],
    ids=lambda about: next(iter(about)),
)
def test_on_another_kind_of_machine_the_first_stays_and_the_other_is_set_aside(some, about):
    other = altered(elsewhere(some[0], **about), 1.5)
    for order in ([("a", some[0]), ("b", other)], [("b", other), ("a", some[0])]):
        kept, aside = combine(order)
        assert kept == [some[0]] and aside == [("b", other)]
        kept, aside = combine(order, prefer="b")
        assert kept == [other] and aside == [("a", some[0])]


def test_a_damaged_file_is_refused_by_name(some):
    content = to_bytes(some[0])
    for damaged in (content[:-40], content.replace(b"lenet", b"lenot", 1), b"", b"[]", b"{}"):
        with pytest.raises(ValueError, match=r"f\.task\.json is damaged"):
            from_bytes(damaged, "f.task.json")


def test_another_schema_is_refused_with_the_version_that_wrote_it(some, monkeypatch):
    monkeypatch.setattr(module, "SCHEMA", 2)
    content = to_bytes(some[0])
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"f has schema 2; .* schema 1: .* \(0\.1\.0\)"):
        from_bytes(content, "f")


def test_rows_travel_with_every_bit(some):
    exact = replace(some[0], rows=some[0].rows.assign(value=some[0].rows["value"] / 3))
    assert (from_bytes(to_bytes(exact), "f").rows["value"] == exact.rows["value"]).all()


def test_objects_have_names_of_their_own_and_are_whole(some, tmp_path):
    for task in some:
        write_object(tmp_path / "store", task.name, to_bytes(task))
    (tmp_path / "store" / ".half.task.json").write_text("{")
    names = names_of(tmp_path / "store", module.SUFFIX)
    assert names == sorted(task.name for task in some) and not names_of(tmp_path / "no", "")
    found = [from_bytes(read_object(tmp_path / "store", name), name) for name in names]
    assert sorted(task.key for task in found) == sorted(task.key for task in some)
    assert json.loads(to_bytes(some[0]))["task"]["what"].startswith("a finished task")


def test_a_place_without_its_package_is_refused_with_its_name():
    with pytest.raises(ValueError, match=r"nonsense://b .*lth-tutorial\[cluster\]|no place"):
        write_object("nonsense://b", "n", b"")
