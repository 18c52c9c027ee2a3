"""What a model must be, checked before the first step and before the first score."""

from __future__ import annotations

import pytest
import torch
from samples import blobs
from torch import nn
from torch.nn.utils import prune

import lth_tutorial as lt
from lth_tutorial.networks.calls import call_with
from lth_tutorial.networks.first_pass import first_pass

PATHS = ("synflow", "count_paths", "connected_weights")


class Odd(nn.Module):
    """Returns something else than logits, in one mode or both."""

    def __init__(self, kind: str):
        super().__init__()
        self.out, self.kind = nn.Linear(8, 3), kind

    def forward(self, x):
        logits = self.out(x)
        return {
            "tuple": (logits, x),
            "dict": {"logits": logits},
            "auxiliary": (logits, logits) if self.training else logits,
            "flat": logits.flatten(),
            "mean": logits.mean(0),
            "map": logits[:, :, None],
        }[self.kind]


def one_score(criterion):
    return lambda net, data: criterion(net, data, lt.dense_mask(net))


CALLS = {
    "train": lambda net, data: lt.train(net, data, lt.TrainConfig(steps=2, batch_size=10)),
    "evaluate": lambda net, data: lt.evaluate(net, data),
    "snip": lambda net, data: lt.snip_scores(net, data, lt.dense_mask(net)),
    "fisher": lambda net, data: lt.fisher_scores(net, data, lt.dense_mask(net)),
    "synflow": lambda net, data: lt.synflow_scores(net, data, lt.dense_mask(net)),
    "barrier": lambda net, data: lt.barrier(net, lt.snapshot(net), lt.snapshot(net), data),
    "edge_popup": lambda net, data: lt.edge_popup(
        net, data, 0.5, lt.TrainConfig(steps=2, batch_size=10)
    ),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["tuple", "dict", "flat", "mean", "map"])
def test_an_output_that_is_not_logits_is_refused_by_what_it_is(call, kind, tiny_data):
    with pytest.raises(ValueError, match="Odd returns .* in evaluation mode .*output must"):
        CALLS[call](Odd(kind), tiny_data)


def test_auxiliary_outputs_in_training_are_seen_before_the_first_step(tiny_data):
    net = Odd("auxiliary")
    before = lt.state_hash(lt.snapshot(net))
    with pytest.raises(ValueError, match="a tuple of 2 in training mode"):
        CALLS["train"](net, tiny_data)
    assert lt.state_hash(lt.snapshot(net)) == before
    assert net.training
    lt.evaluate(net, tiny_data)


def test_the_check_changes_nothing_that_training_would_not(tiny_data):
    """No running statistics, no random state, no mode."""
    net = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
    net[1].eval()
    before, state = torch.get_rng_state(), lt.snapshot(net)
    lt.train(net, tiny_data, lt.TrainConfig(steps=5, batch_size=10), stop_step=0)
    assert lt.state_hash(lt.snapshot(net)) == lt.state_hash(state)
    assert torch.equal(torch.get_rng_state(), before)
    assert [m.training for m in net] == [True, False, True, True]


def test_token_indices_reach_an_embedding_as_they_are():
    x = torch.randint(0, 50, (80, 6), generator=torch.Generator().manual_seed(0))
    data = lt.make_dataset("text", (x, x[:, 0] // 25), None, (x, x[:, 0] // 25))
    net = nn.Sequential(nn.Embedding(50, 16), nn.Flatten(), nn.Linear(96, 2))
    lt.train(net, data, lt.TrainConfig(steps=60, batch_size=20, lr=0.3))
    assert lt.evaluate(net, data).accuracy > 0.95
    assert torch.equal(data.normalize(x), x)
    with pytest.raises(ValueError, match="normalised unless they are token indices"):
        part = x.byte(), x[:, 0] // 25
        bytes_ = lt.make_dataset("bytes", part, None, part)
        lt.train(net, bytes_, lt.TrainConfig(steps=2, batch_size=20))
    with pytest.raises(ValueError, match="whole numbers are token indices, not normalised"):
        lt.train(nn.Linear(6, 2), data, lt.TrainConfig(steps=2, batch_size=20))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_named(dtype, tiny_data):
    net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3).to(dtype))
    with pytest.raises(ValueError, match=f"2.weight is {dtype}.*model.float"):
        CALLS["train"](net, tiny_data)


def test_a_lone_example_is_never_left_over(tiny_data):
    net = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    data = lt.make_dataset("blobs", blobs(501, 1), None, blobs(2001, 2))
    mask = lt.dense_mask(net)
    lt.snip_scores(net, data, mask)
    lt.grasp_scores(net, data, mask)
    lt.gradient_scores(net, data, mask, batch_size=100)

    class Squeezes(nn.Linear):
        def forward(self, x):
            return super().forward(x).squeeze()

    lt.evaluate(Squeezes(8, 3), data)
    with pytest.raises(ValueError, match="cannot take examples .* 1 at a time in training mode"):
        lt.train(net, tiny_data, lt.TrainConfig(steps=2, batch_size=1))


def test_single_examples_of_a_norm_without_statistics_are_scored_with_those_of_all(tiny_data):
    torch.manual_seed(0)
    kept = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4, momentum=None), nn.Linear(4, 3))
    other = nn.Sequential(kept[0], nn.BatchNorm1d(4, track_running_stats=False), kept[2])
    kept(tiny_data.normalize(tiny_data.x_train))
    mask = lt.dense_mask(kept)
    for criterion in (lt.fisher_scores, lt.obd_scores):
        a, b = criterion(kept, tiny_data, mask), criterion(other, tiny_data, mask)
        assert all(torch.allclose(a[n], b[n], rtol=1e-4, atol=1e-9) for n in mask)
    assert other[1].running_mean is None


def test_a_layer_that_is_not_used_scores_zero(tiny_data):
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.spare, self.out = nn.Linear(8, 3), nn.Linear(8, 3)

        def forward(self, x):
            return self.out(x)

    net = Spare()
    mask = lt.dense_mask(net)
    for criterion in (lt.snip_scores, lt.gradient_scores, lt.grasp_scores, lt.fisher_scores,
                      lt.obd_scores, lt.synflow_scores):  # fmt: skip
        scores = criterion(net, tiny_data, mask)
        assert not scores["spare.weight"].any()
        assert scores["out.weight"].any()
    hessian = lt.obd_scores(net, tiny_data, mask, curvature="hessian", examples=4)
    assert not hessian["spare.weight"].any()


def test_a_layer_that_vmap_cannot_take_is_scored_example_by_example(tiny_data):
    """The recurrent layer is refused by vmap; the same network without it gives the oracle."""

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.GRU(2, 4, batch_first=True), nn.Linear(4, 3)

        def forward(self, x):
            return self.out(self.rnn(x.unflatten(1, (4, 2)))[0][:, -1])

    net = Last()
    mask = lt.dense_mask(net)
    got = lt.fisher_scores(net, tiny_data, mask, examples=6)
    x, y = lt.batch_indices(120, 6, 0, 0), None
    x, y = tiny_data.normalize(tiny_data.x_train[x]), tiny_data.y_train[x]
    total = {n: torch.zeros_like(p) for n, p in net.named_parameters()}
    for i in range(6):
        net.zero_grad()
        nn.functional.cross_entropy(net(x[i : i + 1]), y[i : i + 1]).backward()
        for n, p in net.named_parameters():
            total[n] += p.grad.square()
    for n in mask:
        expected = net.get_parameter(n).detach().square() * total[n] / 12
        assert torch.allclose(got[n], expected, rtol=1e-4, atol=1e-10)


def test_a_state_that_is_no_tensor_stays_with_its_module(tiny_data, tmp_path):
    class Versioned(nn.Linear):
        version = 1

        def get_extra_state(self):
            return {"version": self.version}

        def set_extra_state(self, state):
            self.version = state["version"]

    net = nn.Sequential(Versioned(8, 6), nn.ReLU(), Versioned(6, 3))
    config, imp = lt.TrainConfig(steps=10, batch_size=20), lt.IMPConfig(rounds=2)
    rounds = lt.iterative_magnitude_pruning(net, tiny_data, config, imp, workdir=tmp_path)
    net[0].version = 5
    lt.rewind_(net, rounds[1].start, rounds[1].mask)
    assert net[0].version == 5
    lt.barrier(net, rounds[0].state, rounds[1].state, tiny_data, points=3)


@pytest.mark.parametrize("name", ["snip_scores", "fisher_scores", "synflow_scores"])
def test_data_parallel_gives_the_scores_of_the_network_inside(name, tiny_data):
    net = lt.build_model("mlp_6", seed=0, data=tiny_data)
    wrapped, criterion = nn.DataParallel(net), getattr(lt, name)
    a = criterion(net, tiny_data, lt.dense_mask(net))
    b = criterion(wrapped, tiny_data, lt.dense_mask(wrapped))
    assert all(torch.allclose(a[n].double(), b[f"module.{n}"].double()) for n in a)


def test_pruning_and_supermasks_work_inside_data_parallel(tiny_data):
    config, imp = lt.TrainConfig(steps=5, batch_size=20), lt.IMPConfig(rounds=1)
    net = nn.DataParallel(lt.build_model("mlp_6", seed=0, data=tiny_data))
    lt.iterative_magnitude_pruning(net, tiny_data, config, imp, criterion=lt.gradient_scores)
    assert set(lt.edge_popup(net, tiny_data, 0.5, config).mask) == set(lt.dense_mask(net))


EVERY_PASS = CALLS | {
    name: one_score(getattr(lt, name))
    for name in (
        "grasp_scores", "gradient_scores", "obd_scores", "count_paths", "connected_weights",
    )
} | {
    "adversarial": lambda net, data: lt.adversarial_examples(
        net, data.x_test[:4], data.y_test[:4], data, lt.fgsm(0.1, bounds=(-9, 9))
    ),
    "flops": lambda net, data: lt.flops(net, data.normalize(data.x_test[:2])),
}  # fmt: skip


@pytest.mark.parametrize("call", EVERY_PASS)
def test_data_that_a_model_cannot_take_are_named_everywhere(call, tiny_data):
    with pytest.raises(ValueError, match=r"cannot take (examples|x) of shape \((1, |2, )?8,?\)"):
        EVERY_PASS[call](nn.Sequential(nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 3)), tiny_data)


@pytest.mark.parametrize("call", sorted(set(EVERY_PASS) - {"flops", *PATHS}))
def test_too_few_classes_are_named_everywhere(call, tiny_data):
    with pytest.raises(ValueError, match=r"has shape \(2, 2\) for 2 examples; .* or more classes"):
        EVERY_PASS[call](nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), tiny_data)


def test_an_error_that_is_none_of_the_forward_pass_stays_as_it_is(tiny_data):
    class Once(nn.Linear):
        """Fails at full batches alone, as where memory ends."""

        def forward(self, x):
            if len(x) > 2:
                raise RuntimeError("out of something")
            return super().forward(x)

    with pytest.raises(RuntimeError, match="out of something"):
        lt.evaluate(Once(8, 3), tiny_data)


class Twice(nn.Module):
    """One module under two names: what is put in place of its tensors must be taken out again."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.out = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.b, self.again = self.a, self.norm

    def forward(self, x):
        return self.out(self.again(self.b(self.norm(self.a(x)).relu())))


def held(net: nn.Module) -> dict:
    return {
        f"{path}.{name}": (id(tensor), tensor._version, type(tensor))
        for path, module in net.named_modules(remove_duplicate=False)
        for name, tensor in (module._parameters | module._buffers).items()
    }


@pytest.mark.parametrize("call", sorted(set(EVERY_PASS) - {"train", "edge_popup"}))
def test_a_module_that_stands_twice_keeps_its_own_tensors(call, tiny_data):
    net = Twice()
    before = held(net)
    EVERY_PASS[call](net, tiny_data)
    assert held(net) == before


def test_tensors_of_a_call_stand_in_every_place_of_a_shared_one(tiny_data):
    net, x = Twice(), tiny_data.x_test[:5]
    other = nn.Linear(8, 8)
    expected = Twice().eval()
    expected.load_state_dict(net.state_dict())
    expected.a.weight.data.copy_(other.weight)  # of b as well
    out = call_with(net.eval(), {"a.weight": other.weight}, x)
    assert torch.equal(out, expected(x))


def test_the_first_pass_leaves_the_statistics_of_a_norm_that_stands_twice(tiny_data):
    net = Twice()
    first_pass(net, tiny_data)
    assert not net.norm.running_mean.any() and not int(net.norm.num_batches_tracked)


def test_what_nobody_can_score_is_refused_by_name(tiny_data):
    class Complex(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(8, 3, dtype=torch.cfloat))

        def forward(self, x):
            return (x.to(torch.cfloat) @ self.w).abs()

    with pytest.raises(ValueError, match="w is torch.complex64"):
        lt.dense_mask(Complex())
    with pytest.raises(ValueError, match="layer 0 is not initialised yet"):
        lt.snapshot(nn.Sequential(nn.LazyLinear(3)))
    lazy = nn.Sequential(nn.Linear(8, 8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(ValueError, match="layer 1 is not initialised yet"):
        lt.unit_groups(lazy, tiny_data.x_test[:2])
    net = nn.Sequential(nn.Linear(8, 3))
    half = {name: tensor.half() for name, tensor in lt.snapshot(net).items()}
    with pytest.raises(ValueError, match="float32 in one state and torch.float16 in the other"):
        lt.barrier(net, lt.snapshot(net), half, tiny_data)


def test_a_network_with_pruned_biases_is_put_into_a_basis(tiny_data):
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    prune.random_unstructured(net[0], "bias", 0.5)
    other = lt.in_basis(net, lt.bases_of(net, "dct"))
    x = tiny_data.normalize(tiny_data.x_test[:9])
    assert torch.allclose(other(x), net(x), atol=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize(
    "ask",
    [
        lambda m, data: lt.train(m, data, lt.TrainConfig(steps=1, batch_size=10)),
        lambda m, data: lt.snip_scores(m, data, lt.dense_mask(m)),
        lambda m, data: lt.edge_popup(m, data, 0.5, lt.TrainConfig(steps=1, batch_size=10)),
        lambda m, data: lt.barrier(m, m.state_dict(), m.state_dict(), data),
        lambda m, data: lt.in_basis(m, lt.bases_of(m, "rotation")),
    ],
    ids=["train", "snip_scores", "edge_popup", "barrier", "in_basis"],
)
def test_a_model_compiled_by_torchscript_is_refused_by_name(ask, digits):
    model = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    with pytest.raises(ValueError, match="compiled by TorchScript.*pass the module that it was"):
        ask(model, digits)


@pytest.mark.parametrize("kind", [torch.int64, torch.complex64])
def test_an_output_that_is_no_real_number_is_refused(kind):
    class Other(nn.Linear):
        def forward(self, x):
            return super().forward(x).to(kind)

    data = lt.load_dataset("digits").subset(40)
    model = nn.Sequential(nn.Flatten(), Other(64, 10))
    config = lt.TrainConfig(steps=2, batch_size=10)
    for call in (lambda: lt.train(model, data, config), lambda: lt.evaluate(model, data),
                 lambda: lt.edge_popup(model, data, 0.5, config)):  # fmt: skip
        with pytest.raises(ValueError, match=rf"returns a tensor of .* and type {kind}"):
            call()
