"""What a GPU can do in mid-run, with errors of its kind raised on the CPU."""

from __future__ import annotations

import warnings

import pytest
import torch

import lth_tutorial as lt
import lth_tutorial.replicates
import lth_tutorial.supermask.search
from lth_tutorial.steps import Step

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB.\nMore text"


def networks(data, n=5):
    return [lt.build_model("mlp_12", seed=seed, data=data) for seed in range(n)]


@pytest.fixture
def memory(monkeypatch):
    """Let training run out of memory whenever more than `memory["holds"]` networks take part."""
    state = {"holds": 10, "trained": []}
    call = Step.__call__

    def step(self, x, y, lr):
        if self.group.size > state["holds"]:
            raise torch.OutOfMemoryError(FULL)
        state["trained"].append(self.group.size)
        return call(self, x, y, lr)

    monkeypatch.setattr(Step, "__call__", step)
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


def test_supermasks_are_searched_in_parts_too(tiny_data, config, memory):
    def search():
        design = lt.SupermaskConfig("edge_popup", 0.5)
        return lt.train_supermasks(networks(tiny_data), tiny_data, design, config, seeds=range(5))

    expected = search()
    memory["holds"] = 3
    with pytest.warns(lt.MemoryWarning):
        found = search()
    for one, other in zip(found, expected, strict=True):
        assert all(torch.allclose(one.scores[n], other.scores[n], atol=2e-5) for n in one.scores)


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

    def step(self, x, y, lr):
        steps.append(lr)
        if len(steps) == 8:
            raise RuntimeError(message)
        return call(self, x, y, lr)

    monkeypatch.setattr("lth_tutorial.checkpoints.SAVE_EVERY_S", 0.0)
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


def test_other_errors_pass_as_they_are(tiny_data, config, monkeypatch):
    def step(self, x, y, lr):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Step, "__call__", step)
    with warnings.catch_warnings(), pytest.raises(RuntimeError, match="^mat1 and mat2"):
        warnings.simplefilter("error")
        lt.train(networks(tiny_data, 1)[0], tiny_data, config)
