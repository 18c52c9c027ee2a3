"""Running piece by piece: whatever stops a run, the rows are those of one that was not stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lth_tutorial as lt
from lth_tutorial.experiments import EXPERIMENTS, Experiment, experiment
from lth_tutorial.experiments.__main__ import main
from lth_tutorial.experiments.budget import seconds_of
from lth_tutorial.experiments.cost import cost_of, part_costs
from lth_tutorial.experiments.design import InstabilityPart, LotteryPart, groups_of_seeds
from lth_tutorial.experiments.running import Budget, jobs_of, rate_key, run_jobs, steps_of
from lth_tutorial.results.tasks import SUFFIX
from lth_tutorial.safety.watch import Watch
from lth_tutorial.training import checkpoints

TRAIN = lt.TrainConfig(steps=30, batch_size=50, lr=0.05)
PARTS = (
    LotteryPart("mlp_8", TRAIN, lt.IMPConfig(rounds=2), ("ticket", "reinit"), label="tickets"),
    InstabilityPart("mlp_8", TRAIN, branch_steps=(0, 10), points=3, label="copies"),
)
SMALL = Experiment("small", 6, "?", "digits", (0, 1, 2), PARTS, together=(2, 1))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr("lth_tutorial.experiments.EXPERIMENTS", (*EXPERIMENTS, SMALL))


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Return the bytes of the table of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lth_tutorial.experiments.EXPERIMENTS", (*EXPERIMENTS, SMALL))
        assert main(["run", "small", "--out", str(folder), "--workdir", str(folder / "work")]) == 0
    return (folder / "small.csv").read_bytes()


def test_seeds_are_grouped_by_the_definition():
    assert groups_of_seeds(SMALL) == [(0, 1), (2,)]
    assert groups_of_seeds(replace(SMALL, together=())) == [(0, 1, 2)]
    with pytest.raises(ValueError, match=r"3 seeds, and together=\(2, 2\) makes 4"):
        groups_of_seeds(replace(SMALL, together=(2, 2)))
    assert [(job.part.label, job.seeds) for job in jobs_of(SMALL, 1)] == [
        ("tickets", (0, 1)), ("tickets", (2,)), ("copies", (0, 1)), ("copies", (2,)),
    ]  # fmt: skip


CIFAR = [design for design in EXPERIMENTS if design.dataset == "cifar10"]


@pytest.mark.parametrize("design", CIFAR, ids=lambda design: design.name)
def test_what_a_record_on_cifar10_costs_is_known_before_it_is_run(design):
    """Nothing is trained for it; some networks have no name to build them by."""
    if "multi-prize" in design.name:
        design = replace(design, parts=design.parts[:2])  # drawing ResNet-18 takes its time
    started = time.monotonic()
    cost = cost_of(design)
    assert time.monotonic() - started < 60
    if cost is None:
        assert design.chapter in (9, 13, 14)
        return
    configs = [v for p in design.parts for v in vars(p).values() if hasattr(v, "batch_size")]
    assert cost.steps >= len(design.seeds) * max(config.steps for config in configs)
    assert cost.minutes["H200"] < cost.minutes["A100"] < cost.minutes["T4"]
    if design.name.endswith("-short"):
        assert cost.minutes["H200"] <= (25 if "rewinding" in design.name else 8)


def test_costs_are_the_steps_and_operations_counted_by_hand():
    design = experiment("mnist-edge-popup")
    costs, n = part_costs(design), len(design.seeds)
    for part, cost in zip(design.parts, costs, strict=True):
        trainings = part.dense.steps + len(part.keeps) * part.search.steps
        width = int(part.model.split("_")[1])
        weights = 784 * width + width**2 + 10 * width
        assert cost.steps == n * trainings
        assert cost.operations == 3 * 2 * weights * part.search.batch_size * cost.steps


def test_the_announced_steps_are_those_that_are_trained(digits, monkeypatch):
    import lth_tutorial.training.replicates as replicates

    trained, fit = [0], replicates.fit

    def counting(group, data, config, *, start_step, stop_step=None, **options):
        trained[0] += group.size * ((stop_step or config.steps) - start_step)
        return fit(group, data, config, start_step=start_step, stop_step=stop_step, **options)

    monkeypatch.setattr(replicates, "fit", counting)
    for job in jobs_of(replace(SMALL, together=()), 1.0):
        trained[0] = 0
        job.part.measure(digits, job.seeds, None)
        assert trained[0] == steps_of(job, digits) > 0


def test_times_are_read_as_people_write_them():
    assert [seconds_of(t) for t in ("90s", "8m", "1.5h", "2", ".5 min")] == [90, 480, 5400, 120, 30]


@pytest.mark.parametrize("text", ["0", "0s", "-3m", "soon", "", "8 parsecs"])
def test_a_budget_that_is_no_time_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        main(["run", "digits-winning-tickets", f"--budget={text}"])
    assert f"a budget is a time above 0, like 90s, 8m or 1.5h; got '{text}'" in (
        capsys.readouterr().err
    )


def test_a_budget_stops_cleanly_and_the_same_command_goes_on(
    tmp_path, home, small, straight, capsys, monkeypatch
):
    """A clock that runs ahead stops the run after some looks, wherever that is."""
    command = ["run", "small", "--out", str(tmp_path / "out"), "--budget", "10s"]
    stops, looks = 0, [0]
    real = time.monotonic

    def ahead():
        looks[0] += 1
        return real() + looks[0] * 0.05

    with monkeypatch.context() as fast:
        fast.setattr("lth_tutorial.safety.watch.time.monotonic", ahead)
        while "stopped" in (capsys.readouterr().out if stops else "stopped") and stops < 30:
            assert main(command) == 0
            stops += 1
    assert 2 < stops < 30, "several stops, and an end"
    assert (tmp_path / "out" / "small.csv").read_bytes() == straight
    assert not list(home.rglob("part_*"))


def test_what_fits_as_a_whole_goes_first(tmp_path, digits):
    """The first job needs far more than a minute on any machine, the second far less."""
    long = replace(PARTS[1], train=replace(TRAIN, steps=4_000_000), label="long")
    design = replace(SMALL, seeds=(0,), together=(), parts=(long, PARTS[0]))
    watch, finished = Watch(), []

    class Here:
        data, workdir, store = digits, tmp_path, tmp_path

        def take(self, job):
            return False

        def finish(self, job, tasks):
            finished.append(job.part.label)
            watch.reason = "that was enough"

    jobs, budget = jobs_of(design, 1.0), Budget(60)
    left = run_jobs(jobs, {"small": Here()}, budget=budget, watch=watch)
    assert finished == ["tickets"] and left == [jobs[0]]
    assert jobs[0].folder(tmp_path).is_dir(), "its first steps are kept"
    assert budget.rates[rate_key(jobs[0])] * steps_of(jobs[0], digits) > 60


def test_a_budget_that_is_too_short_for_any_task_says_so(tmp_path, home, small, capsys):
    assert main(["run", "small", "--out", str(tmp_path), "--budget", "0.001s"]) == 0
    said = capsys.readouterr().out
    assert "the budget of 0 s was too short for any of them as a whole" in said
    assert "the same command goes on from" in said


def run_in_a_child(command, kill_at):
    """Run a command in a forked process that is killed at its n-th file; return whether it was."""
    child = os.fork()
    if child == 0:
        count, put = [0], os.replace

        def replace_or_die(*arguments):
            count[0] += 1
            if count[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            put(*arguments)

        os.replace = replace_or_die
        sys.stdout = sys.stderr = open(os.devnull, "w")
        status = 1
        try:
            status = main(command)
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_run_killed_at_any_of_its_files_has_the_rows_of_one_that_was_not(
    tmp_path, home, small, straight, monkeypatch
):
    """More than thirty kills at random places, in one run: each goes on from the last."""
    monkeypatch.setattr(checkpoints, "SAVE_EVERY_S", 0.0)
    random, kills = np.random.default_rng(0), 0
    command = ["run", "small", "--out", str(tmp_path / "out")]
    for _ in range(200):
        if not run_in_a_child(command, int(random.integers(5, 26))):
            break
        kills += 1
        table = tmp_path / "out" / "small.csv"
        if table.exists() and table.with_suffix(".json").exists():
            lt.load_rows("small", root=tmp_path / "out")
    assert kills >= 30
    assert (tmp_path / "out" / "small.csv").read_bytes() == straight
    about = lt.load_provenance("small", root=tmp_path / "out")
    assert about["resumed"], "the time of a killed run is at least what was written down"


_RUN = """
import sys
from lth_tutorial.experiments.__main__ import main
print("begun", flush=True)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to catch")
def test_a_request_to_end_is_a_clean_stop(tmp_path):
    command = ["run", "digits-winning-tickets", "--out", str(tmp_path / "out")]
    command += ["--workdir", str(tmp_path / "work")]
    arguments = [sys.executable, "-c", _RUN, *command]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        for _ in range(600):
            if list(tmp_path.glob("work/part_0/**/identity.json")):
                break
            time.sleep(0.1)
        process.terminate()
        said = process.stdout.read()
    assert process.returncode == 143
    assert "stopped: the process was asked to end; left:" in said
    assert '"running": false' in (tmp_path / "work" / "part_0" / "clock.json").read_text()
    assert f"goes on from {tmp_path / 'work'}" in said


def test_what_is_finished_is_written_before_the_next_job_begins(
    tmp_path, home, small, monkeypatch, capsys
):
    """A folder that becomes read-only, or full, in mid-run: said by name, nothing lost."""
    import lth_tutorial.experiments.growing as growing

    save, calls = growing.save_rows, [0]

    def full(*arguments, **options):
        calls[0] += 1
        if calls[0] == 2:
            raise OSError(28, "cannot write (No space left on device)", str(tmp_path / "out"))
        return save(*arguments, **options)

    monkeypatch.setattr(growing, "save_rows", full)
    command = ["run", "small", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert len(list(home.rglob(f"*{SUFFIX}"))) == 3, "the second job's task too"
    assert main(command) == 0
    assert len(lt.load_rows("small", root=tmp_path / "out")["seed"].unique()) == 3


def test_one_part_can_be_run_alone(tmp_path, home, small, capsys):
    command = ["run", "small", "--out", str(tmp_path), "--part", "copies"]
    assert main(command) == 0
    rows = lt.load_rows("small", root=tmp_path)
    assert set(rows["arm"]) == {"copies: dense"}
    assert main([*command[:-1], "copy"]) == 2
    assert "Did you mean 'copies'" in capsys.readouterr().err


def test_a_workdir_of_another_run_is_refused(tmp_path, small, capsys):
    work = ["--workdir", str(tmp_path / "work"), "--out"]
    assert main(["run", "small", "--part", "copies", *work, str(tmp_path / "a")]) == 0
    assert main(["run", "small", "--scale", "0.5", *work, str(tmp_path / "b")]) == 2
    error = capsys.readouterr().err
    assert "belongs to another run" in error and "'scale': 1.0" in error and "0.5" in error
