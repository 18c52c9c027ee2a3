"""What a GPU can do in mid-run, with errors of its kind raised on the CPU."""

from __future__ import annotations

import warnings

import pytest
import torch

import lth_tutorial as lt
import lth_tutorial.supermask.search
import lth_tutorial.training.replicates
from lth_tutorial.training.progress import Run
from lth_tutorial.training.steps import Step

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB.\nMore text"


def networks(data, n=5):
    return [lt.build_model("mlp_12", seed=seed, data=data) for seed in range(n)]


@pytest.fixture
def memory(monkeypatch):
    """Let training run out of memory whenever more than `memory["holds"]` networks take part.

    `memory["when"]` is a number of steps that are taken before, or "results", when all is done.
    """
    state = {"holds": 10, "trained": [], "when": 0}
    call, results = Step.__call__, Run.results

    def step(self, x, y, *rest):
        self.taken = getattr(self, "taken", -1) + 1
        if self.group.size > state["holds"] and self.taken == state["when"]:
            raise torch.OutOfMemoryError(FULL)
        state["trained"].append(self.group.size)
        return call(self, x, y, *rest)

    def results_of(self, stop_step):
        if self.group.size > state["holds"] and state["when"] == "results":
            raise torch.OutOfMemoryError(FULL)
        return results(self, stop_step)

    monkeypatch.setattr(Step, "__call__", step)
    monkeypatch.setattr(Run, "results", results_of)
    return state


@pytest.mark.parametrize(("holds", "sizes"), [(4, {2, 3}), (2, {2, 1}), (1, {1})])
def test_what_does_not_fit_at_once_is_trained_in_parts(tiny_data, config, memory, holds, sizes):
    seeds = [3, 1, 4, 5, 9]
    expected = [r.final for r in lt.train_replicates(networks(tiny_data), tiny_data, config,
                                                     data_seeds=seeds)]  # fmt: skip
    memory.update(holds=holds, trained=[])
    models = networks(tiny_data)
    with pytest.warns(lt.MemoryWarning) as said:
        results = lt.train_replicates(models, tiny_data, config, data_seeds=seeds)
    assert "5 networks at once do not fit" in str(said[0].message)
    assert str(said[0].message).endswith("training 2 and 3")
    assert set(memory["trained"]) == sizes
    for model, result, state in zip(models, results, expected, strict=True):
        final = lt.snapshot(model)
        for name in state:
            assert torch.allclose(result.final[name], state[name], atol=2e-5)
            assert torch.equal(final[name], result.final[name])


@pytest.mark.parametrize("when", [0, 7, "results"])
@pytest.mark.parametrize("work", [False, True], ids=["", "workdir"])
def test_memory_may_run_out_at_any_time(tiny_data, config, memory, tmp_path, when, work):
    """The networks are as they were, and every step is reported once."""
    options = {"data_seeds": [3, 1, 4, 5], "workdir": tmp_path if work else None}
    expected = lt.train_replicates(
        networks(tiny_data, 4), tiny_data, config, data_seeds=[3, 1, 4, 5]
    )
    memory.update(holds=2, when=when)
    steps = []
    with pytest.warns(lt.MemoryWarning):
        results = lt.train_replicates(
            networks(tiny_data, 4), tiny_data, config, on_step=lambda: steps.append(1), **options
        )
    assert len(steps) == 4 * config.steps
    for result, one in zip(results, expected, strict=True):
        for name in one.final:
            assert torch.equal(result.start[name], one.start[name])
            assert torch.allclose(result.final[name], one.final[name], atol=2e-5)


def test_parts_are_kept_and_found_again(tiny_data, config, memory, tmp_path):
    memory["holds"] = 2
    options = {"data_seeds": [0, 1, 2, 3, 4], "workdir": tmp_path}
    with pytest.warns(lt.MemoryWarning):
        first = lt.train_replicates(networks(tiny_data), tiny_data, config, **options)
    memory["trained"].clear()
    with pytest.warns(lt.MemoryWarning):
        again = lt.train_replicates(networks(tiny_data), tiny_data, config, **options)
    assert not memory["trained"]
    hashes = [[lt.state_hash(r.final) for r in results] for results in (first, again)]
    assert hashes[0] == hashes[1] and len(set(hashes[0])) == 5


@pytest.mark.parametrize("holds", [3, 1])
@pytest.mark.parametrize("work", [False, True], ids=["", "workdir"])
def test_supermasks_are_searched_in_parts_too(tiny_data, config, memory, tmp_path, holds, work):
    def search(workdir=None):
        design = lt.SupermaskConfig("edge_popup", 0.5)
        return lt.train_supermasks(
            networks(tiny_data), tiny_data, design, config, seeds=range(5), workdir=workdir
        )

    expected = search()
    memory["holds"] = holds
    with pytest.warns(lt.MemoryWarning):
        found = search(tmp_path if work else None)
    for one, other in zip(found, expected, strict=True):
        assert all(torch.allclose(one.scores[n], other.scores[n], atol=2e-5) for n in one.scores)


@pytest.mark.parametrize("message", ["CUDA error: out of memory\nhints",
                                     "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling",
                                     "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"])  # fmt: skip
def test_full_memory_is_known_by_its_other_names(tiny_data, config, monkeypatch, message):
    call = Step.__call__

    def step(self, x, y, *rest):
        if self.group.size > 1:
            raise RuntimeError(message)
        return call(self, x, y, *rest)

    monkeypatch.setattr(Step, "__call__", step)
    with pytest.warns(lt.MemoryWarning):
        lt.train_replicates(networks(tiny_data, 2), tiny_data, config, data_seeds=[0, 1])


def test_an_assertion_on_the_gpu_names_its_usual_cause(tiny_data, config, monkeypatch):
    def step(self, x, y, *rest):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(Step, "__call__", step)
    with pytest.raises(RuntimeError, match="label or an index out of range"):
        lt.train(networks(tiny_data, 1)[0], tiny_data, config)


def test_a_single_network_that_does_not_fit_is_said(tiny_data, config, memory):
    memory["holds"] = 0
    with pytest.warns(lt.MemoryWarning), pytest.raises(RuntimeError) as caught:
        lt.train_replicates(networks(tiny_data, 2), tiny_data, config, data_seeds=[0, 1])
    text = str(caught.value)
    assert "a single network: CUDA out of memory. Tried to allocate 2.00 GiB." in text
    assert "smaller batch_size" in text and "More text" not in text


@pytest.mark.parametrize("message", ["CUDA error: unspecified launch failure\nhints",
                                     "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"])  # fmt: skip
def test_a_gpu_that_fails_leaves_a_run_that_goes_on(
    tiny_data, config, tmp_path, monkeypatch, message
):
    straight = lt.train(networks(tiny_data, 1)[0], tiny_data, config)
    call, steps = Step.__call__, []

    def step(self, x, y, *rest):
        steps.append(x)
        if len(steps) == 8:
            raise RuntimeError(message)
        return call(self, x, y, *rest)

    monkeypatch.setattr("lth_tutorial.training.checkpoints.SAVE_EVERY_S", 0.0)
    with monkeypatch.context() as lost:
        lost.setattr(Step, "__call__", step)
        with pytest.raises(RuntimeError) as caught:
            lt.train(networks(tiny_data, 1)[0], tiny_data, config, workdir=tmp_path)
        text = str(caught.value)
        assert message.splitlines()[0] in text and f"checkpoint in {tmp_path}" in text
        steps.clear()
        with pytest.raises(RuntimeError, match="nothing was kept: a workdir"):
            lt.train(networks(tiny_data, 1)[0], tiny_data, config)
    steps.clear()
    monkeypatch.setattr(Step, "__call__", lambda *a: steps.append(a) or call(*a))
    resumed = lt.train(networks(tiny_data, 1)[0], tiny_data, config, workdir=tmp_path)
    assert lt.state_hash(resumed.final) == lt.state_hash(straight.final)
    assert len(steps) == config.steps - 7


@pytest.mark.parametrize("message", ["mat1 and mat2 shapes cannot be multiplied",
                                     "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED",
                                     "CUDA error: no kernel image is available"])  # fmt: skip
def test_other_errors_pass_as_they_are(tiny_data, config, monkeypatch, message):
    def step(self, x, y, *rest):
        raise RuntimeError(message)

    monkeypatch.setattr(Step, "__call__", step)
    with warnings.catch_warnings(), pytest.raises(RuntimeError, match=f"^{message}"):
        warnings.simplefilter("error")
        lt.train(networks(tiny_data, 1)[0], tiny_data, config)
