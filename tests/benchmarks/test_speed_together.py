"""What training all arms of a round as one stack saves; run with `make bench`."""

from __future__ import annotations

import statistics
import time

import pytest

import lth_tutorial as lt
from lth_tutorial.tickets import together
from lth_tutorial.training import groups

pytestmark = pytest.mark.bench


def gain(monkeypatch, experiment, repeats: int = 3) -> float:
    """Return the processor time of one arm after the other over that of all at once."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(repeats):
        for merged, times in seconds.items():
            worth = groups.is_worth_merging if merged else lambda models: False
            monkeypatch.setattr(together, "is_worth_merging", worth)
            start = time.process_time()
            experiment()
            times.append(time.process_time() - start)
    return statistics.median(seconds[False]) / statistics.median(seconds[True])


@pytest.mark.parametrize(
    ("name", "seeds", "bound"),
    [("mlp_100_50", 10, 1.1), ("mlp_100_50", 3, 1.5), ("mlp_20", 2, 1.7)],
)
def test_all_arms_of_a_round_against_one_after_the_other(capsys, monkeypatch, name, seeds, bound):
    """The experiment of chapter 4, with half of its rounds and a third of its steps."""
    data = lt.load_dataset("digits")
    config = lt.TrainConfig(steps=200, batch_size=50, optimizer="adam", lr=5e-3, eval_every=5)
    imp = lt.IMPConfig(rounds=3, fraction=0.5, scope="layer")

    def experiment() -> None:
        lt.lottery_experiment(name, data, config, imp, seeds=range(seeds))

    value = gain(monkeypatch, experiment)
    with capsys.disabled():
        what = f"lottery of {seeds} seeds of {name}, over one arm after the other"
        print(f"\n{what:76} {value:6.2f}  (at least {bound:.3g})", end="")
    assert value >= bound
