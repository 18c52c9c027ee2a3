from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

import lth_tutorial as lt
from lth_tutorial.tickets import retraining
from lth_tutorial.tickets.arms import OTHER_INITIALIZATION
from lth_tutorial.training import checkpoints
from lth_tutorial.training.replicates import train_replicates

IMP = lt.IMPConfig(rounds=2, fraction=0.4)
CONFIG = lt.TrainConfig(steps=40, batch_size=20, lr=0.1, lr_drops=(20, 30))
ALL = ("rewind", "lr_rewind", "fine_tune", "reinit", "random")
SEED, K = 4, 10


def run(data, **options):
    options = {"arms": ALL, "rewind_steps": [K], "seeds": [1, SEED]} | options
    config, imp = options.pop("config", CONFIG), options.pop("imp", IMP)
    return lt.retraining_experiment("mlp_12_6", data, config, imp, **options)


def build(data, seed=SEED):
    return lt.build_model("mlp_12_6", seed=seed, data=data)


def retrained(data, start, mask, config=CONFIG):
    """Train one network by hand from step K on; its accuracy and its weights."""
    model = build(data)
    lt.rewind_(model, start, mask)
    result = lt.train(model, data, config, mask=mask, start_step=K, data_seed=SEED)
    return lt.evaluate(model, data).accuracy, result.final


@pytest.mark.parametrize("iterative", [True, False])
@pytest.mark.parametrize("way", ["rewind", "lr_rewind", "fine_tune"])
def test_a_way_does_what_its_name_says(tiny_data, way, iterative):
    """Every round once more, from `train` and `prune` alone."""
    model = build(tiny_data)
    dense = lt.train(model, tiny_data, CONFIG, data_seed=SEED, save_at={K})
    mask, final = lt.dense_mask(model), dense.final
    tuning = replace(CONFIG, lr=0.1 / 100, lr_drops=())  # the rate at 90 % of the steps
    config = tuning if way == "fine_tune" else CONFIG
    rows = run(tiny_data, iterative=iterative).query("seed == @SEED and arm == @way")
    for i in (1, 2):
        scores = lt.magnitude_scores(final if iterative else dense.final, mask)
        mask = lt.prune(scores, mask, 0.4)
        start = dense.snapshots[K] if way == "rewind" else final if iterative else dense.final
        accuracy, final = retrained(tiny_data, start, mask, config)
        row = rows[rows["round"] == i].iloc[0]
        assert row["density"] == pytest.approx(lt.density(mask))
        assert row["accuracy"] == pytest.approx(accuracy, abs=1.5 / 60), "one image may round"


def test_the_controls_stand_on_weights_of_step_k(tiny_data):
    """Random: the ticket's own; re-initialised: another seed's, trained for as long."""
    point = lt.train(build(tiny_data), tiny_data, CONFIG, data_seed=SEED, save_at={K}).snapshots[K]
    other = build(tiny_data, SEED + OTHER_INITIALIZATION)
    other = lt.train(other, tiny_data, CONFIG, data_seed=SEED, stop_step=K).final
    imp = replace(IMP, rewind_step=K)
    ticket = lt.iterative_magnitude_pruning(
        build(tiny_data), tiny_data, CONFIG, imp, data_seed=SEED
    )[2].mask
    rows = run(tiny_data).query("seed == @SEED and round == 2").set_index("arm")
    for arm, start, mask in (
        ("random", point, lt.shuffle_within_layers(ticket, SEED)), ("reinit", other, ticket),
    ):  # fmt: skip
        model = build(tiny_data)
        lt.rewind_(model, start, mask)
        before = lt.evaluate(model, tiny_data).accuracy
        assert rows.loc[arm, "start_accuracy"] == pytest.approx(before, abs=0.5 / 60), arm
        after, _ = retrained(tiny_data, start, mask)
        assert rows.loc[arm, "accuracy"] == pytest.approx(after, abs=1.5 / 60), arm


def test_every_arm_trains_as_many_steps_as_the_others(tiny_data, tmp_path, monkeypatch):
    spans = {}

    def counting(models, data, config, *, start_step=0, stop_step=None, workdir=None, **options):
        end = config.steps if stop_step is None else stop_step
        spans.setdefault(str(workdir.relative_to(tmp_path / "seeds_1")), []).append(
            end - start_step
        )
        return train_replicates(
            models, data, config, start_step=start_step, stop_step=stop_step, **options
        )

    monkeypatch.setattr("lth_tutorial.tickets.lottery.train_replicates", counting)
    run(tiny_data, seeds=[1], workdir=tmp_path, rewind_steps=[0, K])
    pruned = {place: steps for place, steps in spans.items() if place.startswith("from_")}
    assert len(pruned) == 2 * len(ALL) * IMP.rounds
    for place, steps in pruned.items():
        assert steps == [40 if place.startswith("from_0/") else 40 - K], place


def test_the_steps_announced_are_those_taken(tiny_data, bars_of):
    bars = bars_of("lth_tutorial.tickets.retraining")
    for arms in (["fine_tune"], ["random"], ALL):
        run(tiny_data, arms=arms, rewind_steps=[5, K])
    assert [bar.n for bar in bars] == [bar.total for bar in bars]


def test_one_shot_rounds_give_every_arm_the_mask_of_pruning_once(tiny_data):
    rows = run(tiny_data, iterative=False)
    assert (rows.groupby(["seed", "round"])["density"].nunique() == 1).all()
    model = build(tiny_data)
    dense = lt.train(model, tiny_data, CONFIG, data_seed=SEED)
    mask = lt.dense_mask(model)
    left = round(round(mask_size(mask) * 0.6) * 0.6)
    once = lt.prune(lt.magnitude_scores(dense.final, mask), mask, 1 - left / mask_size(mask))
    accuracy, _ = retrained(tiny_data, dense.final, once)
    row = rows.query("seed == @SEED and arm == 'lr_rewind' and round == 2").iloc[0]
    assert row["density"] == pytest.approx(lt.density(once))
    assert row["accuracy"] == pytest.approx(accuracy, abs=1.5 / 60)


def mask_size(mask):
    return sum(kept.numel() for kept in mask.values())


@pytest.mark.filterwarnings("ignore::lth_tutorial.LayerCollapseWarning")
def test_after_the_last_drop_learning_rate_rewinding_is_fine_tuning(tiny_data):
    imp = replace(IMP, fraction=0.7, scope="layer")
    rows = run(tiny_data, arms=["lr_rewind", "fine_tune"], rewind_steps=[0, 30], imp=imp)
    pruned = rows[rows["round"] > 0]
    table = pruned.pivot(
        index=["rewind_step", "seed", "round"], columns="arm", values="train_accuracy"
    )
    assert (table.loc[30, "lr_rewind"] == table.loc[30, "fine_tune"]).all()
    assert (table.loc[0, "lr_rewind"] > table.loc[0, "fine_tune"]).any(), "before it, it is not"


def test_round_0_is_the_same_dense_network_in_every_arm_and_at_every_step(tiny_data):
    rows = run(tiny_data, rewind_steps=[0, K])
    dense = rows[rows["round"] == 0].drop(columns=["arm", "rewind_step"])
    assert len(dense) == len(ALL) * 2 * 2 and len(dense.drop_duplicates()) == 2
    assert not rows.duplicated(["arm", "seed", "rewind_step", "round"]).any()
    assert len(rows) == len(ALL) * 2 * 2 * (IMP.rounds + 1)
    assert rows["accuracy"].between(0, 1).all()


def test_an_arm_alone_gives_the_rows_it_has_among_all(tiny_data):
    among = run(tiny_data).query("arm == 'reinit'").reset_index(drop=True)
    alone = run(tiny_data, arms="reinit")
    assert alone["accuracy"].tolist() == pytest.approx(among["accuracy"].tolist(), abs=1.5 / 60)
    assert set(alone["arm"]) == {"reinit"}


def test_networks_that_cannot_be_stacked_give_the_same_rows(tiny_data, monkeypatch):
    stacked = run(tiny_data, seeds=[1])
    monkeypatch.setattr(retraining, "can_stack", lambda models: False)
    single = run(tiny_data, seeds=[1], workers=1)
    pd.testing.assert_frame_equal(stacked, single)


@pytest.mark.parametrize("stop_at", [15, 130, 260])
def test_an_interrupted_experiment_continues_to_the_same_rows(
    tiny_data, tmp_path, monkeypatch, stop_at
):
    class Interruption(Exception):
        pass

    whole = run(tiny_data, workdir=tmp_path / "whole")
    steps = []

    def interrupted(models, *arguments, on_step, **options):
        def tick():
            steps.append(1)
            if len(steps) == 2 * stop_at:  # two seeds
                raise Interruption
            on_step()

        return train_replicates(models, *arguments, on_step=tick, **options)

    monkeypatch.setattr(checkpoints, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr("lth_tutorial.tickets.lottery.train_replicates", interrupted)
    with pytest.raises(Interruption):
        run(tiny_data, workdir=tmp_path / "killed")
    before = len(steps)
    again = run(tiny_data, workdir=tmp_path / "killed")
    pd.testing.assert_frame_equal(again, whole)
    # Steps already done are reported to the progress bar at once, so all of them are counted.
    assert len(steps) - before >= before
    finished = run(tiny_data, workdir=tmp_path / "killed", arms=["fine_tune"])
    expected = whole[whole["arm"] == "fine_tune"].reset_index(drop=True)
    pd.testing.assert_frame_equal(finished, expected)


def test_a_folder_of_the_other_kind_of_pruning_is_refused(tiny_data, tmp_path):
    run(tiny_data, seeds=[1], arms=["fine_tune"], workdir=tmp_path)
    with pytest.raises(ValueError, match="iterative"):
        run(tiny_data, seeds=[1], arms=["fine_tune"], workdir=tmp_path, iterative=False)


def test_a_replicate_that_diverges_has_no_rows_but_the_dense_one(tiny_data):
    config = replace(CONFIG, lr=1e30)
    with pytest.warns(lt.DivergenceWarning):
        rows = run(tiny_data, config=config)
    assert (rows["round"] == 0).all() and rows["accuracy"].isna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ["rewinding"]}, "Did you mean 'rewind'"),
        ({"arms": ["ticket"]}, "unknown arm 'ticket'"),
        ({"arms": []}, "one or more different names"),
        ({"rewind_steps": [40]}, r"rewind_steps are .* in 0 … 39; got \[40\]"),
        ({"rewind_steps": [5, 5]}, "different whole numbers"),
        ({"rewind_steps": [0.5]}, "each of it a whole number"),
        ({"rewind_steps": []}, "one or more"),
        ({"seeds": [1, 1]}, "seeds are one or more different"),
        ({"imp": lt.IMPConfig(fraction={"fc1.weight": 0.2}, scope="layer")}, "no fraction for fc2"),
    ],
)
def test_a_design_that_cannot_be_is_refused_before_training(
    tiny_data, monkeypatch, change, message
):
    monkeypatch.setattr("lth_tutorial.tickets.lottery.train_replicates", None)
    with pytest.raises(ValueError, match=message):
        run(tiny_data, **change)


# --- the lottery experiment where weights are not rewound -----------------------------------------


@pytest.mark.parametrize("way", ["lr_rewind", "fine_tune"])
def test_controls_of_a_ticket_that_keeps_its_weights_keep_the_dense_ones(tiny_data, way):
    imp = replace(IMP, rewind_step=K, after_pruning=way)
    rows = lt.lottery_experiment(
        "mlp_12_6", tiny_data, CONFIG, imp, arms=["ticket", "random", "one_shot"], seeds=[1, SEED]
    ).query("seed == @SEED and round == 2")
    model = build(tiny_data)
    dense = lt.train(model, tiny_data, CONFIG, data_seed=SEED).final
    ticket = lt.iterative_magnitude_pruning(
        build(tiny_data), tiny_data, CONFIG, imp, data_seed=SEED
    )[2].mask
    scores = lt.magnitude_scores(dense, lt.dense_mask(model))
    masks = {
        "random": lt.shuffle_within_layers(ticket, SEED),
        "one_shot": lt.prune_like(scores, lt.dense_mask(model), ticket, scope="global"),
    }
    config = CONFIG if way == "lr_rewind" else replace(CONFIG, lr=0.001, lr_drops=())
    for arm, mask in masks.items():
        accuracy, _ = retrained(tiny_data, dense, mask, config)
        found = rows.set_index("arm").loc[arm, "accuracy"]
        assert found == pytest.approx(accuracy, abs=1.5 / 60), arm
