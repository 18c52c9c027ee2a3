"""Runs that are killed, and files that are torn: what continues is what would have been."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.safety.files import write_atomically
from lth_tutorial.training import checkpoints, identity
from lth_tutorial.training.identity import claim_folder

IMP = lt.IMPConfig(rounds=2, fraction=0.3, rewind_step=5)


@pytest.fixture
def often(monkeypatch):
    """Write a checkpoint at every step."""
    monkeypatch.setattr(checkpoints, "SAVE_EVERY_S", 0.0)


class Interruption(Exception):
    pass


def train_one(data, config, workdir, *, stop_at: int | None = None, model=None, **options):
    """Train a network, interrupted after some steps if asked; return its result and the steps."""
    model = model or lt.build_model("mlp_12_6", seed=0, data=data)
    done = [0]

    def on_step():
        done[0] += 1
        if done[0] == stop_at:
            raise Interruption

    try:
        (result,) = lt.train_replicates(
            [model], data, config, data_seeds=[3], on_step=on_step, workdir=workdir, **options
        )
    except Interruption:
        return None, done[0]
    return result, done[0]


def same(a: lt.TrainResult, b: lt.TrainResult) -> bool:
    hashes = [{name: lt.state_hash(r.states[name]) for name in r.states} for r in (a, b)]
    return hashes[0] == hashes[1] and (a.history, a.diverged_step) == (b.history, b.diverged_step)


def killed(kind: str, folder: Path, kills: int) -> dict:
    driver = Path(__file__).parents[1] / "tools" / "killed_runs.py"
    done = subprocess.run(
        [sys.executable, driver, kind, folder, str(kills)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "damaged" not in done.stderr and "Traceback" not in done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", ["sgd", "adam", "experiment"])
def test_runs_killed_at_random_moments_continue_to_the_same_bits(tmp_path, kind):
    seen = killed(kind, tmp_path, 20)
    assert seen["killed"] >= 20 and seen["resumed"] >= 5, "kills must fall into the work"
    assert seen["survivors"] and all(seen["survivors"])


@pytest.mark.parametrize("kind", ["experiment", "signs", "supermask", "record"])
def test_runs_killed_at_the_disk_continue_to_the_same_bits(tmp_path, kind):
    seen = killed(f"{kind}@disk", tmp_path, 6)
    assert seen["killed"] == len(seen["survivors"]) == 6 and all(seen["survivors"])


@pytest.mark.slow
@pytest.mark.parametrize("at", ["", "@disk"])
def test_runs_whose_workers_are_killed_with_them_continue_to_the_same_bits(tmp_path, at):
    seen = killed(f"workers{at}", tmp_path, 12)
    assert seen["killed"] >= 10 and seen["survivors"] and all(seen["survivors"])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_momentum_and_adam_state_survive(tiny_data, config, tmp_path, often, optimizer):
    config = replace(config, optimizer=optimizer, lr=0.02)
    whole, _ = train_one(tiny_data, config, None, save_at={7, 30})
    for stop_at in (1, 13, 39):
        folder = tmp_path / str(stop_at)
        assert train_one(tiny_data, config, folder, save_at={7, 30}, stop_at=stop_at)[0] is None
        result, _ = train_one(tiny_data, config, folder, save_at={7, 30})
        assert same(result, whole)


def test_the_optimizer_state_is_what_makes_the_difference(tiny_data, config, tmp_path, often):
    """The test above would notice a run that continues with empty momentum."""
    whole, _ = train_one(tiny_data, config, None)
    train_one(tiny_data, config, tmp_path, stop_at=20)
    path = next(tmp_path.rglob("progress.safetensors"))
    identity = json.loads(header(path))["identity"]
    states, about, what = checkpoints.read_states(path, identity, "cpu")
    states = {name: states[name] for name in states}
    states["optimizer"] = {k: torch.zeros_like(v) for k, v in states["optimizer"].items()}
    checkpoints.write_states(path, identity, states, about, what=what)
    assert not same(train_one(tiny_data, config, tmp_path)[0], whole)


def header(path: Path) -> str:
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length])["__metadata__"]["header"]


def test_a_finished_run_returns_at_once_and_leaves_the_model_trained(tiny_data, config, tmp_path):
    models = [lt.build_model("mlp_12_6", seed=0, data=tiny_data) for _ in range(2)]
    first = lt.train(models[0], tiny_data, config, workdir=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = lt.train(models[1], tiny_data, config, workdir=tmp_path)
    assert same(first, again)
    assert lt.state_hash(lt.snapshot(models[0])) == lt.state_hash(lt.snapshot(models[1]))
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_stacked_replicates_continue_to_the_same_bits(tiny_data, config, tmp_path, often):
    def go(workdir, stop_at=None):
        models = [lt.build_model("mlp_12_6", seed=s, data=tiny_data) for s in range(3)]
        done = [0]

        def on_step():
            done[0] += 1
            if done[0] == stop_at:
                raise Interruption

        return lt.train_replicates(
            models, tiny_data, config, data_seeds=range(3), on_step=on_step, workdir=workdir
        )

    whole = go(None)
    with pytest.raises(Interruption):
        go(tmp_path, stop_at=50)
    assert all(same(a, b) for a, b in zip(go(tmp_path), whole, strict=True))


def test_a_diverged_run_is_remembered(tiny_data, config, tmp_path):
    wild = replace(config, lr=1e20)
    for _ in range(2):
        model = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
        with pytest.raises(FloatingPointError, match="no longer finite at step"):
            lt.train(model, tiny_data, wild, workdir=tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"config": {"lr": 0.05}}, "config"),
        ({"data_seed": 1}, "data_seeds"),
        ({"seed": 1}, "initial_state"),
        ({"stop_step": 30}, "steps"),
        ({"data": True}, "data: "),
        ({"mask": True}, "masks"),
    ],
)
def test_a_folder_of_another_run_is_refused(tiny_data, config, tmp_path, change, named):
    def go(change):
        data = tiny_data.subset(100) if "data" in change else tiny_data
        model = lt.build_model("mlp_12_6", seed=change.get("seed", 0), data=data)
        return lt.train(
            model, data, replace(config, **change.get("config", {})),
            data_seed=change.get("data_seed", 0), stop_step=change.get("stop_step"),
            mask=lt.dense_mask(model) if "mask" in change else None, workdir=tmp_path,
        )  # fmt: skip

    go({})
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=f"another configuration .*{named}.*delete that one"):
        go(change)
    assert files == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_folder_of_a_run_with_other_frozen_parts_is_refused(tiny_data, config, tmp_path):
    def network(frozen: bool, mode: bool = True):
        model = lt.build_model("mlp_bn_12", seed=0, data=tiny_data)
        model.fc1.requires_grad_(not frozen)
        model.norm1.train(mode)
        return model

    lt.train(network(False), tiny_data, config, workdir=tmp_path)
    for other in (network(True), network(False, mode=False)):
        with pytest.raises(ValueError, match="model: .*frozen: "):
            lt.train(other, tiny_data, config, workdir=tmp_path)
    lt.train(network(False), tiny_data, config, workdir=tmp_path)


def test_a_folder_of_a_class_with_other_code_is_refused(tiny_data, config, tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.out = nn.Linear(tiny_data.shape[0], 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.out(torch.relu(self.first(x)))

    def network():
        torch.manual_seed(0)
        return Net()

    def changed(self, x):
        return self.out(torch.tanh(self.first(x)))

    for _ in range(2):
        lt.train(network(), tiny_data, config, workdir=tmp_path)
    Net.forward = changed
    with pytest.raises(ValueError, match="model: .*code: .* there, .*code: .* here"):
        lt.train(network(), tiny_data, config, workdir=tmp_path)


@pytest.mark.parametrize("order", [1, -1], ids=["earlier version", "worker"])
def test_where_one_side_knows_nothing_of_code_the_rest_decides(tmp_path, order):
    first, second = ["Net()", "Net()\ncode: 0123456789abcdef"][::order]
    digest = claim_folder(tmp_path, {"model": first})
    assert claim_folder(tmp_path, {"model": second}) == digest
    with pytest.raises(ValueError, match="another configuration"):
        claim_folder(tmp_path, {"model": second.replace("Net", "Other")})


def test_workers_continue_what_one_process_began_with_a_class_of_the_script(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"""
import shutil, sys, torch
import lth_tutorial as lt

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.out = torch.nn.Linear(64, 8), torch.nn.Linear(8, 10)

    def forward(self, x):
        return self.out(torch.relu(self.first(x.flatten(1))))

def build(seed):
    torch.manual_seed(seed)
    return Net()

if __name__ == "__main__":
    data, config = lt.load_dataset("digits").subset(100), lt.TrainConfig(steps=3, batch_size=20)
    for workers in (1, 2, 1):
        rows = lt.lottery_experiment(
            build, data, config, lt.IMPConfig(rounds=1), seeds=[0, 1], arms=["ticket"],
            workers=workers, workdir={str(tmp_path / "work")!r},
        )
        print(len(rows))
""")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.stdout.split() == ["4", "4", "4"], done.stderr


def test_another_experiment_is_refused_before_anything_is_trained(tiny_data, config, tmp_path):
    lt.lottery_experiment("mlp_12", tiny_data, config, IMP, seeds=[0], workdir=tmp_path)
    for other in (replace(IMP, fraction=0.2), replace(IMP, rewind_step=0)):
        with pytest.raises(ValueError, match="imp_config: .*there, .*here"):
            lt.lottery_experiment("mlp_12", tiny_data, config, other, seeds=[0], workdir=tmp_path)
    with pytest.raises(ValueError, match="model: "):
        lt.lottery_experiment("mlp_13", tiny_data, config, IMP, seeds=[0], workdir=tmp_path)
    model = lt.build_model("mlp_12", seed=0, data=tiny_data)
    with pytest.raises(ValueError, match="initial_state"):
        lt.iterative_magnitude_pruning(model, tiny_data, config, IMP, workdir=tmp_path)


def test_more_rounds_arms_and_seeds_may_be_asked_for_later(tiny_data, config, tmp_path):
    def go(rounds, arms, seeds, workdir):
        imp = replace(IMP, rounds=rounds)
        return lt.lottery_experiment(
            "mlp_12", tiny_data, config, imp, arms=arms, seeds=seeds, workdir=workdir
        )

    go(1, ["ticket"], [0, 1], tmp_path)
    more = go(3, ["ticket", "reinit"], [0, 1], tmp_path)
    pd.testing.assert_frame_equal(more, go(3, ["ticket", "reinit"], [0, 1], None))
    other_seeds = go(1, ["ticket"], range(12), tmp_path)
    pd.testing.assert_frame_equal(other_seeds, go(1, ["ticket"], range(12), None))


def flip(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


DAMAGES = {
    "torn": lambda raw: raw[: len(raw) // 2],
    "empty": lambda raw: b"",
    "one bit of the last byte": lambda raw: flip(raw, len(raw) - 1),
    "one bit in the middle": lambda raw: flip(raw, len(raw) // 2),
    "one bit of the header": lambda raw: flip(raw, 60),
    "no such file at all": lambda raw: b"<html>not found</html>",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_computed_anew(tiny_data, config, tmp_path, damage):
    def go():
        return lt.lottery_experiment(
            "mlp_12", tiny_data, config, IMP, arms=["ticket", "random"], seeds=[0, 1],
            workdir=tmp_path / "work",
        )  # fmt: skip

    expected = go()
    files = [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"identity.json", "rows.json", "result-1.safetensors"}
    for path in files:
        whole = path.read_bytes()
        path.write_bytes(DAMAGES[damage](whole))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rows = go()
        named = [w for w in caught if w.category is lt.DamagedFileWarning]
        if not path.exists() or path.read_bytes() != whole:
            assert path.name.startswith("result"), "only what is computed anew"
        assert path.with_name(f"{path.name}.damaged").read_bytes() == DAMAGES[damage](whole)
        assert any(str(path) in str(w.message) for w in named), path
        pd.testing.assert_frame_equal(rows, expected)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_not_continued(tiny_data, config, tmp_path, often, damage):
    whole, _ = train_one(tiny_data, config, None)
    train_one(tiny_data, config, tmp_path, stop_at=25)
    path = next(tmp_path.rglob("progress.safetensors"))
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.warns(lt.DamagedFileWarning, match="progress.safetensors is damaged"):
        result, _ = train_one(tiny_data, config, tmp_path)
    assert same(result, whole)


def test_files_of_another_run_do_not_count(tiny_data, config, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    train_one(tiny_data, config, a)
    whole, _ = train_one(tiny_data, replace(config, lr=0.05), b)
    shutil.copy(next(a.rglob("result-0.safetensors")), next(b.rglob("result-0.safetensors")))
    with pytest.warns(lt.DamagedFileWarning, match="belongs to another run"):
        result, _ = train_one(tiny_data, replace(config, lr=0.05), b)
    assert same(result, whole)


def test_states_are_read_when_asked_for(tiny_data, config, tmp_path):
    model = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    rounds = lt.iterative_magnitude_pruning(model, tiny_data, config, IMP, workdir=tmp_path)
    assert lt.state_hash(rounds[2].state) == lt.state_hash(lt.snapshot(model))
    held = [value for r in rounds for value in vars(r.result.states).values()]
    assert not any(isinstance(value, torch.Tensor) for value in held)
    path = rounds[1].result.states.path
    path.write_bytes(flip(path.read_bytes(), path.stat().st_size - 1))
    with pytest.raises(ValueError, match="round_01.*was altered"):
        [rounds[1].result.states[name] for name in rounds[1].result.states]
    shutil.rmtree(tmp_path)
    with pytest.raises(FileNotFoundError):
        rounds[2].state  # noqa: B018


def in_a_child(function) -> str:
    """Run a function in a forked process, where a limit can be set; return what it says."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, str(function()).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as file:
        return file.read()


@pytest.mark.skipif(sys.platform != "linux", reason="limits file sizes as Linux does")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_full_disk_loses_nothing(tmp_path):
    content = bytes(100_000)
    write_atomically(tmp_path / "f", b"old")

    def full_disk():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
        try:
            write_atomically(tmp_path / "f", content)
        except OSError as error:
            return error

    assert f"cannot write (File too large): '{tmp_path / 'f'}'" in in_a_child(full_disk)
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_bytes() == b"old"


def test_a_run_whose_disk_fills_up_continues_later(tiny_data, config, tmp_path, often, monkeypatch):
    whole, _ = train_one(tiny_data, config, None)
    write, count = os.fsync, [0]

    def fill_up(handle):
        count[0] += 1
        if count[0] > 10:
            raise OSError(28, "No space left on device")
        write(handle)

    with monkeypatch.context() as full:
        full.setattr("os.fsync", fill_up)
        with pytest.raises(OSError, match=r"cannot write \(No space left on device\).*progress"):
            train_one(tiny_data, config, tmp_path)
    result, _ = train_one(tiny_data, config, tmp_path)
    assert same(result, whole)
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("place", ["a file", "/sys/lth"])
def test_a_workdir_that_cannot_be_written_is_refused_at_once(tiny_data, config, tmp_path, place):
    if place == "a file":
        place = tmp_path / "file"
        place.write_text("")
    elif not Path("/sys").is_dir():
        pytest.skip("there is no read-only folder here")
    steps = []
    model = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    with pytest.raises(OSError, match=str(place)):
        lt.train_replicates(
            [model], tiny_data, config, data_seeds=[0], on_step=lambda: steps.append(1),
            workdir=place,
        )  # fmt: skip
    assert not steps


def test_what_a_kill_left_half_written_is_removed_later(tiny_data, config, tmp_path):
    """However young it is: the folder has one writer, and that is this run."""
    model = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    left = tmp_path / ".result-0.safetensors.a1_b2c3d.lth-part"
    mine = tmp_path / ".result-0.safetensors.old"
    for path in (left, mine):
        path.write_bytes(b"half")
    lt.train(model, tiny_data, config, workdir=tmp_path)
    assert not left.exists() and mine.exists()


def stack_of_three(data, config, workdir):
    models = [lt.build_model("mlp_12_6", seed=s, data=data) for s in range(3)]
    results = lt.train_replicates(models, data, config, data_seeds=range(3), workdir=workdir)
    return [lt.state_hash(result.final) for result in results], [
        lt.state_hash(lt.snapshot(model)) for model in models
    ]


def exchange(a: Path, b: Path) -> None:
    other = a.with_name("other")
    a.rename(other), b.rename(a), other.rename(b)


def test_exchanged_results_count_as_what_they_say_they_are(tiny_data, config, tmp_path):
    before = stack_of_three(tiny_data, config, tmp_path)
    files = [tmp_path / "stack" / f"result-{i}.safetensors" for i in range(3)]
    exchange(files[0], files[2])
    assert stack_of_three(tiny_data, config, tmp_path) == before


def test_a_result_in_the_place_of_another_is_computed_anew(tiny_data, config, tmp_path):
    before = stack_of_three(tiny_data, config, tmp_path)
    files = [tmp_path / "stack" / f"result-{i}.safetensors" for i in range(3)]
    shutil.copy(files[0], files[2])
    with pytest.warns(lt.DamagedFileWarning, match="result-2.*it is the result of replicate 0"):
        assert stack_of_three(tiny_data, config, tmp_path) == before
    assert stack_of_three(tiny_data, config, tmp_path) == before


def test_a_result_is_no_checkpoint(tiny_data, config, tmp_path, often):
    whole, _ = train_one(tiny_data, config, tmp_path)
    result = next(tmp_path.rglob("result-0.safetensors"))
    result.rename(result.with_name("progress.safetensors"))
    with pytest.warns(lt.DamagedFileWarning, match="it is the result of replicate 0"):
        assert same(train_one(tiny_data, config, tmp_path)[0], whole)


def test_exchanged_rows_are_noticed(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    for path in (a, b):
        checkpoints.write_checked_json(path, "id", [path.name], what=path.name)
    exchange(a, b)
    with pytest.warns(lt.DamagedFileWarning, match="holds the b"):
        assert checkpoints.read_checked_json(a, "id", what="a") is None


def rewrite(path: Path, drop: str) -> None:
    """Write a file as a version did that knew nothing of one entry of its header."""
    from safetensors import safe_open
    from safetensors.torch import save

    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    about = {k: v for k, v in json.loads(header(path)).items() if k != drop}
    text = json.dumps(about)
    digest = hashlib.sha256(text.encode()).hexdigest()
    path.write_bytes(save(tensors, {"header": text, "sha256": digest}))


def test_results_of_an_earlier_version_load_with_one_note(tiny_data, config, tmp_path):
    before = stack_of_three(tiny_data, config, tmp_path)
    for path in tmp_path.rglob("result-*"):
        rewrite(path, "what")
    with pytest.warns(lt.UncheckedFileWarning, match="do not say of which replicate") as caught:
        assert stack_of_three(tiny_data, config, tmp_path) == before
    assert len(caught) == 1


def test_a_run_that_another_version_began_says_so_once(tiny_data, config, tmp_path, monkeypatch):
    def go():
        arms = ["ticket", "random"]
        return lt.lottery_experiment(
            "mlp_12", tiny_data, config, IMP, arms=arms, seeds=[0], workdir=tmp_path
        )

    before = go()
    go()  # says nothing
    monkeypatch.setattr("lth_tutorial.training.identity.__version__", "99.1")
    with pytest.warns(lt.VersionWarning, match="lth_tutorial 0.*goes on with .*99.1") as caught:
        assert go().equals(before)
    assert len(caught) == 1
    begun = {
        json.loads(p.read_text())["written_by"]["lth_tutorial"]
        for p in tmp_path.rglob("identity.json")
    }
    assert begun == {lt.__version__}


def test_a_folder_of_the_first_versions_goes_on(tiny_data, config, tmp_path):
    whole, _ = train_one(tiny_data, config, tmp_path)
    path = next(tmp_path.rglob("identity.json"))
    about = json.loads(path.read_text())
    old = {key: value for key, value in about.items() if key not in ("written_by", "checksum")}
    path.write_text(json.dumps(old, indent=1, sort_keys=True))
    result, steps = train_one(tiny_data, config, tmp_path)
    assert same(result, whole) and steps == config.steps


def test_a_relative_workdir_stays_where_it_was(tiny_data, config, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    result, _ = train_one(tiny_data, config, "work")
    monkeypatch.chdir(tmp_path)
    assert lt.state_hash(result.final) and not (tmp_path / "work").exists()


def test_folders_of_equal_configurations_are_one(tmp_path):
    identity = {"b": (np.int64(1), 2), "a": lt.TrainConfig()}
    assert claim_folder(tmp_path, identity) == claim_folder(
        tmp_path, dict(reversed(identity.items()))
    )
    (tmp_path / "identity.json").write_text("[1")
    with pytest.warns(lt.DamagedFileWarning, match="identity.json is damaged"):
        claim_folder(tmp_path, identity)
    assert json.loads((tmp_path / "identity.json").read_text())["b"] == [1, 2]


# --- working directories of version 0.1.0, before the package stood in rooms -------------------

BEFORE = Path(__file__).parent / "workdir_before_rooms"


def test_a_lottery_begun_by_the_version_before_goes_on(tmp_path, digits):
    """It was killed after its first round; what had been trained then is read, not trained anew."""
    shutil.copytree(BEFORE, tmp_path / "run")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.*")}
    with pytest.warns(lt.UncheckedFileWarning, match="do not say of which replicate") as notes:
        rows = lt.lottery_experiment(
            "mlp_4", digits, lt.TrainConfig(steps=40, batch_size=20, lr=0.1),
            lt.IMPConfig(rounds=2, fraction=0.5), seeds=[0, 1],
            arms=("ticket", "reinit", "random"), criterion=lt.snip_scores,
            workdir=tmp_path / "run",
        )  # fmt: skip
    assert len(notes) == 1
    uninterrupted = pd.read_csv(BEFORE.with_suffix(".csv"))
    assert {path: path.stat().st_mtime_ns for path in written} == written
    keys = ["arm", "seed", "round", "density"]
    pd.testing.assert_frame_equal(rows[keys], uninterrupted[keys])
    stored = rows["round"] < 2
    assert (rows["accuracy"] - uninterrupted["accuracy"])[stored].abs().max() == 0
    # The last round is trained on this processor, whose rounding may differ.
    assert (rows["accuracy"] - uninterrupted["accuracy"]).abs().max() < 0.05


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("models.build_model(seed=1)", "networks.build.build_model(seed=1)"),
        ("networks.glorot_normal_()", "networks.architectures.glorot_normal_()"),
        ("pruning.prune(share=0.5)", "pruning.prune.prune(share=0.5)"),
        ("criteria.gradients.snip_scores()", "criteria.gradients.snip_scores()"),
        ("connectivity.barrier()", "stability.connectivity.barrier()"),
    ],
)
def test_a_folder_that_names_a_function_by_its_old_module_is_the_same_run(tmp_path, before, now):
    old, new = ({"f": [f"lth_tutorial.{name}"]} for name in (before, now))
    digest = claim_folder(tmp_path, old)
    assert claim_folder(tmp_path, new) == digest
    with pytest.raises(ValueError, match="another configuration"):
        claim_folder(tmp_path, {"f": ["lth_tutorial.data.corruption.corrupt_data()"]})


def test_every_module_that_moved_is_where_the_table_says():
    import importlib

    for path in identity._moved().values():
        importlib.import_module(f"lth_tutorial.{path}")


def test_a_setting_that_came_later_has_its_default_in_an_older_folder(tmp_path):
    config = lt.TrainConfig(steps=5)
    digest = claim_folder(tmp_path, {"config": config})
    path = tmp_path / "identity.json"
    content = json.loads(path.read_text())
    del content["config"]["bn_l1"], content["checksum"]
    path.write_text(json.dumps(content, indent=1, sort_keys=True))
    assert claim_folder(tmp_path, {"config": config}) != digest  # the text that its files know
    with pytest.raises(ValueError, match="bn_l1"):
        claim_folder(tmp_path, {"config": replace(config, bn_l1=0.1)})
