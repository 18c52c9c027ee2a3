"""Everything a GPU must show, in one command: `python tests/tools/gpu_check.py [--out FOLDER]`.

Runs the GPU tests, times the long experiments step by step beside their floors, and measures a
short record from end to end; prints one short table last and writes everything as JSON. Takes at
most five minutes on a large GPU, and needs nothing but PyTorch, torchvision, pandas, SciPy,
safetensors, joblib, filelock, tqdm and pytest. Without a GPU it is a rehearsal: the same code on
the CPU, with small sizes and pretended recordings, whose times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks")]

import torch
import torch.nn.functional as F
from floors import bandwidth, floor_of_a_step, peak_operations, wait_for
from torch.utils.data import DataLoader, TensorDataset

import lth_tutorial as lt
from lth_tutorial.pruning import radix
from lth_tutorial.supermask.group import MaskedGroup
from lth_tutorial.supermask.selection import highest
from lth_tutorial.training.branches import Branches
from lth_tutorial.training.evaluation import evaluate_group
from lth_tutorial.training.groups import Stack
from lth_tutorial.training.plan import Plan
from lth_tutorial.training.precision import arithmetic
from lth_tutorial.training.progress import Run
from lth_tutorial.training.steps import Graphs, PlannedStep, Step, masked_parameters

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
BEGAN = time.time()
MNIST, CIFAR = (1, 28, 28), (3, 32, 32)


@dataclass(frozen=True)
class Work:
    """What is timed: a step of some replicates of a network.

    Attributes:
        kind: "stack", "branches", or the method of a search for supermasks.
        goal: µs for a step, of all replicates of a stack, else of one of them.
    """

    model: str
    kind: str
    replicates: int
    config: lt.TrainConfig
    shape: tuple[int, ...] = CIFAR
    goal: float | None = None

    @property
    def name(self) -> str:
        """A line of the table."""
        kind = "" if self.kind in ("stack", "branches") else f" {self.kind}"
        return f"{self.model}{kind} × {self.replicates}, {self.config.precision}"


def _adam(precision: str) -> lt.TrainConfig:
    return lt.TrainConfig(
        steps=2_000, batch_size=60, optimizer="adam", lr=1.2e-3, precision=precision
    )


def _sgd(precision: str, batch_size: int = 128, augment: bool = True) -> lt.TrainConfig:
    return lt.TrainConfig(
        steps=2_000, batch_size=batch_size, lr=0.1, weight_decay=1e-4, schedule="cosine",
        augment=augment, precision=precision,
    )  # fmt: skip


WORKS = (
    Work("lenet_300_100", "stack", 20, _adam("fp32"), MNIST, goal=170),
    Work("lenet_300_100", "stack", 20, _adam("tf32"), MNIST, goal=170),
    Work("resnet_20", "branches", 8, _sgd("bf16"), goal=900),
    Work("resnet_20", "branches", 16, _sgd("bf16"), goal=900),
    Work("resnet_20", "branches", 8, _sgd("tf32"), goal=2_000),
    Work("resnet_20", "branches", 8, _sgd("fp32")),
    Work("conv_6", "edge_popup", 4, _sgd("bf16", augment=False), goal=800),
    Work("conv_6", "edge_popup", 8, _sgd("bf16", augment=False), goal=800),
    Work("conv_6", "edge_popup", 4, _sgd("tf32", augment=False)),
    Work("resnet_18", "branches", 1, _sgd("bf16", 256), goal=4_000),
    Work("resnet_18", "branches", 3, _sgd("bf16", 256), goal=4_000),
    Work("resnet_18", "biprop", 1, _sgd("bf16", 256), goal=4_400),
    Work("resnet_18", "biprop", 3, _sgd("bf16", 256), goal=4_400),
)


class Called:
    """Stands in for recordings where there is no GPU."""

    def warm_up(self, run: Callable) -> tuple:
        """Run as usual."""
        return run()

    def record(self, run: Callable) -> Callable:
        """Return the function itself."""
        return run


def noise(shape: tuple[int, ...]) -> lt.Dataset:
    """Return images of a data set's shape and size that have something to learn, on the device."""
    n = 45_000 if ON_GPU else 300
    generator = torch.Generator().manual_seed(0)
    held_out = 2_500 if ON_GPU else 50
    x = torch.randint(0, 128, (n + 2 * held_out, *shape), dtype=torch.uint8, generator=generator)
    y = torch.arange(len(x)) % 10
    x += (12 * y).view(-1, *(1,) * len(shape)).to(torch.uint8)
    ends = (0, n, n + held_out, n + 2 * held_out)
    parts = [(x[i:j], y[i:j]) for i, j in pairwise(ends)]
    return lt.make_dataset("noise", *parts).to(DEVICE)


def networks(work: Work, data: lt.Dataset) -> list:
    """Return the networks on the device."""
    seeds = range(work.replicates)
    return [lt.build_model(work.model, seed=s, data=data).to(DEVICE) for s in seeds]


def random_masks(models: list) -> list[lt.Mask]:
    """Return masks of half the weights."""
    dense = {name: kept.cpu() for name, kept in lt.dense_mask(models[0]).items()}
    mask = lt.prune(lt.random_scores(dense, 0), dense, 0.5, scope="layer")
    return [{name: kept.to(DEVICE) for name, kept in mask.items()} for _ in models]


def step_of(work: Work, data: lt.Dataset) -> PlannedStep:
    """Return the recorded step, as the training loop makes it."""
    models, config = networks(work, data), work.config
    last, masks = ON_GPU and config.precision != "fp32", None
    if work.kind == "stack":
        group, masks = Stack(models), random_masks(models)
    elif work.kind == "branches":
        group, masks = Branches(models, channels_last=last), random_masks(models)
    else:
        design, seeds = lt.SupermaskConfig(work.kind, 0.5), list(range(work.replicates))
        group = MaskedGroup(models, design, config.steps, seeds, channels_last=last)
    optimizer = Run(group, data, config, 0).optimizer
    step = Step(group, optimizer, config, masked_parameters(group, masks), DEVICE)
    plan = Plan(
        data, config, range(work.replicates), 0, config.steps,
        channels_last=getattr(group, "channels_last", False),
    )  # fmt: skip
    return PlannedStep(step, plan, Graphs(DEVICE) if ON_GPU else Called())


def seconds_per_step(update: PlannedStep, budget_s: float) -> tuple[float, float]:
    """Return the time of a step, as events on the device see it, and what getting ready took."""
    began = time.time()
    for i in range(6):
        update(i)
    wait_for(DEVICE)
    ready, began = time.time() - began, time.time()
    for i in range(6, 10):
        update(i)
    wait_for(DEVICE)
    guess = (time.time() - began) / 4
    n, times, done = max(4, min(150, int(budget_s / guess / 3))), [], 10
    for _ in range(3 if ON_GPU else 1):
        began = time.perf_counter()
        for i in range(done, done + n):
            update(i)
        wait_for(DEVICE)
        times.append((time.perf_counter() - began) / n)
        done += n
    return sorted(times)[len(times) // 2], ready


def rehearsed(work: Work) -> Work:
    """Return a piece of work that a CPU does in a moment: the same code, other sizes."""
    small = {"lenet_300_100": "mlp_30_10", "conv_6": "vgg_tiny", "resnet_18": "resnet_20"}
    config = replace(work.config, batch_size=2, steps=40)
    return replace(
        work, model=small.get(work.model, work.model), replicates=min(2, work.replicates),
        config=config,
    )  # fmt: skip


def timed(work: Work, data: lt.Dataset) -> dict:
    """Return what one line of the table needs to know."""
    work = work if ON_GPU else rehearsed(work)
    with arithmetic(work.config.precision, DEVICE):
        if ON_GPU:
            torch.cuda.reset_peak_memory_stats()
        update = step_of(work, data)
        seconds, ready = seconds_per_step(update, 0.8 if ON_GPU else 0.01)
    share = 1 if work.kind == "stack" else work.replicates
    model = lt.build_model(work.model, seed=0, data=data).to(DEVICE)
    x = data.normalize(data.x_train[: work.config.batch_size])
    trained = sum(p.numel() for p in model.parameters())
    floor = floor_of_a_step(model, x, work.replicates, work.config, trained)
    return {
        "name": work.name, "precision": work.config.precision, "compiled": False,
        "kind": work.kind, "replicates": work.replicates, "batch": work.config.batch_size,
        "step_us": 1e6 * seconds / share, "floor_us": 1e6 * floor.seconds / share,
        "goal_us": work.goal, "ready_s": ready,
        "memory_GiB": torch.cuda.max_memory_allocated() / 2**30 if ON_GPU else None,
    }  # fmt: skip


def kernels(work: Work, data: lt.Dataset, rows: int = 14) -> list[dict]:
    """Return what takes the time of a step, kernel by kernel."""
    from torch.profiler import ProfilerActivity, profile

    with arithmetic(work.config.precision, DEVICE):
        update = step_of(work, data)
        for i in range(6):
            update(i)
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            for i in range(6, 16):
                update(i)
            wait_for(DEVICE)
    events = sorted(seen.key_averages(), key=lambda e: -e.device_time_total)[:rows]
    return [
        {"kernel": e.key[:110], "us_per_step": e.device_time_total / 10, "calls": e.count / 10}
        for e in events
    ]


def selection() -> dict:
    """Return the time of choosing 20 % of ResNet-18's weights, layer by layer and all at once."""
    model = lt.build_model("resnet_18" if ON_GPU else "vgg_tiny", seed=0)
    sizes = [p.numel() for p in model.parameters() if p.ndim > 1]
    scores = [torch.randn(1, n, device=DEVICE) for n in sizes]
    counts = [max(1, n // 5) for n in sizes]
    flat = torch.cat([each[0] for each in scores])

    def sort():
        return [highest(each.abs(), k) for each, k in zip(scores, counts, strict=True)]

    found = {"name": "choosing masks", "by_sorting_us": 1e6 * _median(sort)}
    if radix.is_available(DEVICE):
        choose = radix.Highest(list(enumerate(sizes)), counts, DEVICE)
        bits = flat.view(torch.int32)
        found["at_once_us"] = 1e6 * _median(_recorded(lambda: choose(bits, magnitudes=True)))
        same = torch.cat([each[0] for each in sort()])
        found["equal"] = bool(torch.equal(choose(bits, magnitudes=True), same))
    return found


def _median(call: Callable, repeats: int = 20) -> float:
    """Return the median time of a call in seconds."""
    call()
    times = []
    for _ in range(repeats if ON_GPU else 2):
        wait_for(DEVICE)
        began = time.perf_counter()
        call()
        wait_for(DEVICE)
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def _recorded(call: Callable) -> Callable:
    """Return a function that replays what a call does on the device."""
    graphs = Graphs(DEVICE) if ON_GPU else Called()
    graphs.warm_up(call)
    return graphs.record(call)


def with_a_loader(data: lt.Dataset, steps: int) -> int:
    """Train ResNet-20 as most code does: a DataLoader, fp32, images normalised one by one."""
    model = lt.build_model("resnet_20", seed=0).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    images = TensorDataset(data.normalize(data.x_train), data.y_train)
    loader, done = DataLoader(images, 128, shuffle=True, num_workers=2), 0
    while done < steps:
        for x, y in loader:
            x, y = x.to(DEVICE), y.to(DEVICE)
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            done += 1
            if done == steps:
                break
    return 128 * steps


def with_ours(data: lt.Dataset, steps: int, replicates: int = 8) -> int:
    """Train eight of them side by side, augmented too."""
    seeds = range(replicates if ON_GPU else 1)
    models = [lt.build_model("resnet_20", seed=s).to(DEVICE) for s in seeds]
    config = replace(_sgd("bf16"), steps=steps)
    lt.train_replicates(models, data.to(DEVICE), config, data_seeds=seeds)
    return 128 * steps * len(seeds)


def images_per_second(train: Callable, data: lt.Dataset, steps: int) -> float:
    """Return the rate of a long run's second part, so that getting ready does not count."""
    times, seen = [], []
    for n in (steps // 3, steps):
        wait_for(DEVICE)
        began = time.perf_counter()
        seen.append(train(data, n))
        wait_for(DEVICE)
        times.append(time.perf_counter() - began)
    return (seen[1] - seen[0]) / max(times[1] - times[0], 1e-9)


def against_a_loader(data: lt.Dataset) -> dict:
    """Return images per second of ResNet-20 by a DataLoader, and by eight replicates of ours."""
    size, steps = (20_000, 450) if ON_GPU else (300, 3)
    data = replace(data.to("cpu"), x_train=data.x_train[:size].cpu(),
                   y_train=data.y_train[:size].cpu())  # fmt: skip
    theirs = images_per_second(with_a_loader, data, steps)
    ours = images_per_second(with_ours, data, steps)
    return {"name": "ResNet-20, images/s", "ours": ours, "loader": theirs, "ratio": ours / theirs}


def cost_of_watching(data: dict) -> list[dict]:
    """Return the share of a run that validation, checks and progress cost beyond arithmetic."""
    found, every = [], 100 if ON_GPU else 1
    for name, config, n, first, last in (
        ("lenet_300_100", _adam("fp32"), 20, 200, 4_000), ("resnet_20", _sgd("bf16"), 8, 200, 600)
    ):  # fmt: skip
        if not ON_GPU:
            n, first, last, config = 2, 0, 2, replace(config, batch_size=2)
        images = data[MNIST if name == "lenet_300_100" else CIFAR]
        models = [lt.build_model(name, seed=s, data=images).to(DEVICE) for s in range(n)]
        times = []
        for eval_every in (None, every):
            settings = replace(config, steps=last + 50, eval_every=eval_every)
            times.append(_seconds_between(first, last, models, images, settings))
        stacked = name == "lenet_300_100"
        group = Stack(models) if stacked else Branches(models, channels_last=ON_GPU)
        forward = _recorded_seconds(partial(evaluate_group, group, images, "val"))
        points = (last - first) // every
        found.append({
            "name": f"watching {name} × {n}", "plain_s": times[0], "watched_s": times[1],
            "points": points, "forward_us": 1e6 * forward,
            "share": (times[1] - times[0] - points * forward) / times[0],
        })  # fmt: skip
    return found


def _seconds_between(first: int, last: int, models: list, data, config: lt.TrainConfig) -> float:
    """Return the time from one step to another. After both the loop has read a loss, so that the
    device is done with them."""
    n, ticks, at = len(models), 0, {}

    def tick():
        nonlocal ticks
        ticks += 1
        if ticks in ((first + 1) * n, (last + 1) * n):
            at[ticks // n - 1] = time.perf_counter()

    lt.train_replicates(models, data, config, data_seeds=range(n), on_step=tick)
    return at[last] - at[first]


def _recorded_seconds(call: Callable) -> float:
    with arithmetic("fp32", DEVICE), torch.no_grad():
        return _median(_recorded(call))


def record(out: Path) -> dict:
    """Measure a recorded experiment from end to end, at a small scale, and read it again."""
    from lth_tutorial.experiments import experiment, run
    from lth_tutorial.results.records import load_rows, save_rows

    name = "digits-winning-tickets"
    data = lt.load_dataset("digits", device=DEVICE)
    began = time.time()
    rows, provenance = run(experiment(name), data, scale=0.1 if ON_GPU else 0.01)
    save_rows(rows, name, provenance, root=out / "record")
    again = load_rows(name, root=out / "record")
    precisions = {config["precision"] for part in provenance["parts"] for config in part.values()
                  if isinstance(config, dict) and "precision" in config}  # fmt: skip
    return {"name": f"record {name}", "rows": len(again), "device": provenance["device"],
            "precision": sorted(precisions), "seconds": time.time() - began}  # fmt: skip


def tests(out: Path, limit_s: float) -> dict:
    """Run the GPU tests, warnings being errors, in several processes: most of their time is the
    processor's."""
    began, workers = time.time(), max(1, min(8, (os.cpu_count() or 1) // 2))
    environment = os.environ | {"LTH_TUTORIAL_PRETEND_GPU": "1", "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable, "-m", "pytest", "-q", "-W", "error", "-m", "gpu and not bench",
        "-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "no:xdist", "--tb=short", "-rf",
    ]  # fmt: skip
    listed = subprocess.run(
        [*command, "--collect-only", "tests/test_on_gpu.py", "tests/tickets/test_together.py"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    names = [line for line in listed.stdout.splitlines() if "::" in line]
    logs = [(out / f"tests-{i}.log").open("w+") for i in range(workers)]
    running = [
        subprocess.Popen([*command, *names[i::workers]], cwd=ROOT, env=environment, stdout=log,
                         stderr=subprocess.STDOUT)
        for i, log in enumerate(logs)
    ]  # fmt: skip
    status, text = [], ""
    for process, log in zip(running, logs, strict=True):
        try:
            status.append(process.wait(max(1.0, limit_s - (time.time() - began))))
        except subprocess.TimeoutExpired:
            process.kill()
            status.append("too slow")
        log.seek(0)
        text += log.read()
        log.close()
        (out / log.name).unlink()
    (out / "tests.log").write_text(text)
    failed = [line for line in text.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return {"name": f"{len(names)} GPU tests", "failed": len(failed), "which": failed,
            "status": status if any(status) else 0, "seconds": time.time() - began}  # fmt: skip


def attempt(found: dict, key: str, call: Callable) -> None:
    """Add what a call returns, or its error: one that fails must not hide the others."""
    began = time.time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            found[key] = call()
    except Exception as error:
        found[key] = {"name": key, "error": f"{type(error).__name__}: {str(error)[:300]}",
                      "trace": traceback.format_exc()[-3_000:]}  # fmt: skip
    if ON_GPU:
        torch.cuda.empty_cache()
    print(f"[{time.time() - BEGAN:5.1f}] {key}: {time.time() - began:.1f} s", flush=True)


def line(entry: dict) -> str:
    """Return one line of the table."""
    if "error" in entry:
        return f"{entry['name']:34s} FAILED {entry['error'][:120]}"
    if "step_us" in entry:
        goal = "" if entry["goal_us"] is None else f"{entry['goal_us']:7,.0f}"
        missed = ON_GPU and entry["goal_us"] is not None and entry["step_us"] > entry["goal_us"]
        return (f"{entry['name']:34s} {entry['step_us']:8,.0f} {entry['floor_us']:7,.0f} "
                f"{entry['step_us'] / entry['floor_us']:6.1f} {goal:>7s}"
                f"{'  missed' if missed else ''}")  # fmt: skip
    rest = {k: v for k, v in entry.items() if k not in ("name", "trace", "which")}
    shown = ", ".join(f"{k} {v:,.3g}" if isinstance(v, float) else f"{k} {v}"
                      for k, v in rest.items())  # fmt: skip
    return f"{entry['name']:34s} {shown}"


def main() -> int:
    """Run everything; return 1 if a test failed or something could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=os.environ.get("OUT", "gpu-check"), help="folder for JSON")
    parser.add_argument("--only", default="", help="works whose name contains one of these, by |")
    parser.add_argument("--skip", default="", help="any of tests,record,loader,watching,kernels")
    parser.add_argument("--tests-s", type=float, default=150.0, help="limit of the tests")
    options = parser.parse_args()
    out, skip = Path(options.out), options.skip.split(",")
    out.mkdir(parents=True, exist_ok=True)
    lt.limit_threads()
    found: dict = {}

    def save():
        about = {"device": torch.cuda.get_device_name(0) if ON_GPU else "cpu, in pretence",
                 "torch": torch.__version__, "seconds": time.time() - BEGAN}  # fmt: skip
        (out / "gpu.json").write_text(json.dumps({"about": about, **found}, indent=1, default=str))

    data = {shape: noise(shape) for shape in (CIFAR, MNIST)}
    for work in WORKS:
        if not options.only or any(part in work.name for part in options.only.split("|")):
            attempt(found, work.name, lambda work=work: timed(work, data[work.shape]))
            save()
    attempt(found, "selection", selection)
    if "loader" not in skip:
        attempt(found, "loader", lambda: against_a_loader(data[CIFAR]))
    if "watching" not in skip:
        attempt(found, "watching", lambda: cost_of_watching(data))
    if "record" not in skip:
        attempt(found, "record", lambda: record(out))
    save()
    if "kernels" not in skip and ON_GPU:
        for work in (WORKS[0], WORKS[2], WORKS[6], WORKS[10]):
            attempt(found, f"kernels of {work.name}",
                    lambda work=work: kernels(work, data[work.shape]))  # fmt: skip
    if "tests" not in skip:
        attempt(found, "tests", lambda: tests(out, options.tests_s))
    save()
    device = torch.cuda.get_device_name(0) if ON_GPU else "a CPU, in pretence: no time counts"
    print(
        f"\nPyTorch {torch.__version__} on {device}, nothing compiled; {time.time() - BEGAN:.0f} s"
    )
    if ON_GPU:
        print(f"peak bf16 {peak_operations(DEVICE, torch.bfloat16) / 1e12:.0f} TFLOP/s, "
              f"{bandwidth(DEVICE) / 1e12:.1f} TB/s")  # fmt: skip
    heads = ("a step (of a stack; else of one)", "µs", "floor", "times", "goal")
    print("{:34s} {:>8s} {:>7s} {:>6s} {:>7s}".format(*heads))
    entries = [e for k, v in found.items() if not k.startswith("kernels")
               for e in (v if isinstance(v, list) else [v])]  # fmt: skip
    for entry in entries:
        print(line(entry))
    failed = any("error" in e or e.get("status", 0) != 0 for e in entries)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
