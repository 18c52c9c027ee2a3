"""Records on a Ray cluster of two nodes, each a process of its own, and in a bucket."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest

import lth_tutorial as lt
from lth_tutorial.experiments import EXPERIMENTS, Experiment
from lth_tutorial.experiments.__main__ import main
from lth_tutorial.experiments.design import LotteryPart
from lth_tutorial.results.tasks import SUFFIX, from_bytes, lines_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning",
                                        "ignore::FutureWarning")  # fmt: skip

TRAIN = lt.TrainConfig(steps=30, batch_size=50, lr=0.05)


@dataclass(frozen=True)
class Strange:
    """A part that waits, fails or takes its node along, as its settings say."""

    file: str
    does: str
    label: str = ""

    def measure(self, data, seeds, workdir):
        path = Path(self.file)
        first = not path.exists()
        import ray

        path.write_text(ray.get_runtime_context().get_node_id())
        if self.does == "raises":
            raise ValueError("this part is wrong on purpose")
        if self.does == "dies" and first:
            time.sleep(600)
        return pd.DataFrame(
            [{"arm": "a", "seed": s, "round": 0, "density": 1.0, "accuracy": 0.5} for s in seeds]
        )


PART = LotteryPart("mlp_8", TRAIN, lt.IMPConfig(rounds=1), ("ticket",))
SMALL = Experiment(
    "small", 4, "?", "digits", (0, 1),
    tuple(replace(PART, label=f"width {w}", model=f"mlp_{w}") for w in (8, 9)), together=(1, 1),
)  # fmt: skip


@pytest.fixture(scope="module")
def nodes():
    """Return a cluster of two nodes with one core each, and a head that computes nothing."""
    import ray
    from ray.cluster_utils import Cluster

    root = str(Path(lt.__file__).parent.parent)
    tests = str(Path(__file__).parent)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = os.pathsep.join([root, tests, os.environ.get("PYTHONPATH", "")])
        patch.setenv("PYTHONPATH", path)
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        from ray import cloudpickle as pickle

        pickle.register_pickle_by_value(sys.modules[__name__])
        yield cluster
        ray.shutdown()
        cluster.shutdown()


def table(folder):
    return (folder / "small.csv").read_bytes()


def use(monkeypatch, *designs):
    monkeypatch.setattr("lth_tutorial.experiments.EXPERIMENTS", (*EXPERIMENTS, *designs))


def test_rows_are_those_of_a_run_without_ray(nodes, tmp_path, monkeypatch, capsys):
    use(monkeypatch, SMALL)
    common = ["run", "small", "--workdir"]
    assert main([*common, str(tmp_path / "w1"), "--out", str(tmp_path / "a")]) == 0
    cluster = [*common, str(tmp_path / "w2"), "--out", str(tmp_path / "b"), "--ray", "auto"]
    assert main(cluster) == 0
    assert (tmp_path / "a" / "small.csv").read_bytes() == (
        tmp_path / "b" / "small.csv"
    ).read_bytes()
    assert len(list((tmp_path / "w2" / "tasks").glob(f"*{SUFFIX}"))) == 4
    assert "4 of 4 tasks" in capsys.readouterr().out
    # A driver that starts again finds everything done, and one without the record merges it.
    assert main([*cluster[:-3], str(tmp_path / "c"), "--ray", "auto"]) == 0
    assert (tmp_path / "c" / "small.csv").read_bytes() == (
        tmp_path / "a" / "small.csv"
    ).read_bytes()


def test_a_job_that_raises_is_named_and_the_others_are_kept(nodes, tmp_path, monkeypatch, capsys):
    wrong = Strange(str(tmp_path / "mark"), "raises", label="wrong")
    use(monkeypatch, replace(SMALL, parts=(wrong, SMALL.parts[0]), seeds=(0,), together=()))
    out = ["--out", str(tmp_path / "a"), "--workdir", str(tmp_path / "w")]
    assert main(["run", "small", *out, "--ray", "auto"]) == 2
    error = capsys.readouterr().err
    assert "1 of 2 jobs failed, the others are kept: small, wrong, seed 0" in error
    assert "wrong on purpose" in error
    assert set(lt.load_rows("small", root=tmp_path / "a")["arm"]) == {"width 8: ticket"}


def test_a_budget_holds_there_too(nodes, tmp_path, monkeypatch, capsys):
    long = replace(PART, label="long", train=replace(TRAIN, steps=10_000_000))
    use(monkeypatch, replace(SMALL, parts=(long,), seeds=(0,), together=()))
    out = ["--out", str(tmp_path / "a"), "--workdir", str(tmp_path / "w")]
    started = time.monotonic()
    assert main(["run", "small", *out, "--ray", "auto", "--budget", "10s"]) == 0
    assert time.monotonic() - started < 60
    assert "stopped: the time is up; left:" in capsys.readouterr().out
    assert list((tmp_path / "w").rglob("clock.json")), "its folder is there to go on from"


def test_the_bucket_of_an_s3_server_takes_the_tasks(nodes, tmp_path, monkeypatch):
    import s3fs
    from moto.server import ThreadedMotoServer

    local = ThreadedMotoServer(port=0, verbose=False)
    local.start()
    host, port = local.get_host_and_port()
    endpoint = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    try:
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x"),
            ("AWS_DEFAULT_REGION", "us-east-1"), ("AWS_ENDPOINT_URL", endpoint),
            ("FSSPEC_S3_ENDPOINT_URL", endpoint),
        ):  # fmt: skip
            monkeypatch.setenv(name, value)
        system = s3fs.S3FileSystem(endpoint_url=endpoint)
        system.mkdir("bucket")
        use(monkeypatch, SMALL)
        run = ["run", "small", "--workdir", str(tmp_path / "w"), "--out", str(tmp_path / "a")]
        assert main([*run, "--store", "s3://bucket/lth"]) == 0
        names = [path.rpartition("/")[2] for path in system.ls("bucket/lth", refresh=True)]
        assert len(names) == 4 and all(name.endswith(SUFFIX) for name in names)
        task = from_bytes(system.cat_file(f"bucket/lth/{names[0]}"), names[0])
        assert lines_of(task.rows)
        assert main(["merge", "s3://bucket/lth", "--out", str(tmp_path / "b")]) == 0
        one, other = (lt.load_rows("small", root=tmp_path / folder) for folder in "ab")
        assert lines_of(one) == lines_of(other)
        elsewhere = [*run[:-1], str(tmp_path / "c"), "--store", "s3://nowhere/lth"]
        assert main(elsewhere) == 2, "a bucket that is not there"
    finally:
        local.stop()


def test_a_job_whose_node_dies_is_started_on_another(nodes, tmp_path, monkeypatch, capsys):
    """Last: it takes a node away."""
    mark = tmp_path / "mark"
    dying = Strange(str(mark), "dies", label="dies")
    use(monkeypatch, replace(SMALL, parts=(dying,), seeds=(0,), together=()))

    dead = []

    def kill_when_begun():
        for _ in range(600):
            if mark.exists() and mark.read_text():
                break
            time.sleep(0.1)
        for node in list(nodes.worker_nodes):
            if node.node_id == mark.read_text():
                nodes.remove_node(node, allow_graceful=False)
                dead.append(node)

    killer = threading.Thread(target=kill_when_begun)
    killer.start()
    out = ["--out", str(tmp_path / "a"), "--workdir", str(tmp_path / "w")]
    assert main(["run", "small", *out, "--ray", "auto"]) == 0
    killer.join()
    assert len(dead) == 1
    assert lt.load_rows("small", root=tmp_path / "a")["seed"].tolist() == [0]


def test_an_address_where_nothing_answers_is_said_at_once(tmp_path, monkeypatch, capsys):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    use(monkeypatch, SMALL)
    out = ["--out", str(tmp_path / "a"), "--workdir", str(tmp_path / "w")]
    started = time.monotonic()
    assert main(["run", "small", *out, "--ray", "127.0.0.1:9"]) == 2
    assert time.monotonic() - started < 20
    error = capsys.readouterr().err
    assert "no Ray cluster answers at '127.0.0.1:9'" in error and "ray start --head" in error


def test_without_ray_the_message_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    use(monkeypatch, SMALL)
    out = ["--out", str(tmp_path / "a"), "--workdir", str(tmp_path / "w")]
    assert main(["run", "small", *out, "--ray"]) == 2
    assert "pip install 'lth-tutorial[cluster]'" in capsys.readouterr().err
