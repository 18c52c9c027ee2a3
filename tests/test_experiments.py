from __future__ import annotations

from dataclasses import replace

import pytest

import lth_tutorial as lt
from lth_tutorial.experiments import EXPERIMENTS, experiment, run, scaled
from lth_tutorial.experiments.__main__ import main


def test_scale_multiplies_everything_counted_in_steps_and_nothing_else():
    design = experiment("mnist-lenet-imp")
    design = replace(
        design,
        train=replace(design.train, lr_drops=(20_000,), warmup_steps=1_000),
        imp=replace(design.imp, rewind_step=500),
    )
    small = scaled(design, 0.1)
    train, imp = small.train, small.imp
    assert (train.steps, train.lr_drops, train.warmup_steps, train.eval_every) == (
        5_000, (2_000,), 100, 25,
    )  # fmt: skip
    assert imp.rewind_step == 50 and imp.rounds == 20 and small.seeds == design.seeds
    assert (train.lr, train.batch_size) == (design.train.lr, design.train.batch_size)


@pytest.mark.parametrize("scale", [0, -1, 1.5, float("nan")])
def test_a_scale_out_of_range_is_refused(scale):
    with pytest.raises(ValueError, match="in .0, 1.; got"):
        scaled(EXPERIMENTS[0], scale)


def test_the_mnist_record_follows_the_papers_protocol():
    design = experiment("mnist-lenet-imp")
    train, imp = design.train, design.imp
    assert (train.optimizer, train.lr, train.batch_size, train.steps) == (
        "adam",
        1.2e-3,
        60,
        50_000,
    )
    assert imp.rounds == 20 and imp.rewind_step == 0 and len(design.seeds) >= 5
    mask = lt.dense_mask(lt.build_model(design.model, seed=0))
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
    assert provenance["train"]["steps"] == 30 and provenance["device"].startswith("CPU")
    table = lt.claims({design.name: lt.widen(loaded)}, level="live")
    assert set(table["verdict"]) == {"single run"}


def test_the_command_line_lists_shows_and_runs(tmp_path, capsys, monkeypatch):
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(design.name in listed for design in EXPERIMENTS)
    assert "tickets-match: " in listed
    assert main(["show", "mnist-lenet-imp"]) == 0
    assert "50000" in capsys.readouterr().out
    few = tuple(replace(design, seeds=(0,)) for design in EXPERIMENTS)
    monkeypatch.setattr("lth_tutorial.experiments.EXPERIMENTS", few)
    command = ["run", "digits-winning-tickets", "--scale", "0.02", "--out", str(tmp_path)]
    assert main(command) == 0
    assert lt.recorded(root=tmp_path) == ["digits-winning-tickets"]


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


def test_a_smaller_run_does_not_replace_a_record(capsys):
    assert main(["run", "digits-winning-tickets", "--scale", "0.02"]) == 2
    assert "which a run at scale 0.02 would replace" in capsys.readouterr().err


def test_a_missing_data_set_is_said_before_anything_runs(tmp_path, capsys, monkeypatch):
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    assert main(["run", "mnist-lenet-imp", "--root", str(tmp_path)]) == 2
    assert "error:" in capsys.readouterr().err
