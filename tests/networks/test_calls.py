"""Models that write into what they are given: examples stay, and every pass sees the same ones."""

from __future__ import annotations

import threading

import pytest
import torch
from samples import blobs
from torch import nn

import lth_tutorial as lt
from lth_tutorial.networks.layers import AppendOne


class Subtracts(nn.Module):
    def __init__(self, *, inplace: bool):
        super().__init__()
        self.hidden, self.out, self.inplace = nn.Linear(8, 16), nn.Linear(16, 3), inplace

    def forward(self, x):
        if self.inplace:
            x -= 0.5
        return self.out(torch.tanh(self.hidden(x if self.inplace else x - 0.5)))


class ReadsTokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(10, 8), nn.Linear(8, 3)

    def forward(self, x):
        x[x > 5] = 0
        return self.out(self.words(x).mean(dim=1))


@pytest.fixture
def data():
    return lt.make_dataset("toy", *(blobs(40, seed) for seed in (1, 2, 3)))


def pair(data) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    models = Subtracts(inplace=True), Subtracts(inplace=False)
    models[1].load_state_dict(models[0].state_dict())
    return models


@pytest.mark.parametrize(
    "criterion",
    [lt.snip_scores, lt.gradient_scores, lt.grasp_scores, lt.fisher_scores, lt.obd_scores],
)
def test_criteria_show_every_pass_the_same_examples(data, criterion):
    writing, other = pair(data)
    mask = lt.dense_mask(writing)
    got, expected = (criterion(model, data, mask) for model in (writing, other))
    for name in mask:
        assert torch.allclose(got[name], expected[name], atol=1e-7)


def test_costs_and_removal_leave_the_inputs_as_they_are(data):
    writing, other = pair(data)
    x = data.normalize(data.x_test)
    before = x.clone()
    lt.flops(writing, x)
    lt.cost_table({"writing": writing}, x, repeats=1)
    units = {"hidden": torch.arange(16) > 3}
    small = lt.remove_units(writing, units, x)
    assert torch.equal(x, before)
    expected = lt.remove_units(other, units, x)(before.clone())
    assert torch.allclose(small(before.clone()), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore::lth_tutorial.LeftOutWarning")
def test_token_indices_of_a_data_set_stay_whatever_a_model_writes():
    x, y = torch.randint(0, 10, (60, 6)), torch.arange(60) % 3
    before, data = x.clone(), lt.make_dataset("text", (x, y), None, (x, y))
    model, config = ReadsTokens(), lt.TrainConfig(steps=3, batch_size=10)
    lt.evaluate(model, data)
    lt.snip_scores(model, data, lt.dense_mask(model))
    lt.train(model, data, config)
    lt.edge_popup(model, data, 0.5, config)
    assert torch.equal(x, before)


@pytest.mark.parametrize("first", [[], [AppendOne()]], ids=["relu", "appended"])
def test_a_stack_that_begins_by_writing_takes_one_input_for_all(tiny_data, config, first):
    def network(seed):
        torch.manual_seed(seed)
        n = tiny_data.shape[0] + len(first)
        relu = nn.ReLU(inplace=True)
        return nn.Sequential(*first, relu, nn.Linear(n, tiny_data.num_classes))

    states = [lt.train(network(0), tiny_data, config, data_seed=seed).final for seed in (0, 1)]
    line = lt.barrier(network(0), *states, tiny_data, points=3)
    alone = network(0)
    lt.load_state_(alone, states[0])
    assert line.losses[0] == pytest.approx(lt.evaluate(alone, tiny_data).loss, abs=1e-5)
    design = lt.SupermaskConfig("edge_popup", 0.5)
    both = lt.train_supermasks(
        [network(0), network(1)], tiny_data, design, config, seeds=[0, 1]
    )  # fmt: skip
    assert len(both) == 2


def recorded(kind: str) -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    x = torch.randn(4, 8)
    if kind == "traced":
        return torch.jit.trace(model, x)
    return torch.export.export(model, (x,)).module()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["traced", "exported"])
def test_a_recording_of_a_model_is_refused_in_words(data, config, kind):
    model = recorded(kind)
    for call in (
        lambda: lt.dense_mask(model),
        lambda: lt.snapshot(model),
        lambda: lt.train(model, data, config),
        lambda: lt.evaluate(model, data),
        lambda: lt.reinitialize(model, 0),
        lambda: lt.unit_groups(model, data.x_test),
    ):
        with pytest.raises(ValueError, match="pass the module that it was made from"):
            call()


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.optim.swa_utils.AveragedModel])
def test_units_are_of_the_model_inside_a_wrapper(data, wrap):
    model = wrap(Subtracts(inplace=False))
    with pytest.raises(lt.UntraceableError, match="wraps a Subtracts: pass the model inside"):
        lt.unit_groups(model, data.x_test)
    assert lt.snip_scores(model, data, lt.dense_mask(model))


class Keeps(nn.Module):
    """Keeps what it was called with last, or something that nobody can copy."""

    def __init__(self, lock=None):
        super().__init__()
        self.out, self.lock, self.last = nn.Linear(8, 3), lock, ()

    def forward(self, x):
        self.last = [(self.out(x), {"x": x})]
        return self.last[0][0]


def test_a_model_that_keeps_what_it_computed_is_copied(data):
    model = Keeps()
    model(data.x_test)
    state = lt.snapshot(model)
    assert lt.barrier(model, state, state, data, points=3).height == 0


def test_a_model_that_cannot_be_copied_is_named(data):
    model = Keeps(threading.Lock())
    state = lt.snapshot(model)
    with pytest.raises(ValueError, match="Keeps cannot be copied, which this needs: .*lock"):
        lt.barrier(model, state, state, data, points=3)


def test_a_state_without_some_parameters_is_refused(data, config):
    class Renames(nn.Linear):
        def state_dict(self, *arguments, **options):
            state = super().state_dict(*arguments, **options)
            return {f"model.{name}": tensor for name, tensor in state.items()}

    model = Renames(8, 3)
    for call in (lambda: lt.snapshot(model), lambda: lt.train(model, data, config)):
        with pytest.raises(ValueError, match="of Renames says nothing about weight"):
            call()
