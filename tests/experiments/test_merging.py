"""Joining what several machines measured, and saying how far it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest

import lth_tutorial as lt
from lth_tutorial.claims.rules import Claim, Effect, Setting, difference
from lth_tutorial.experiments import EXPERIMENTS, Experiment, merging
from lth_tutorial.experiments.__main__ import main
from lth_tutorial.experiments.design import LotteryPart
from lth_tutorial.results.tasks import SUFFIX, from_bytes, lines_of, split, to_bytes

matplotlib.use("Agg")
TRAIN = lt.TrainConfig(steps=30, batch_size=50, lr=0.05)
PART = LotteryPart("mlp_8", TRAIN, lt.IMPConfig(rounds=1), ("ticket", "reinit"))
SMALL = Experiment(
    "small", 4, "?", "digits", (0, 1, 2),
    tuple(replace(PART, label=f"width {w}", model=f"mlp_{w}") for w in (8, 9)), together=(2, 1),
)  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr("lth_tutorial.experiments.EXPERIMENTS", (*EXPERIMENTS, SMALL))
    return tmp_path / "home"


def run(out, *options):
    return main(["run", "small", "--out", str(out), *options])


def altered(path, **about):
    """Write the task of a file as another machine would have measured it."""
    task = from_bytes(path.read_bytes(), path)
    rows = task.rows.assign(value=task.rows["value"] + 0.125)
    path.write_bytes(to_bytes(replace(task, rows=rows, about={**task.about, **about})))
    return task


def test_two_machines_make_one_record(tmp_path, capsys):
    """The walk-through: a part here, a part there, merged, the rest, the gallery."""
    a, b, c = (tmp_path / name for name in "abc")
    assert run(a, "--part", "width 8") == run(b, "--part", "width 9") == 0
    assert main(["status", "small", "--out", str(a)]) == 0
    said = capsys.readouterr().out
    assert "width 8  ■■■    –" in said and "width 9  ···    " in said
    assert main(["merge", str(a), str(b), "--out", str(c)]) == 0
    assert "small: 6 new tasks, 6 of 6 in all" in capsys.readouterr().out
    assert run(tmp_path / "straight") == 0
    assert (c / "small.csv").read_bytes() == (tmp_path / "straight" / "small.csv").read_bytes()
    assert main(["merge", str(a), "--out", str(c)]) == 0
    assert "small: 0 new tasks" in capsys.readouterr().out
    assert run(c) == 0
    assert "the record has all 6 tasks; --anew" in capsys.readouterr().out


def test_a_partial_record_shows_as_far_as_it_goes(tmp_path, monkeypatch):
    claims = tuple(
        Claim(
            f"k{width}", 4, "s", "s", "small", "n",
            (Setting("x", (Effect("e", difference(
                "accuracy", f"width {width}: ticket", f"width {width}: reinit", round=1), 0.0),)),),
            minimum_n=least,
        )
        for width, least in ((8, 3), (9, 3), (8, 5))
    )  # fmt: skip
    for module in ("claims", "gallery"):
        monkeypatch.setattr(sys.modules[f"lth_tutorial.{module}"], "CLAIMS", claims)
    assert run(tmp_path, "--part", "width 8") == 0
    entry = lt.gallery("small", lt.load_rows("small", root=tmp_path))
    assert "not complete: n = 3 (width 8), 0 (width 9) of 3 seeds" in entry.facts
    page = entry._repr_html_()
    assert "<img" in page and "Width 8: test accuracy" in page and "Width 9" not in page
    judged, missing, few = entry.verdicts["verdict"]
    assert judged in ("holds", "fails here", "inconclusive")
    assert missing == "not yet run" and few == "not enough runs (3 of 5)"


def test_what_was_measured_otherwise_is_refused_by_name(tmp_path, monkeypatch, capsys):
    assert run(tmp_path / "a") == 0
    other = tuple(replace(p, train=replace(TRAIN, lr=0.1)) for p in SMALL.parts)
    monkeypatch.setattr(
        "lth_tutorial.experiments.EXPERIMENTS", (*EXPERIMENTS, replace(SMALL, parts=other))
    )
    assert main(["merge", str(tmp_path / "a"), "--out", str(tmp_path / "b")]) == 2
    assert "width 8, train, lr: 0.05 there, 0.1 here" in capsys.readouterr().err
    assert not list((tmp_path / "b").glob("small*"))


def test_the_same_task_with_other_rows_is_an_error_and_nothing_is_written(tmp_path, capsys):
    a, store = tmp_path / "a", tmp_path / "store"
    assert run(a, "--store", str(store)) == 0
    before = (a / "small.csv").read_bytes()
    altered(sorted(store.glob(f"*{SUFFIX}"))[0])
    assert main(["merge", str(store), "--out", str(a)]) == 2
    error = capsys.readouterr().err
    assert "two runs on the same kind of device" in error and "only the record has" in error
    assert (a / "small.csv").read_bytes() == before


def test_of_two_kinds_of_machine_one_stays_and_the_other_is_kept_aside(tmp_path, capsys):
    a, store = tmp_path / "a", tmp_path / "store"
    assert run(a, "--store", str(store)) == 0
    path = sorted(store.glob(f"*{SUFFIX}"))[0]
    task = altered(path, device="NVIDIA H200", finished="2999-01-01T00:00:00+00:00")
    before = lines_of(lt.load_rows("small", root=a))
    assert main(["merge", str(store), "--out", str(a)]) == 0
    assert "set aside, measured on another kind of machine: " in capsys.readouterr().out
    assert lines_of(lt.load_rows("small", root=a)) == before
    assert len(list((a / "small.aside").iterdir())) == 1
    assert main(["merge", str(store), "--out", str(a), "--prefer", "H200"]) == 0
    chosen = [t for t in split(lt.load_rows("small", root=a)) if t.key == task.key]
    assert chosen[0].about["device"] == "NVIDIA H200"
    # Both can be had again: nothing was lost, and merging the folder itself changes nothing.
    aside = [from_bytes(p.read_bytes(), p) for p in (a / "small.aside").iterdir()]
    assert {t.about["device"] == "NVIDIA H200" for t in aside} == {True, False}


def test_damaged_files_and_other_schemas_are_named(tmp_path, capsys):
    a, store = tmp_path / "a", tmp_path / "store"
    assert run(a, "--store", str(store)) == 0
    path = sorted(store.glob(f"*{SUFFIX}"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert main(["merge", str(store), "--out", str(tmp_path / "b")]) == 2
    assert f"{path} is damaged" in capsys.readouterr().err
    path.write_bytes(whole)
    table = a / "small.csv"
    table.write_bytes(table.read_bytes()[:-5])
    assert main(["merge", str(a), "--out", str(tmp_path / "b")]) == 2
    assert "small.csv" in capsys.readouterr().err
    assert run(a) == 2, "a damaged record is not replaced in silence"
    assert "small.csv" in capsys.readouterr().err
    assert main(["merge", str(tmp_path / "nowhere"), "--out", str(a)]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_checkpoints_of_another_machine_are_taken_in(tmp_path, home, capsys):
    """Stopped there, merged here, finished here: the rows of one that was not stopped."""
    assert run(tmp_path / "straight") == 0
    assert run(tmp_path / "a", "--budget", "0.001s") == 0
    runs = home / ".cache" / "lth_tutorial" / "runs"
    # There the folder had another name, given by --workdir.
    shutil.copytree(runs / "small-digits-1", tmp_path / "other-machine" / "mine")
    shutil.rmtree(runs)
    users = runs / "small-digits-1" / ".part_0_seeds_0_1.copied" / "notes.txt"
    users.parent.mkdir(parents=True)
    users.write_text("mine")
    capsys.readouterr()
    assert main(["merge", str(tmp_path / "other-machine"), "--out", str(tmp_path / "b")]) == 0
    assert "small-digits-1/part_0_seeds_0_1: copied from" in capsys.readouterr().out
    assert list(runs.glob("small-digits-1/part_0*/clock.json"))
    assert main(["status", "small", "--out", str(tmp_path / "b")]) == 0
    assert "◧◧·" in capsys.readouterr().out
    assert users.read_text() == "mine" and not list(runs.rglob(".*.copy-*"))
    assert run(tmp_path / "b") == 0
    assert "continuing from" in capsys.readouterr().out
    tables = [(tmp_path / name / "small.csv").read_bytes() for name in ("straight", "b")]
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    "says", [b"{}", b"[1]", b"\xff", b'{"experiment": "../x", "data": "d", "scale": 1}']
)
def test_a_working_directory_that_does_not_say_whose_it_is_is_refused(tmp_path, home, capsys, says):
    job = tmp_path / "w" / "part_0"
    job.mkdir(parents=True)
    (job.parent / merging.IDENTITY).write_bytes(says)
    assert main(["merge", str(tmp_path / "w"), "--out", str(tmp_path / "b")]) == 2
    assert str(job.parent / merging.IDENTITY) in capsys.readouterr().err
    assert not (home / ".cache").exists() and not (tmp_path / "x-d-1").exists()


@pytest.mark.parametrize("step", ["copytree", "rename"])
def test_a_copy_that_fails_leaves_what_was_there(tmp_path, monkeypatch, step):
    job, target = tmp_path / "there" / "part_0", tmp_path / "here" / "part_0"
    for folder, text in ((job, "new"), (target, "old")):
        folder.mkdir(parents=True)
        (folder / "rows.json").write_text(text)
    rename = Path.rename

    def full(source, *arguments, **options):
        if step == "rename" and source.name != "new":
            return rename(source, *arguments)
        raise OSError("no space left")

    monkeypatch.setattr(*((shutil, step) if step == "copytree" else (Path, step)), full)
    with pytest.raises(OSError, match="no space left"):
        merging._exchange(job, target)
    assert (target / "rows.json").read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_a_record_of_another_kind_is_replaced_only_when_the_new_one_is_complete(tmp_path, capsys):
    assert run(tmp_path, "--scale", "0.5") == 0
    before = (tmp_path / "small.csv").read_bytes()
    assert run(tmp_path, "--part", "width 8") == 0
    assert (tmp_path / "small.csv").read_bytes() == before
    assert "kept in" in capsys.readouterr().out
    assert run(tmp_path) == 0
    rows = lt.load_rows("small", root=tmp_path)
    assert rows["scale"].unique() == [1.0] and rows["arm"].nunique() == 4


def test_status_knows_every_record(capsys):
    assert main(["status"]) == 0
    said = capsys.readouterr().out
    for design in EXPERIMENTS:
        assert design.name in said
    assert main(["status", "smal"]) == 2
    assert "Did you mean 'small'" in capsys.readouterr().err


def test_the_provenance_of_each_task_stands_in_the_record(tmp_path):
    assert run(tmp_path) == 0
    about = json.loads((tmp_path / "small.json").read_text())
    for entry in about["tasks"]:
        assert entry["device"].startswith("CPU") and entry["precision"] == "fp32"
        assert len(entry["fingerprint"]) == 64 and entry["together"] == entry["seeds"]
        assert all(seconds > 0 for seconds in entry["seconds"])
        assert entry["versions"]["torch"] and entry["commit"] and entry["finished"] > "2026"


def test_a_job_that_another_machine_finished_meanwhile_is_taken_in(tmp_path, monkeypatch, capsys):
    store, measured = tmp_path / "store", []
    measure = LotteryPart.measure

    def watched(part, data, seeds, workdir):
        measured.append((part.label, *seeds))
        if len(measured) == 1:  # the other machine is faster than our first job
            assert (
                run(tmp_path / "b", "--store", str(store), "--workdir", str(tmp_path / "wb")) == 0
            )
        return measure(part, data, seeds, workdir)

    monkeypatch.setattr(LotteryPart, "measure", watched)
    assert run(tmp_path / "a", "--store", str(store), "--workdir", str(tmp_path / "wa")) == 0
    assert len(measured) == 1 + 4, "the first job twice, each of the others once"
    assert f"found in {store}, 6 of 6 tasks" in capsys.readouterr().out
    assert lt.load_rows("small", root=tmp_path / "a").equals(
        lt.load_rows("small", root=tmp_path / "b")
    )


def test_another_kind_of_machine_in_the_same_store_overwrites_nothing(tmp_path, monkeypatch):
    store = tmp_path / "store"
    measure = LotteryPart.measure

    def late(part, data, seeds, workdir):
        if not store.joinpath("done").exists():
            run(tmp_path / "b", "--store", str(tmp_path / "other"), "--part", "width 8")
            for path in (tmp_path / "other").glob(f"*{SUFFIX}"):
                altered(path, device="another card", finished="2020-01-01T00:00:00+00:00")
                shutil.copy(path, store)
            store.joinpath("done").touch()
        return measure(part, data, seeds, workdir)

    run(tmp_path / "first", "--store", str(tmp_path / "other"), "--part", "width 8")
    monkeypatch.setattr(LotteryPart, "measure", late)
    options = ["--store", str(store), "--part", "width 8", "--workdir", str(tmp_path / "wa")]
    assert run(tmp_path / "a", *options) == 0
    kept = [from_bytes(path.read_bytes(), path) for path in store.glob(f"*{SUFFIX}")]
    assert [task.about["device"] for task in kept] == 3 * ["another card"]
    ours = list((tmp_path / "a" / "small.aside").iterdir())
    assert len(ours) == 2, "of the first job; the second was found finished"


def test_two_processes_fill_one_store(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_merging as t\n"
        "import lth_tutorial.experiments as e; e.EXPERIMENTS += (t.SMALL,)\n"
        "sys.exit(t.main(['run', 'small', *sys.argv[2:]]))"
    )
    processes = []
    for name in "ab":
        options = ["--out", tmp_path / name, "--workdir", tmp_path / f"w{name}"]
        command = [sys.executable, "-c", code, Path(__file__).parent, *options]
        processes.append(
            subprocess.Popen(map(str, [*command, "--store", tmp_path / "store"]), text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )  # fmt: skip
    for process in processes:
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0, said
    one, other = (lt.load_rows("small", root=tmp_path / name) for name in "ab")
    assert lines_of(one, times=False) == lines_of(other, times=False)
    assert len(list((tmp_path / "store").glob(f"*{SUFFIX}"))) == 6
