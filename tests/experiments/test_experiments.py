from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import lth_tutorial as lt
import lth_tutorial.experiments.measuring
import lth_tutorial.training.loop
import lth_tutorial.training.replicates
from lth_tutorial.experiments import (
    EXPERIMENTS,
    Experiment,
    changed_settings,
    check_same,
    experiment,
    run,
    scaled,
)
from lth_tutorial.experiments.__main__ import main
from lth_tutorial.experiments.design import InstabilityPart, LotteryPart
from lth_tutorial.experiments.growing import growing
from lth_tutorial.experiments.running import jobs_of, run_job


def test_scale_multiplies_everything_counted_in_steps_and_nothing_else():
    design = experiment("mnist-lenet-imp")
    (part,) = design.parts
    part = replace(
        part,
        train=replace(part.train, lr_drops=(20_000,), warmup_steps=1_000),
        imp=replace(part.imp, rewind_step=500),
    )
    dense = InstabilityPart("lenet_300_100", part.train, branch_steps=(0, 1, 500, 1_000))
    design = replace(design, parts=(part, dense))
    small = scaled(design, 0.1)
    train, imp = small.parts[0].train, small.parts[0].imp
    assert (train.steps, train.lr_drops, train.warmup_steps, train.eval_every) == (
        5_000, (2_000,), 100, 25,
    )  # fmt: skip
    assert imp.rewind_step == 50 and imp.rounds == 20 and small.seeds == design.seeds
    assert (train.lr, train.batch_size) == (part.train.lr, part.train.batch_size)
    assert small.parts[1].train == train and small.parts[1].branch_steps == (0, 50, 100)


@pytest.mark.parametrize("scale", [0, -1, 1.5, float("nan")])
def test_a_scale_out_of_range_is_refused(scale):
    with pytest.raises(ValueError, match="in .0, 1.; got"):
        scaled(EXPERIMENTS[0], scale)


def test_the_mnist_record_follows_the_papers_protocol():
    design = experiment("mnist-lenet-imp")
    (part,) = design.parts
    train, imp = part.train, part.imp
    assert (train.optimizer, train.lr, train.batch_size, train.steps) == (
        "adam",
        1.2e-3,
        60,
        50_000,
    )
    assert imp.rounds == 20 and imp.rewind_step == 0 and len(design.seeds) >= 5
    mask = lt.dense_mask(lt.build_model(part.model, seed=0))
    scores = lt.random_scores(mask, 0)
    densities = []
    for _ in range(20):
        mask = lt.prune(scores, mask, imp.fraction, scope=imp.scope)
        densities.append(round(100 * lt.density(mask), 1))
    assert [densities[i - 1] for i in (3, 7, 15, 20)] == [51.3, 21.1, 3.6, 1.2]


def test_a_run_at_smoke_scale_writes_a_record_that_loads(tmp_path, digits):
    design = replace(experiment("digits-winning-tickets"), seeds=(0, 1))
    rows, provenance = run(design, digits, scale=0.05)
    lt.save_rows(rows, design.name, provenance, root=tmp_path)
    loaded = lt.load_rows(design.name, root=tmp_path)
    assert loaded["scale"].unique() == [0.05] and loaded["data"].unique() == ["digits"]
    assert provenance["command"].endswith("run digits-winning-tickets --scale 0.05")
    assert provenance["parts"][0]["train"]["steps"] == 30 and provenance["device"].startswith("CPU")
    table = lt.claims({design.name: lt.widen(loaded)}, chapter=4, level="live")
    assert set(table["verdict"]) == {"not enough runs (2 of 3)"}


def test_arms_of_several_parts_are_told_apart_and_steps_kept(tmp_path, digits):
    train = lt.TrainConfig(steps=20, batch_size=50, lr=0.05)
    tickets = LotteryPart("mlp_8", train, lt.IMPConfig(rounds=1), ("ticket",), label="tickets")
    dense = InstabilityPart("mlp_8", train, branch_steps=(0, 10), points=3, label="copies")
    design = Experiment("two-parts", 6, "?", "digits", (0, 1), (tickets, dense))
    rows, about = run(design, digits, workdir=tmp_path / "work")
    lt.save_rows(rows, design.name, about, root=tmp_path)
    wide = lt.widen(lt.load_rows(design.name, root=tmp_path))
    assert wide.groupby("arm").size().to_dict() == {"copies: dense": 4, "tickets: ticket": 4}
    copies = wide[wide["arm"] == "copies: dense"]
    assert set(copies["step"]) == {0, 10} and copies["height"].between(-1, 1).all()
    assert wide[wide["arm"] == "tickets: ticket"]["step"].isna().all()
    again, resumed = run(design, digits, workdir=tmp_path / "work")
    assert resumed["wall_time_s"] >= about["wall_time_s"] and not about["resumed"]
    assert rows.equals(again)


def test_the_convolutional_experiment_runs_at_smoke_scale():
    """No record on CIFAR without a GPU; that the experiment runs is shown on random images."""
    x = torch.randint(256, (300, 3, 32, 32), dtype=torch.uint8)
    y = torch.arange(300) % 10
    data = lt.make_dataset(
        "noise", (x[:200], y[:200]), (x[200:250], y[200:250]), (x[250:], y[250:])
    )
    design = experiment("cifar10-conv2-imp")
    (part,) = design.parts
    design = replace(design, seeds=(0,), parts=(replace(part, imp=replace(part.imp, rounds=1)),))
    rows, _ = run(design, data, scale=1e-4)
    assert lt.widen(rows).groupby("arm").size().to_dict() == dict.fromkeys(part.arms, 2)
    ticket = rows[(rows["arm"] == "ticket") & (rows["round"] == 1)]
    assert ticket["density"].unique() == pytest.approx([0.801], abs=5e-4)


def test_the_command_line_lists_shows_and_runs(tmp_path, capsys, one_seed, home):
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(design.name in listed for design in EXPERIMENTS)
    assert "tickets-match: " in listed and "cifar10-conv2-imp: not yet run" in listed
    assert main(["show", "mnist-lenet-imp"]) == 0
    assert "50000" in capsys.readouterr().out
    command = ["run", "digits-winning-tickets", "--scale", "0.02", "--out", str(tmp_path)]
    assert main(command) == 0
    assert lt.recorded(root=tmp_path) == ["digits-winning-tickets"]


def test_folders_named_from_home_are_meant_as_such(tmp_path, monkeypatch, one_seed):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    command = ["run", "digits-winning-tickets", "--scale", "0.02"]
    assert main([*command, "--out=~/records", "--workdir=~/runs"]) == 0
    assert lt.recorded(root=tmp_path / "home/records") == ["digits-winning-tickets"]
    assert (tmp_path / "home/runs").is_dir() and not (tmp_path / "~").exists()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def one_seed(monkeypatch):
    few = tuple(replace(design, seeds=(0,), together=()) for design in EXPERIMENTS)
    monkeypatch.setattr("lth_tutorial.experiments.EXPERIMENTS", few)


def test_a_killed_run_continues_and_clears_up(tmp_path, capsys, monkeypatch, home, one_seed):
    command = ["run", "digits-winning-tickets", "--scale", "0.02", "--out", str(tmp_path / "a")]
    killed = {"left": 3}
    fit = lth_tutorial.training.replicates.fit

    def fit_thrice(*arguments, **options):
        killed["left"] -= 1
        if killed["left"] < 0:
            raise RuntimeError("killed")
        return fit(*arguments, **options)

    with monkeypatch.context() as short:
        short.setattr("lth_tutorial.training.replicates.fit", fit_thrice)
        assert main(command) == 2
    assert list(home.rglob("result-0.safetensors")) and not list(tmp_path.glob("a/*"))
    assert main(command) == 0
    assert "continuing from" in capsys.readouterr().out
    assert not list(home.rglob("*.safetensors"))
    about = lt.load_provenance("digits-winning-tickets", root=tmp_path / "a")
    assert not about["resumed"], "its clock was stopped, so no second is missing"
    command[-1] = str(tmp_path / "b")
    assert main(command) == 0
    name = "digits-winning-tickets.csv"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_record_is_extended_by_the_seeds_that_it_lacks(tmp_path, capsys, monkeypatch, home):
    name, out = "digits-winning-tickets", ["--out", str(tmp_path)]

    def seeds(*chosen, together=()):
        few = tuple(replace(d, seeds=chosen, together=together) for d in EXPERIMENTS)
        monkeypatch.setattr("lth_tutorial.experiments.EXPERIMENTS", few)

    seeds(0, 1)
    assert main(["run", name, "--scale", "0.02", *out]) == 0
    before = lt.load_rows(name, root=tmp_path)
    assert main(["extend", name, *out]) == 2
    assert "has all 2 seeds" in capsys.readouterr().err
    seeds(0, 1, 2)
    assert main(["extend", name, *out]) == 2
    assert "say together=(2, 1) in its definition" in capsys.readouterr().err
    seeds(0, 1, 2, together=(2, 1))
    assert main(["extend", name, *out]) == 0
    rows = lt.load_rows(name, root=tmp_path)
    about = rows.attrs["provenance"]
    assert about["seeds"] == [0, 1, 2] and about["scale"] == 0.02
    assert about["command"].endswith(f"run {name} --scale 0.02"), "what measures all of them"
    first, second = about["tasks"]
    assert (first["seeds"], second["seeds"]) == ([0, 1], [2])
    assert first["commit"] == before.attrs["provenance"]["commit"]
    assert about["wall_time_s"] == pytest.approx(
        sum(first["seconds"]) + sum(second["seconds"]), abs=0.1
    )
    pd.testing.assert_frame_equal(rows[rows["seed"] < 2].reset_index(drop=True), before)
    assert main(["run", name, "--scale", "0.02", "--out", str(tmp_path / "straight")]) == 0
    keys = ["arm", "seed", "round", "metric"]
    straight = lt.load_rows(name, root=tmp_path / "straight").set_index(keys).sort_index()
    pd.testing.assert_frame_equal(rows.set_index(keys).sort_index(), straight, check_names=False)


def test_a_record_of_other_settings_or_data_is_not_extended(tmp_path, capsys, home, one_seed):
    name = "digits-winning-tickets"
    command = ["run", name, "--scale", "0.02", "--out", str(tmp_path)]
    assert main(command) == 0
    rows = lt.load_rows(name, root=tmp_path)
    about = rows.attrs["provenance"]
    about["parts"][0]["train"]["lr"] = 0.1
    lt.save_rows(rows, name, about | {"seeds": [7]}, root=tmp_path)
    assert main(["extend", name, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "part 0, train, lr: 0.1 there, 0.005 here" in error and "measure all seeds anew" in error
    with pytest.raises(ValueError, match="data: 'digits' there, 'mnist' here"):
        check_same(experiment(name), about, "mnist")


@pytest.mark.parametrize("name", lt.recorded())
def test_every_shipped_record_was_measured_with_the_settings_of_today(name):
    about = lt.load_provenance(name)
    assert changed_settings(experiment(name), about) == []
    design = experiment(name)
    label = design.parts[0].label
    parts = (replace(design.parts[0], label="other"), *design.parts[1:])
    (text,) = changed_settings(replace(design, parts=parts), about)
    assert text == f"other, label: {label!r} there, 'other' here"


def test_a_setting_that_came_later_counts_as_its_default_and_packing_not_at_all():
    design = experiment("mnist-multi-prize")
    about = copy.deepcopy(lt.load_provenance(design.name))
    for part in about["parts"]:
        del part["search"]["precision"]  # "fp32", by default and in the design
        del part["batch_norm"]  # False by default, but not in the design
    assert changed_settings(design, about) == [
        f"width {width}, batch_norm: False there, True here" for width in (64, 128, 256)
    ]
    parts = tuple(replace(part, packed=("biprop",)) for part in design.parts)
    assert changed_settings(replace(design, parts=parts), lt.load_provenance(design.name)) == []


def test_the_folder_one_stands_in_can_be_the_workdir(tmp_path, monkeypatch, one_seed):
    monkeypatch.chdir(tmp_path)
    command = ["run", "digits-winning-tickets", "--scale", "0.02", "--out", "out", "--workdir", "."]
    assert main(command) == 0


_HOLD = """
import sys
from lth_tutorial.safety.locks import only_worker, only_writer
with (only_writer if sys.argv[1].endswith(".csv") else only_worker)(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("held", ["record", "workdir"])
def test_two_runs_do_not_write_one_record_nor_share_a_workdir(tmp_path, capsys, one_seed, held):
    name, work = "digits-winning-tickets", tmp_path / "work"
    place = {"record": tmp_path / "out" / f"{name}.csv", "workdir": work}[held]
    command = ["run", name, "--scale", "0.02", "--out", str(tmp_path / "out")]
    command += ["--workdir", str(work)]
    arguments = [sys.executable, "-c", _HOLD, str(place)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(arguments, **pipes) as other:
        assert other.stdout.readline() == b"held\n"
        assert main(command) == 2
        error = capsys.readouterr().err
        assert f"another run is writing {place}" in error and error.count("\n") == 1
        assert not list(work.glob("[!.]*")) and not list((tmp_path / "out").glob("*.json"))
        other.kill()
    assert main(command) == 0, "the lock of a killed process is no lock"
    assert not list(tmp_path.rglob("*lth-lock"))


def test_the_users_files_in_out_and_workdir_stay(tmp_path, one_seed):
    out, work = tmp_path / "out", tmp_path / "work"
    mine = {}
    for folder in (out, work):
        for name in (".probe", ".bashrc", "notes.txt", "results.csv", "seeds_0/x+y/z"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
            mine[path] = name
    command = ["run", "digits-winning-tickets", "--scale", "0.02", "--out", str(out)]
    assert main([*command, "--workdir", str(work)]) == 0
    assert {path: path.read_text() for path in mine} == mine


def test_the_lock_does_not_need_the_folder_around_the_workdir(tmp_path, monkeypatch, one_seed):
    work = tmp_path / "around" / "work"
    work.mkdir(parents=True)
    seen = set()
    whole = lth_tutorial.experiments.measuring.run_jobs

    def looking(*arguments, **options):
        seen.update(path.name for path in work.parent.iterdir())
        return whole(*arguments, **options)

    monkeypatch.setattr("lth_tutorial.experiments.measuring.run_jobs", looking)
    command = ["run", "digits-winning-tickets", "--scale", "0.02", "--out", str(tmp_path / "out")]
    assert main([*command, "--workdir", str(work)]) == 0
    assert seen == {"work"}


def test_ctrl_c_says_in_two_lines_where_the_run_goes_on(
    tmp_path, capsys, monkeypatch, home, one_seed
):
    command = ["run", "digits-winning-tickets", "--scale", "0.02", "--out", str(tmp_path / "a b")]

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr("lth_tutorial.training.replicates.fit", interrupt)
        assert main(command) == 130
    first, second = capsys.readouterr().err.splitlines()
    assert str(home) in first and second.endswith(f"--scale 0.02 --out '{tmp_path / 'a b'}'")
    with monkeypatch.context() as stopped:
        stopped.setattr("lth_tutorial.experiments.measuring.load_dataset", interrupt)
        assert main(command) == 130
    assert "before anything was measured" in capsys.readouterr().err
    assert main(command) == 0 and not list(home.rglob("*.safetensors"))


def test_tasks_of_other_examples_are_not_joined(digits):
    design = replace(experiment("digits-winning-tickets"), seeds=(0, 1))
    record = growing(design, 0.02, "digits", None, anew=True)
    other = replace(digits, x_train=digits.x_train.flip(0))
    first, second = jobs_of(scaled(replace(design, together=(1, 1)), 0.02), 0.02)
    record.add([("here", task) for task in run_job(first, digits, None)])
    with pytest.raises(ValueError, match="the examples of digits: .* there, .* here"):
        record.add([("there", task) for task in run_job(second, other, None)])


def test_other_examples_under_a_known_name_are_not_measured(tmp_path, capsys, monkeypatch, digits):
    other = replace(digits, x_test=digits.x_test.flip(0))
    place = "lth_tutorial.experiments.measuring.load_dataset"
    monkeypatch.setattr(place, lambda *arguments, **options: other)
    assert main(["run", "digits-winning-tickets", "--out", str(tmp_path)]) == 2
    assert "these are not the examples of 'digits'" in capsys.readouterr().err


def test_times_are_those_of_a_clock_that_nobody_sets(digits, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 0.0)
    _, about = run(replace(experiment("digits-winning-tickets"), seeds=(0,)), digits, scale=0.02)
    assert about["wall_time_s"] > 0


def test_a_folder_of_images_stands_in_for_the_data_set(tmp_path, home, one_seed):
    for split in ("train", "test"):
        for label in range(3):
            (tmp_path / "images" / split / str(label)).mkdir(parents=True)
            for i in range(25):
                pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
                path = tmp_path / "images" / split / str(label) / f"{i}.png"
                Image.fromarray(pixels).save(path)
    folder, work = f"folder:{tmp_path / 'images'}", tmp_path / "work"
    command = ["run", "digits-winning-tickets", "--scale", "0.01", "--data", folder]
    assert main([*command, "--out", str(tmp_path), "--workdir", str(work)]) == 0
    rows = lt.load_rows("digits-winning-tickets", root=tmp_path)
    assert rows["data"].unique() == ["folder-images"] and list(work.rglob("rows.json"))
    about = lt.load_provenance("digits-winning-tickets", root=tmp_path)
    assert about["command"].endswith("--scale 0.01 --data folder:images")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "mnist-lenet"], "Did you mean 'mnist-lenet-imp'"),
        (["run", "digits-winning-tickets", "--scale", "2"], "in (0, 1]; got 2.0"),
        (["run", "digits-winning-tickets", "--device", "gpu"], "gpu"),
    ],
)
def test_the_command_line_answers_bad_input_with_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path, capsys, monkeypatch):
    def run_job(*arguments, **options):
        raise AssertionError("nothing may run")

    monkeypatch.setattr("lth_tutorial.experiments.running.run_job", run_job)
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "records")
    assert main(["run", "digits-winning-tickets", "--scale", "0.02", "--out", out]) == 2
    error = capsys.readouterr().err
    assert "cannot write" in error and out in error


def test_a_smaller_run_does_not_replace_a_record(capsys):
    assert main(["run", "digits-winning-tickets", "--scale", "0.02"]) == 2
    assert "which a run at scale 0.02 would replace" in capsys.readouterr().err


def test_a_missing_data_set_is_said_before_anything_runs(tmp_path, capsys, monkeypatch):
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    assert main(["run", "mnist-lenet-imp", "--root", str(tmp_path)]) == 2
    assert "error:" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_of_the_list_sees_no_error():
    command = [sys.executable, "-m", "lth_tutorial.experiments", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as listing:
        listing.stdout.close()  # as `head` does, here before the first line is written
        assert listing.stderr.read() == b""
    assert listing.returncode == 141  # 128 + SIGPIPE, as for any command in a pipe
