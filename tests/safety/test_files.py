"""Files of the package's own: whole or not at all, and nothing of anybody else's is touched."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import lth_tutorial as lt
from lth_tutorial.safety import files, locks
from lth_tutorial.safety.files import check_writable, remove_run, set_aside, write_atomically
from lth_tutorial.safety.locks import only_worker, only_writer

DAY = 24 * 3600


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "f"
    write_atomically(path, b"old")

    def fail(*arguments):
        raise OSError("disk full")

    for step in ("os.fsync", "os.chmod", "os.replace"):
        with monkeypatch.context() as broken:
            broken.setattr(step, fail)
            with pytest.raises(OSError, match="disk full"):
                write_atomically(path, b"new")
        assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_link_stays_and_the_file_behind_it_is_written(tmp_path):
    real, link = tmp_path / "elsewhere", tmp_path / "link"
    link.symlink_to(real)
    for content in (b"old", b"new"):  # it leads nowhere at first
        write_atomically(link, content)
        assert link.is_symlink() and real.read_bytes() == content


def test_concurrent_writers_leave_one_whole_file(tmp_path):
    contents = [bytes([i]) * 100_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda c: write_atomically(tmp_path / "f", c), contents))
    assert (tmp_path / "f").read_bytes() in contents and len(list(tmp_path.iterdir())) == 1


def test_looking_whether_a_folder_can_be_written_leaves_it_alone(tmp_path):
    (tmp_path / ".probe").write_text("the user's")
    check_writable(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [".probe"]
    with pytest.raises(OSError, match="cannot write"):
        check_writable(tmp_path / ".probe" / "below")


def precious(folder: Path) -> dict[Path, bytes]:
    """Put a user's files into a folder, with names like ours; return their contents."""
    names = (
        ".bashrc", ".env", ".probe", ".result-0.safetensors.old", ".result-0.safetensors.backup",
        ".identity.json.swp", ".lth-part", ".progress.safetensors.lth-part", "notes.md",
        "results.csv", "seeds_0/mine.txt", "seeds_0/round_01/random/notes/a.txt",
        "seeds_0_1/round_01/random/notes/identity.md", "seed_0/plots/plot.png",
        "seed_0/round_1/notes.md", "seeds_0_1/round_01/a+b/c.txt", "seeds_0_1/round_01/x+y",
    )  # fmt: skip
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"precious " + name.encode())
        os.utime(path, (time.time() - DAY,) * 2)
    return {folder / name: (folder / name).read_bytes() for name in names}


RUNS = {
    "train": lambda data, c, w: lt.train(model(data), data, c, workdir=w),
    "lottery_experiment": lambda data, c, w: lt.lottery_experiment(
        "mlp_8", data, c, lt.IMPConfig(rounds=1), seeds=[0, 1], workdir=w
    ),
    "signs_experiment": lambda data, c, w: lt.signs_experiment(
        "mlp_8", data, c, lt.IMPConfig(rounds=1), seeds=[0], workdir=w
    ),
    "instability": lambda data, c, w: lt.instability(
        "mlp_8", data, c, branch_steps=[2], seeds=[0], workdir=w
    ),
    "edge_popup": lambda data, c, w: lt.edge_popup(model(data), data, 0.5, c, workdir=w),
}


def model(data):
    return lt.build_model("mlp_8", seed=0, data=data)


@pytest.mark.parametrize("run", RUNS)
def test_a_home_folder_as_workdir_keeps_every_file_of_its_owner(tiny_data, tmp_path, run):
    mine = precious(tmp_path)
    config = lt.TrainConfig(steps=4, batch_size=20)
    for _ in range(2):
        RUNS[run](tiny_data, config, tmp_path)
    assert {path: path.read_bytes() for path in mine} == mine
    assert not [p for p in tmp_path.rglob("*") if p.name == files.LOCK]


@pytest.mark.parametrize("name", ["result-0.safetensors", "progress.safetensors"])
def test_a_file_of_the_users_that_stands_in_the_way_is_refused(tiny_data, tmp_path, name):
    config = lt.TrainConfig(steps=4, batch_size=20)
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(ValueError, match=f"{name} stands where this run would write"):
        lt.train(model(tiny_data), tiny_data, config, workdir=tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / "identity.json").write_text('{"name": "me"}')
    with pytest.raises(ValueError, match="another configuration"):
        lt.train(model(tiny_data), tiny_data, config, workdir=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["identity.json"]


def test_only_the_files_of_runs_are_removed(tmp_path):
    leaf = tmp_path / "run" / "stack"
    leaf.mkdir(parents=True)
    ours = ("identity.json", "result-12.safetensors", "progress.safetensors", files.LOCK,
            ".result-0.safetensors.ab_c4567.lth-part")  # fmt: skip
    for name in (*ours, "result-a.safetensors", ".result-0.safetensors.lth-part"):
        (leaf / name).touch()
    (tmp_path / "run" / "empty").mkdir()
    remove_run(tmp_path / "run")
    assert sorted(p.name for p in leaf.iterdir()) == [
        ".result-0.safetensors.lth-part", "result-a.safetensors",
    ]  # fmt: skip
    assert not (tmp_path / "run" / "empty").exists()


def test_a_folder_behind_a_link_is_not_entered(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "identity.json").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "link").symlink_to(elsewhere)
    remove_run(tmp_path / "run")
    assert (elsewhere / "identity.json").exists()


def test_what_is_put_aside_never_replaces_anything(tmp_path):
    for content in ("a", "b", "c"):
        (tmp_path / "f").write_text(content)
        set_aside(tmp_path / "f")
    found = {p.name: p.read_text() for p in tmp_path.iterdir()}
    assert found == {"f.damaged": "a", "f.damaged-2": "b", "f.damaged-3": "c"}


HOLD = """
import sys
from lth_tutorial.safety.locks import only_worker, only_writer
with (only_worker if sys.argv[1] == "workdir" else only_writer)(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["workdir", "file"])
def test_a_folder_or_file_that_another_process_holds_is_refused_until_it_dies(tmp_path, kind):
    path = tmp_path / "place"
    hold = only_worker if kind == "workdir" else only_writer
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, kind, str(path)], **pipes) as other:
        assert other.stdout.readline() == b"held\n"
        # However it is spelled.
        for spelled in (path, tmp_path / ".." / tmp_path.name / "place"):
            with pytest.raises(RuntimeError, match="another run is writing .*place"):
                with hold(spelled, wait=0.05):
                    pass
        other.kill()
    with hold(path, wait=5):
        pass
    assert [p.name for p in tmp_path.rglob("*")] in ([], ["place"])


def test_a_second_call_waits_for_the_first_and_returns_what_it_found(tiny_data, tmp_path):
    config = lt.TrainConfig(steps=200, batch_size=20)

    def go(_):
        network = model(tiny_data)
        lt.train(network, tiny_data, config, workdir=tmp_path)
        return lt.state_hash(lt.snapshot(network))

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(go, range(3)))) == 1


@pytest.mark.parametrize("run", RUNS)
def test_every_function_with_a_workdir_respects_its_writer(tiny_data, tmp_path, monkeypatch, run):
    monkeypatch.setattr(locks, "WAIT_S", 0.05)
    config = lt.TrainConfig(steps=4, batch_size=20)

    def hold(folder):
        with only_worker(folder):
            ready.append(1)
            while not done:
                time.sleep(0.01)

    ready, done = [], []
    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold, tmp_path)
        while not ready:
            time.sleep(0.01)
        try:
            with pytest.raises(RuntimeError, match="another run is writing"):
                RUNS[run](tiny_data, config, tmp_path)
        finally:
            done.append(1)
    RUNS[run](tiny_data, config, tmp_path)


def test_a_call_that_is_refused_leaves_no_folder_behind(tiny_data, tmp_path):
    config = lt.TrainConfig(steps=4, batch_size=200)
    with pytest.raises(ValueError, match="batch_size"):
        lt.train(model(tiny_data), tiny_data, config, workdir=tmp_path / "a" / "b")
    assert not (tmp_path / "a" / "b").exists()


def test_a_folder_that_cannot_be_locked_is_used_with_a_warning(tmp_path, monkeypatch):
    import filelock

    def refuse(*arguments, **options):
        raise NotImplementedError("this file system does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.warns(UserWarning, match="cannot be locked: make sure that only one run"):
        with only_worker(tmp_path):
            pass


def test_files_are_read_or_refused_whatever_bit_turns(tmp_path):
    """A flipped bit gives an error or the very same content, never anything else."""
    generator = torch.Generator().manual_seed(0)
    tensors = {"a": torch.rand(3, 5, generator=generator), "b": torch.arange(4)}
    raw = files.as_safetensors(tensors, files.sealed({"digest": lt.state_hash(tensors)}))
    refused = 0
    for i in range(8 * len(raw)):
        turned = bytearray(raw)
        turned[i // 8] ^= 1 << i % 8
        try:
            metadata, found = files.read_tensors(bytes(turned))
            header = files.unsealed(metadata)
        except ValueError:
            refused += 1
            continue
        if header is None:
            assert lt.state_hash(found) == lt.state_hash(tensors), "one bit cannot do both"
        else:
            refused += header["digest"] != lt.state_hash(found)
    assert refused > 7 * len(raw)
