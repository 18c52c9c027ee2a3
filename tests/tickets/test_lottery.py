from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.pruning.masks import masked_state
from lth_tutorial.tickets import lottery
from lth_tutorial.tickets.arms import OTHER_INITIALIZATION
from lth_tutorial.tickets.lottery import check_rewound

IMP = lt.IMPConfig(rounds=3, fraction=0.5, scope="layer")


@pytest.fixture
def rounds(tiny_model, tiny_data, config):
    return lt.iterative_magnitude_pruning(tiny_model, tiny_data, config, IMP, data_seed=3)


def test_the_loop_does_what_the_paper_says_round_by_round(rounds, tiny_data, config):
    """The algorithm once more, from `train` and `prune` alone."""
    model = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    start, mask = lt.snapshot(model), lt.dense_mask(model)
    for i in range(4):
        lt.rewind_(model, start, mask)
        final = lt.train(model, tiny_data, config, mask=mask, data_seed=3).final
        assert lt.state_hash(final) == lt.state_hash(rounds[i].state)
        assert lt.overlap(mask, rounds[i].mask) == 1
        assert rounds[i].accuracy == lt.evaluate(model, tiny_data).accuracy
        if i < 3:
            mask = lt.prune(lt.magnitude_scores(final, mask), mask, 0.5, scope="layer")


def test_every_round_starts_from_the_same_initial_weights_under_its_mask(rounds):
    """Lightning's pruning callback and others never rewound; nni exported the trained weights."""
    initial = rounds[0].start
    for ticket in rounds[1:]:
        expected = masked_state(initial, ticket.mask)
        assert lt.state_hash(ticket.start) == lt.state_hash(expected)
        assert lt.state_hash(ticket.start) != lt.state_hash(ticket.state)


def test_masks_are_nested_and_densities_exact(rounds):
    assert [r.index for r in rounds] == [0, 1, 2, 3]
    for before, after in itertools.pairwise(rounds):
        assert all(bool((before.mask[n] | ~after.mask[n]).all()) for n in before.mask)
    total = 8 * 12 + 12 * 6 + 6 * 3
    assert [round(r.density * total) for r in rounds] == [186, 93, 47, 24]


@pytest.mark.parametrize("k", [0, 10])
def test_late_rewinding_restores_weights_and_schedule_position(tiny_data, config, k):
    model = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    imp = replace(IMP, rounds=1, rewind_step=k)
    rounds = lt.iterative_magnitude_pruning(model, tiny_data, config, imp)
    again = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    point = lt.train(again, tiny_data, config, save_at={k}).snapshots[k]
    assert lt.state_hash(rounds[1].start) == lt.state_hash(masked_state(point, rounds[1].mask))
    assert rounds[1].result.history[0]["step"] == k


def test_the_other_ways_to_train_on_keep_the_trained_weights(tiny_data, config):
    config = replace(config, lr=0.1, lr_drops=(20, 30))
    final, start = {}, {}
    for way in ("rewind", "lr_rewind", "fine_tune"):
        model = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
        imp = replace(IMP, rounds=1, rewind_step=10, after_pruning=way)
        dense, pruned = lt.iterative_magnitude_pruning(model, tiny_data, config, imp)
        trained = lt.state_hash(masked_state(dense.state, pruned.mask))
        assert (lt.state_hash(pruned.start) == trained) == (way != "rewind")
        assert pruned.result.history[0]["step"] == 10, "all train steps − rewind_step more"
        final[way], start[way] = pruned.state, pruned.start
    move = {
        way: sum((final[way][n] - start[way][n]).norm().item() for n in final[way])
        for way in ("lr_rewind", "fine_tune")
    }
    assert move["fine_tune"] < move["lr_rewind"] / 3, "fine-tuning has a low constant rate"


def test_the_fine_tuning_rate_is_that_of_90_percent_of_the_schedule():
    config = lt.TrainConfig(steps=100, lr=1.0, lr_drops=(50, 80), warmup_steps=10)
    imp = lt.IMPConfig(after_pruning="fine_tune")
    tuned = lottery.retraining_config(config, imp)
    assert [lt.learning_rate(tuned, s) for s in (0, 60, 99)] == pytest.approx([0.01] * 3)
    tuned = lottery.retraining_config(config, replace(imp, finetune_lr=0.5))
    assert [lt.learning_rate(tuned, s) for s in (0, 99)] == [0.5, 0.5]
    assert lottery.retraining_config(config, lt.IMPConfig()) is config


# --- published bugs, planted: each must stop the run ----------------------------------------------


def test_a_snapshot_stored_by_reference_is_caught(tiny_model, tiny_data, config, monkeypatch):
    """BERT-Tickets#19: the rewind state is an alias of the weights and is trained away."""
    original = lottery.train_replicates
    aliases = []

    def aliasing(models, *arguments, **options):
        results = original(models, *arguments, **options)
        for result in results:
            aliases.extend(result.snapshots.values())
        for alias, model in zip(aliases, models, strict=False):
            alias |= dict(model.state_dict())  # live views of the model's weights
        return results

    monkeypatch.setattr(lottery, "train_replicates", aliasing)
    with pytest.raises(RuntimeError, match="no longer what it was when it was saved"):
        lt.iterative_magnitude_pruning(tiny_model, tiny_data, config, replace(IMP, rewind_step=5))


def test_a_rewind_that_did_not_happen_is_caught(tiny_model, tiny_data, config, monkeypatch):
    """Lightning-AI#13643, Synaptic-Flow's erratum: training went on from the trained weights."""
    monkeypatch.setattr(lottery, "rewind_", lambda model, start, mask: lt.apply_mask_(model, mask))
    with pytest.raises(RuntimeError, match="the rewind is missing"):
        lt.iterative_magnitude_pruning(tiny_model, tiny_data, config, IMP)


def test_check_rewound_sees_a_single_changed_weight(rounds):
    point, ticket = rounds[0].start, rounds[2]
    check_rewound(ticket.start, point, ticket.mask, lt.state_hash(point))
    changed = {n: t.clone() for n, t in ticket.start.items()}
    index = tuple(ticket.mask["fc1.weight"].nonzero()[0].tolist())
    changed["fc1.weight"][index] += 1e-7
    with pytest.raises(RuntimeError):
        check_rewound(changed, point, ticket.mask, lt.state_hash(point))


# --- the experiment -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def experiment_rows(tiny_data):
    lt.limit_threads()
    config = lt.TrainConfig(steps=40, batch_size=20, lr=0.1, eval_every=10)
    return lt.lottery_experiment("mlp_12_6", tiny_data, config, IMP, seeds=[0, 4])


def test_all_controls_are_on_by_default(experiment_rows):
    assert list(experiment_rows["arm"].unique()) == ["ticket", "reinit", "random", "one_shot"]
    assert len(experiment_rows) == 4 * 2 * 4
    assert experiment_rows.duplicated(["arm", "seed", "round"]).sum() == 0


def test_round_0_is_the_dense_network_in_every_arm(experiment_rows):
    dense = experiment_rows[experiment_rows["round"] == 0].drop(columns="arm")
    assert len(dense.drop_duplicates()) == 2 and (dense["density"] == 1).all()


def test_all_arms_of_a_round_keep_as_many_weights(experiment_rows):
    assert (experiment_rows.groupby(["seed", "round"])["density"].nunique() == 1).all()


def test_every_arm_is_what_its_name_says(experiment_rows, tiny_data, config):
    """Rebuild each arm of round 2 by hand, from `train` and `prune`."""
    build = lambda seed: lt.build_model("mlp_12_6", seed=seed, data=tiny_data)  # noqa: E731
    config = lt.TrainConfig(steps=40, batch_size=20, lr=0.1, eval_every=10)
    seed = 4
    imp = lt.iterative_magnitude_pruning(build(seed), tiny_data, config, IMP, data_seed=seed)
    ticket = imp[2].mask
    counts = {n: int(m.sum()) for n, m in ticket.items()}
    dense_scores = lt.magnitude_scores(imp[0].state, imp[0].mask)
    arms = {
        "ticket": (build(seed), ticket),
        "reinit": (build(seed + OTHER_INITIALIZATION), ticket),
        "random": (build(seed), lt.shuffle_within_layers(ticket, seed)),
        "one_shot": (build(seed), lt.keep_best(dense_scores, imp[0].mask, counts)),
    }
    rows = experiment_rows.query("seed == 4 and round == 2").set_index("arm")
    for arm, (model, mask) in arms.items():
        lt.apply_mask_(model, mask)
        before = lt.evaluate(model, tiny_data).accuracy
        lt.train(model, tiny_data, config, mask=mask, data_seed=seed)
        assert rows.loc[arm, "start_accuracy"] == pytest.approx(before, abs=1 / 59), arm
        after = lt.evaluate(model, tiny_data).accuracy
        assert rows.loc[arm, "accuracy"] == pytest.approx(after, abs=2 / 59), arm


def test_the_reinitialised_arm_is_trained_to_the_rewind_step(tiny_data, config):
    seen = []

    def build(seed):
        seen.append(seed)
        return lt.build_model("mlp_12_6", seed=seed, data=tiny_data)

    imp = replace(IMP, rounds=1, rewind_step=30)
    rows = lt.lottery_experiment(build, tiny_data, config, imp, arms=["reinit"], seeds=[0, 1])
    assert {0, 1, OTHER_INITIALIZATION, OTHER_INITIALIZATION + 1} <= set(seen)
    start = rows[rows["round"] == 1]["start_accuracy"]
    assert (start > 0.5).all(), "30 steps of training leave more than chance, even masked"


def test_an_arm_alone_gives_the_rows_it_has_among_all(experiment_rows, tiny_data):
    config = lt.TrainConfig(steps=40, batch_size=20, lr=0.1, eval_every=10)
    alone = lt.lottery_experiment("mlp_12_6", tiny_data, config, IMP, arms=["random"], seeds=[0, 4])
    among = experiment_rows[experiment_rows["arm"] == "random"].reset_index(drop=True)
    assert alone["accuracy"].tolist() == pytest.approx(among["accuracy"].tolist(), abs=2 / 59)


def test_a_model_of_ones_own_runs_in_processes_with_the_same_rows(tiny_data, config):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.b(self.a(x).tanh())

    def build(seed):
        model = Own()
        lt.reinitialize(model, seed)
        return model

    imp = replace(IMP, rounds=1, scope="global", fraction=0.4)
    arguments = (build, tiny_data, replace(config, steps=10), imp)
    one, two = (
        lt.lottery_experiment(*arguments, seeds=[0, 1], arms=["ticket"], workers=w) for w in (1, 2)
    )
    assert one.equals(two) and len(one) == 4


def test_columns_say_when_nothing_was_reached(experiment_rows):
    censored = experiment_rows[experiment_rows["steps_to_95_censored"]]
    assert (censored["steps_to_95"] == 40).all()
    reached = experiment_rows[~experiment_rows["steps_to_90_censored"]]
    assert (reached["steps_to_90"] % 10 == 0).all() and len(reached)
    assert experiment_rows["accuracy"].between(0, 1).all()
    assert experiment_rows["diverged_step"].isna().all()


def test_a_replicate_that_diverges_ends_and_the_others_go_on(tiny_data, config):
    def build(seed):
        model = lt.build_model("mlp_12_6", seed=seed, data=tiny_data)
        if seed == 1:
            with torch.no_grad():
                model.fc1.weight.fill_(math.inf)
        return model

    with pytest.warns(lt.DivergenceWarning, match="data_seed 1"):
        rows = lt.lottery_experiment(build, tiny_data, config, IMP, seeds=[0, 1, 2])
    assert set(rows[rows["round"] == 3]["seed"]) == {0, 2}
    bad = rows[rows["seed"] == 1]
    assert (bad["round"] == 0).all() and bad["accuracy"].isna().all()
    assert (bad["diverged_step"] == 0).all()
    assert rows[rows["seed"] != 1]["accuracy"].notna().all()


def test_when_every_replicate_diverges_the_rows_say_so(tiny_data, config):
    with pytest.warns(lt.DivergenceWarning):
        rows = lt.lottery_experiment("mlp_5", tiny_data, replace(config, lr=1e30), IMP, seeds=[0])
    assert rows["diverged_step"].notna().all() and (rows["round"] == 0).all()


def test_pruning_alone_names_the_round_that_diverged(tiny_model, tiny_data, config):
    error = pytest.raises(FloatingPointError, match="round 0: the loss was no longer finite")
    with error, pytest.warns(lt.DivergenceWarning):
        lt.iterative_magnitude_pruning(tiny_model, tiny_data, replace(config, lr=1e30), IMP)


def always_the_same(seed, model=nn.Linear(8, 3)):  # noqa: B008
    return model


def tied(seed):
    model = lt.mlp((8, 8, 8, 3))
    lt.reinitialize(model, seed)
    model.fc2.weight = model.fc1.weight
    return model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ["tickets"]}, "Did you mean 'ticket'"),
        ({"arms": []}, "one or more different names"),
        ({"arms": ["ticket", "ticket"]}, "different names"),
        ({"seeds": [1, 1]}, "different whole numbers"),
        ({"seeds": []}, r"got \[\]"),
        ({"seeds": [-1]}, r"of at least 0; got \[-1\]"),
        ({"model": "mpl_12"}, "unknown model 'mpl_12'"),
        ({"model": nn.Linear(8, 3)}, "function from a seed to a module"),
        ({"model": lambda seed: nn.BatchNorm1d(8)}, "no prunable weights"),
        ({"imp": lt.IMPConfig(rewind_step=40)}, "leaves nothing to train: the run has 40 steps"),
        ({"imp": lt.IMPConfig(fraction={"fc1.weight": 0.2}, scope="layer")}, "no fraction for fc2"),
        ({"imp": lt.IMPConfig(after_pruning="fine_tune")}, "weights that a ticket is rewound to"),
        ({"model": lambda seed: lt.build_model("mlp_5", seed=0)}, "same model for every seed"),
        ({"model": lambda seed: nn.Linear(8, 3)}, "two different models for seed 0"),
        ({"model": always_the_same}, "same model twice"),
        ({"model": tied}, "fc1.weight stands in several places"),
    ],
)
def test_a_design_that_cannot_be_is_refused_before_training(
    tiny_data, config, monkeypatch, change, message
):
    monkeypatch.setattr(lottery, "train_replicates", None)  # training would fail otherwise
    options = {"model": "mlp_12_6", "imp": IMP, **change}
    model, imp = options.pop("model"), options.pop("imp")
    with pytest.raises(ValueError, match=message):
        lt.lottery_experiment(model, tiny_data, config, imp, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounds": 0}, "rounds must be at least 1; got 0"),
        ({"rewind_step": -1}, "rewind_step"),
        ({"scope": "layerwise"}, "Did you mean 'layer'"),
        ({"after_pruning": "finetune"}, "Did you mean 'fine_tune'"),
        ({"finetune_lr": 0.0}, "finetune_lr must be above 0"),
        ({"finetune_lr": math.nan}, "got nan"),
        ({"fraction": 1.2}, r"in \(0, 1\); got 1.2"),
        ({"fraction": math.nan}, "got nan"),
        ({"fraction": {"fc1.weight": 0.2}}, "scope='layer'"),
        ({"fraction": {"fc1.weight": 1.0}, "scope": "layer"}, "got 1.0 for fc1.weight"),
    ],
)
def test_a_wrong_pruning_setting_is_refused_at_once(change, message):
    with pytest.raises(ValueError, match=message):
        lt.IMPConfig(**change)
