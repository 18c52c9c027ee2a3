"""Attacks keep to their box, change nothing of the model, and are those of an independent tool."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.training.attacks import Adversary, Box, attack_keys, perturb, random_start
from lth_tutorial.training.evaluation import evaluate_group
from lth_tutorial.training.groups import SingleModel, Stack

ATTACKS = {
    "fgsm": lt.fgsm(2.0),
    "pgd": lt.pgd(2.0, steps=5),
    "pgd with restarts": lt.pgd(2.0, steps=5, restarts=3),
}


class Recurrent(nn.Module):
    """Reads an image row by row, then attends to all rows."""

    def __init__(self):
        super().__init__()
        self.rows = nn.LSTM(8, 12, batch_first=True)
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)
        self.norm, self.dropout = nn.LayerNorm(12), nn.Dropout(0.5)
        self.output = nn.Linear(12, 10)

    def forward(self, x):
        rows, _ = self.rows(x.squeeze(1))
        seen, _ = self.attention(rows, rows, rows)
        return self.output(self.dropout(self.norm(seen.mean(dim=1))))


def torchvision_resnet():
    from torchvision.models import resnet18

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return resnet18(num_classes=3)


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)

    def some(n):
        x = torch.randint(0, 256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
        return x, torch.arange(n) % 3

    return lt.make_dataset("noise", some(24), None, some(12))


@pytest.fixture(scope="module")
def trained(digits):
    model = lt.build_model("mlp_bn_32", seed=3, data=digits)
    config = lt.TrainConfig(steps=150, batch_size=50, optimizer="adam", lr=0.01)
    lt.train(model, digits, config)
    return model


def modes(model):
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_attacked_examples_stay_within_eps_and_within_the_range(trained, digits, attack):
    x, y = digits.split("test")
    moved = lt.adversarial_examples(trained, x, y, digits, attack)
    assert moved.shape == x.shape and moved.dtype == torch.float32
    assert (moved - x).abs().max() <= 2 + 1e-5
    assert moved.min() >= -1e-5 and moved.max() <= 16 + 1e-5
    assert (moved - x).abs().max() > 1.99


def test_an_attack_lowers_accuracy_more_with_more_steps_and_restarts(trained, digits):
    accuracy = {
        name: lt.evaluate(trained, digits, attack=attack).accuracy
        for name, attack in ATTACKS.items()
    }
    assert lt.evaluate(trained, digits).accuracy > 0.9
    assert accuracy["pgd with restarts"] <= accuracy["pgd"] + 1e-9
    assert accuracy["pgd with restarts"] <= accuracy["fgsm"] < 0.6


def test_a_large_eps_brings_accuracy_to_zero(trained, digits):
    assert lt.evaluate(trained, digits, attack=lt.pgd(8.0, steps=20)).accuracy == 0


def test_robust_loss_is_the_largest_over_the_restarts(trained, digits):
    one, three = lt.pgd(2.0, steps=3), lt.pgd(2.0, steps=3, restarts=3)
    losses = [lt.evaluate(trained, digits, attack=a).loss for a in (one, three)]
    assert losses[0] < losses[1]


@pytest.mark.parametrize("kind", ["batch norm", "recurrent", "torchvision", "frozen"])
def test_an_attack_changes_no_weight_buffer_gradient_or_mode(kind, digits, images):
    data = images if kind == "torchvision" else digits
    model = {
        "batch norm": lambda: lt.build_model("mlp_bn_16", seed=0, data=digits),
        "recurrent": Recurrent,
        "torchvision": torchvision_resnet,
        "frozen": lambda: lt.build_model("vgg_tiny", seed=0, data=digits),
    }[kind]()
    model.train()
    if kind == "frozen":
        model[1].eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    before, arrived, state = lt.state_hash(lt.snapshot(model)), modes(model), torch.get_rng_state()
    x, y = (each[:6] for each in data.split("test"))
    moved = lt.adversarial_examples(model, x, y, data, lt.pgd(1.0, steps=2))
    lt.evaluate(model, data, attack=lt.fgsm(1.0))
    assert not torch.equal(moved, x.float())
    assert lt.state_hash(lt.snapshot(model)) == before and modes(model) == arrived
    assert all((p.grad == 0.5).all() for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_modes_come_back_even_if_the_network_fails(digits):
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.calls = nn.Linear(64, 10), 0

        def forward(self, x):
            self.calls += 1
            if self.calls > 2:
                raise RuntimeError("no more")
            return self.layer(x.flatten(1))

    model = Failing().train()
    with pytest.raises(ValueError, match="no more"):
        lt.evaluate(model, digits, attack=lt.pgd(1.0, steps=3))
    assert all(modes(model))


@pytest.mark.filterwarnings("ignore:Please import `gaussian_filter`:DeprecationWarning")
@pytest.mark.parametrize("steps", [1, 7])
def test_the_perturbation_is_that_of_foolbox_from_the_same_start(trained, digits, steps):
    import foolbox

    start = digits.x_test[:40] + 1.3 * torch.randn(
        40, 1, 8, 8, generator=torch.Generator().manual_seed(1)
    )
    start = torch.clamp(torch.minimum(start, digits.x_test[:40] + 2.0), min=0, max=16)
    start = torch.maximum(start, digits.x_test[:40] - 2.0)

    class FromStart(foolbox.attacks.LinfProjectedGradientDescentAttack):
        def get_random_start(self, x0, epsilon):
            return type(x0)(start)

    model = trained.eval()
    wrapped = nn.Sequential(Normalise(digits), model).eval()
    theirs = foolbox.PyTorchModel(wrapped, bounds=(0, 16), device="cpu")
    x, y = digits.x_test[:40].float(), digits.y_test[:40]
    attack = FromStart(abs_stepsize=0.4, steps=steps, random_start=True)
    expected = attack.run(theirs, x, foolbox.criteria.Misclassification(y), epsilon=2.0)
    model.train()
    ours = lt.adversarial_examples(
        model, digits.x_test[:40], y, digits, lt.pgd(2.0, steps=steps, step_size=0.4), start=start
    )
    assert (ours - expected).abs().max() < 1e-4


class Normalise(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.data = data

    def forward(self, x):
        return self.data.normalize(x)


def test_one_step_without_a_random_start_is_the_sign_of_the_gradient(digits):
    """By hand: a linear network, whose gradient is known in closed form."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    x, y = digits.x_test[:5], digits.y_test[:5]
    p = model(digits.normalize(x)).softmax(dim=1) - nn.functional.one_hot(y, 10)
    expected = (x + 3 * (p @ model[1].weight).sign().view(x.shape)).clamp(0, 16)
    moved = lt.adversarial_examples(model, x, y, digits, lt.fgsm(3))
    assert torch.allclose(moved, expected, atol=1e-4)


def test_channels_are_attacked_in_the_units_of_the_data(images):
    """Each channel has its own std; eps is the same number of grey levels in all."""
    spread = replace(images, std=torch.tensor([10.0, 50.0, 100.0]))
    model = torchvision_resnet()
    x, y = images.split("test")
    moved = lt.adversarial_examples(model, x, y, spread, lt.fgsm(8))
    change = (moved - x).abs().amax(dim=(0, 2, 3))
    assert torch.allclose(change, torch.full((3,), 8.0), atol=1e-3)


def test_random_starts_are_uniform_and_belong_to_seed_and_step(digits):
    box, keys = Box.of(lt.pgd(3), digits), attack_keys([0, 1, 2], digits.device)
    x = torch.zeros(3, 200, 1, 8, 8)
    a, again, later = (random_start(x, box, keys, step) / box.eps for step in (5, 5, 6))
    assert torch.equal(a, again)
    assert a.min() >= -1 and a.max() <= 1
    # A uniform number in (-1, 1) has variance 1/3; 12,800 of them have a mean within ±0.015.
    assert a.mean(dim=(1, 2, 3, 4)).abs().max() < 0.025
    assert (a.var(dim=(1, 2, 3, 4)) - 1 / 3).abs().max() < 0.02
    streams = torch.stack([*a.flatten(1), *later.flatten(1), a[0].flatten().roll(1)])
    assert (torch.corrcoef(streams) - torch.eye(7)).abs().max() < 0.05


def test_a_step_on_a_counter_that_is_a_tensor_starts_at_the_same_points(digits):
    box, keys = Box.of(lt.pgd(3), digits), attack_keys([4], digits.device)
    x = torch.zeros(1, 5, 1, 8, 8)
    assert torch.equal(random_start(x, box, keys, 7), random_start(x, box, keys, torch.tensor(7)))


ADVERSARIAL = lt.TrainConfig(
    steps=60, batch_size=40, optimizer="adam", lr=0.01, attack=lt.pgd(2.0, steps=3)
)


def test_adversarial_training_makes_a_network_robust(digits):
    config = replace(ADVERSARIAL, steps=300)
    robust = {}
    for name, attack in {"natural": None, "adversarial": config.attack}.items():
        model = lt.build_model("mlp_64", seed=0, data=digits)
        lt.train(model, digits, replace(config, attack=attack))
        robust[name] = lt.evaluate(model, digits, attack=lt.pgd(2.0, steps=10)).accuracy
    assert robust["adversarial"] > robust["natural"] + 0.2


def test_a_stack_trains_as_each_alone_would(digits):
    def run(models, seeds):
        lt.train_replicates(models, digits, ADVERSARIAL, data_seeds=seeds)
        return [lt.snapshot(model) for model in models]

    def build():
        return [lt.build_model("mlp_bn_16", seed=s, data=digits) for s in range(2)]

    short = replace(ADVERSARIAL, steps=3, optimizer="sgd")
    stacked, alone = build(), build()
    lt.train_replicates(stacked, digits, short, data_seeds=[5, 6])
    for model, seed in zip(alone, [5, 6], strict=True):
        lt.train(model, digits, short, data_seed=seed)
    for a, b in zip(stacked, alone, strict=True):
        for name, tensor in lt.snapshot(a).items():
            assert torch.allclose(tensor.float(), b.state_dict()[name].float(), atol=1e-4), name


def test_robust_accuracy_of_a_stack_is_that_of_each(digits):
    models = [lt.build_model("mlp_bn_16", seed=s, data=digits) for s in range(3)]
    attack = lt.pgd(1.0, steps=3, restarts=2)
    _, together = evaluate_group(Stack(models), digits, "test", attack)
    alone = [lt.evaluate(model, digits, attack=attack).accuracy for model in models]
    assert together.tolist() == pytest.approx(alone, abs=0.005)  # an example may be a tie


def test_a_killed_run_goes_on_with_the_attacks_of_the_uninterrupted_one(digits, tmp_path):
    class Kill(Exception):
        pass

    import lth_tutorial.training.checkpoints as checkpoints

    def run(folder, kill_at=None):
        from lth_tutorial.training.loop import fit

        model, taken = lt.build_model("mlp_16", seed=0, data=digits), [0]

        def on_step():
            taken[0] += 1
            if taken[0] == kill_at:
                raise Kill

        (result,) = fit(
            SingleModel(model), digits, ADVERSARIAL, masks=None, start_step=0, data_seeds=[0],
            on_step=on_step, workdir=folder,
        )  # fmt: skip
        return lt.state_hash(result.final)

    straight, every = run(tmp_path / "a"), checkpoints.SAVE_EVERY_S
    checkpoints.SAVE_EVERY_S = 0
    try:
        with pytest.raises(Kill):
            run(tmp_path / "b", kill_at=25)
    finally:
        checkpoints.SAVE_EVERY_S = every
    assert run(tmp_path / "b") == straight


def test_a_run_with_an_attack_is_another_run(tiny_data, tmp_path):
    def run(config):
        model = lt.build_model("mlp_8", seed=0, data=tiny_data)
        return lt.train(model, tiny_data, config, workdir=tmp_path)

    config = lt.TrainConfig(steps=4, batch_size=20)
    run(config)
    with pytest.raises(ValueError, match="another configuration"):
        run(replace(config, attack=lt.fgsm(0.5, bounds=(-9, 9))))


def test_half_precision_trains_and_attacks(digits):
    model = lt.build_model("mlp_16", seed=0, data=digits)
    config = replace(ADVERSARIAL, steps=5, precision="bf16")
    assert lt.train(model, digits, config).diverged_step is None


def test_masks_hold_under_attack(digits):
    model = lt.build_model("mlp_16", seed=0, data=digits)
    dense = lt.dense_mask(model)
    mask = lt.prune(lt.random_scores(dense, 0), dense, 0.5)
    lt.train(model, digits, replace(ADVERSARIAL, steps=5), mask=mask)
    assert all((w[~mask[n]] == 0).all() for n, w in model.named_parameters() if n in mask)


# Bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lt.fgsm(0), "above 0; got 0. For accuracy without an attack"),
        (lambda: lt.fgsm(-1), "eps is the largest change"),
        (lambda: lt.fgsm("8/255"), "got '8/255'"),
        (lambda: lt.pgd(float("nan")), "got nan"),
        (lambda: lt.pgd(True), "got True"),
        (lambda: lt.pgd(1, steps=0), "steps is a whole number of at least 1; got 0"),
        (lambda: lt.pgd(1, steps=2.5), "got 2.5"),
        (lambda: lt.pgd(1, restarts=0), "restarts is a whole number"),
        (lambda: lt.pgd(1, step_size=0), "step_size is above 0"),
        (lambda: lt.pgd(1, random_start=False, restarts=3), "3 restarts from the same point"),
        (lambda: lt.pgd(1, random_start="no"), "True or False"),
        (lambda: lt.fgsm(1, bounds=(1, 0)), "the lowest and the highest"),
        (lambda: lt.fgsm(1, bounds=1), "a tuple of a number and a number"),
        (lambda: lt.TrainConfig(attack=8), "made by fgsm or pgd, or None; got 8"),
    ],
)
def test_a_wrong_attack_is_refused_with_what_would_work(make, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        make()


def test_data_without_a_known_range_are_refused_before_the_first_step(tiny_data, tiny_model):
    with pytest.raises(ValueError, match=r"no known range.*pass bounds="):
        lt.evaluate(tiny_model, tiny_data, attack=lt.fgsm(1))
    with pytest.raises(ValueError, match="no known range"):
        lt.train(tiny_model, tiny_data, replace(ADVERSARIAL, batch_size=20))
    bounded = lt.fgsm(1, bounds=(-10, 10))
    assert lt.evaluate(tiny_model, tiny_data, attack=bounded).accuracy <= 1


def test_bounds_that_the_data_do_not_keep_to_are_refused(trained, digits):
    with pytest.raises(ValueError, match=r"bounds are \(0, 1\).*lie in 0 … 16"):
        lt.evaluate(trained, digits, attack=lt.fgsm(0.1, bounds=(0, 1)))


@pytest.mark.parametrize(
    ("eps", "words"), [(8 / 255 / 16, "a tiny part of"), (8 * 255, "as large as")]
)
def test_eps_in_other_units_is_warned_of_with_the_range(trained, digits, eps, words):
    with pytest.warns(lt.AttackWarning, match=rf"{words} the range of digits, 0 … 16"):
        lt.evaluate(trained, digits, attack=lt.fgsm(eps))


class NoGradient(nn.Linear):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x.flatten(1))


class Rounding(nn.Linear):
    def forward(self, x):
        return super().forward(x.flatten(1).round())


def test_a_model_without_gradients_is_refused(digits):
    with pytest.raises(ValueError, match="no gradient with respect to its inputs"):
        lt.evaluate(NoGradient(64, 10), digits, attack=lt.fgsm(1))


def test_a_model_whose_gradients_are_all_zero_is_warned_of(digits):
    with pytest.warns(lt.AttackWarning, match="exactly zero"):
        lt.evaluate(Rounding(64, 10), digits, attack=lt.fgsm(1))


def test_something_else_than_an_attack_is_refused(trained, digits):
    with pytest.raises(TypeError, match="attack is an Attack, or None; got 0.5"):
        lt.evaluate(trained, digits, attack=0.5)


def test_a_replicate_that_diverged_leaves_the_attacks_on_the_others_alone(digits):
    models = [lt.build_model("mlp_16", seed=s, data=digits) for s in range(2)]
    x, y = digits.normalize(digits.x_train[:6]), digits.y_train[:6].expand(2, -1)
    adversary = Adversary(lt.pgd(1.0, steps=2), digits, [0, 1])
    good = adversary(Stack(models), x.expand(2, *x.shape), y, 0)
    with torch.no_grad():
        models[0].fc1.weight.fill_(float("nan"))
    broken = adversary(Stack(models), x.expand(2, *x.shape), y, 0)
    assert torch.equal(broken[1], good[1])


def test_an_attack_is_the_same_whatever_else_is_in_the_batch(trained, digits):
    group, box = SingleModel(trained), Box.of(lt.pgd(1), digits)
    x, y = digits.normalize(digits.x_test[:6])[None], digits.y_test[:6][None]
    group.set_training(False)
    both = perturb(group, x, y, lt.pgd(1, steps=2), box, None)
    first = perturb(group, x[:, :3], y[:, :3], lt.pgd(1, steps=2), box, None)
    group.restore_modes()
    assert torch.allclose(both[:, :3], first, atol=1e-5)
