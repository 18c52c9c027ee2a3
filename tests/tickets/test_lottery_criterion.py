"""A criterion inside iterative pruning: the loop is the same, and a folder knows which it was."""

from __future__ import annotations

from functools import partial

import pytest
import torch

import lth_tutorial as lt
import lth_tutorial.training.replicates

IMP = lt.IMPConfig(rounds=2, fraction=0.5)


def magnitude(model, data, mask):
    return lt.magnitude_scores(lt.snapshot(model), mask)


def build(data):
    return lt.build_model("mlp_12_6", seed=0, data=data)


def test_magnitude_as_a_criterion_is_the_default(tiny_data, config):
    runs = [
        lt.iterative_magnitude_pruning(build(tiny_data), tiny_data, config, IMP, criterion=c)
        for c in (None, magnitude)
    ]
    assert lt.state_hash(runs[0][-1].state) == lt.state_hash(runs[1][-1].state)


def test_the_criterion_sees_the_trained_network_and_decides_what_goes(tiny_data, config):
    seen = []

    def largest_go(model, data, mask):
        seen.append(lt.state_hash(lt.snapshot(model)))
        return {n: -s for n, s in magnitude(model, data, mask).items()}

    imp = lt.IMPConfig(rounds=2, fraction=0.5, scope="layer")
    rounds = lt.iterative_magnitude_pruning(
        build(tiny_data), tiny_data, config, imp, criterion=largest_go
    )
    assert seen == [lt.state_hash(r.state) for r in rounds[:2]]
    expected = lt.prune(
        {n: -rounds[0].state[n].abs() for n in rounds[0].mask}, rounds[0].mask, 0.5, scope="layer"
    )
    assert all(torch.equal(expected[n], rounds[1].mask[n]) for n in expected)


def test_an_experiment_passes_the_criterion_to_ticket_and_one_shot(tiny_data, config):
    frames = {
        c: lt.lottery_experiment(
            "mlp_12_6",
            tiny_data,
            config,
            IMP,
            criterion=c,
            seeds=[0, 1],
            arms=["ticket", "one_shot"],
        )
        for c in (None, magnitude, lt.fisher_scores)
    }
    assert frames[None].equals(frames[magnitude])
    for arm in ("ticket", "one_shot"):
        a, b = (frames[c].query(f"arm == '{arm}' and round == 2") for c in (None, lt.fisher_scores))
        assert not a["mean_val_accuracy"].equals(b["mean_val_accuracy"])


def run(data, config, workdir, criterion):
    return lt.iterative_magnitude_pruning(
        build(data), data, config, IMP, criterion=criterion, workdir=workdir
    )


def test_a_killed_run_with_a_criterion_continues_to_the_same_bits(
    tiny_data, config, tmp_path, monkeypatch
):
    criterion = partial(lt.gradient_scores, batch_size=20)
    straight = run(tiny_data, config, None, criterion)
    left, fit = {"calls": 2}, lth_tutorial.training.replicates.fit

    def fit_twice(*arguments, **options):
        left["calls"] -= 1
        if left["calls"] < 0:
            raise RuntimeError("killed")
        return fit(*arguments, **options)

    with monkeypatch.context() as short:
        short.setattr("lth_tutorial.training.replicates.fit", fit_twice)
        with pytest.raises(RuntimeError, match="killed"):
            run(tiny_data, config, tmp_path, criterion)
    resumed = run(tiny_data, config, tmp_path, criterion)
    assert [lt.state_hash(r.state) for r in resumed] == [lt.state_hash(r.state) for r in straight]


@pytest.mark.parametrize(
    "other", [None, lt.snip_scores, lt.gradient_scores, partial(lt.gradient_scores, batch_size=30)]
)
def test_a_folder_of_another_criterion_is_refused(tiny_data, config, tmp_path, other):
    run(tiny_data, config, tmp_path, partial(lt.gradient_scores, batch_size=20))
    with pytest.raises(ValueError, match="another configuration .criterion: "):
        run(tiny_data, config, tmp_path, other)


def test_a_run_by_magnitude_keeps_the_identity_it_always_had(tiny_data, config, tmp_path):
    run(tiny_data, config, tmp_path, None)
    assert "criterion" not in (tmp_path / "identity.json").read_text()


@pytest.mark.parametrize(
    "criterion",
    [
        lambda model, data, mask: magnitude(model, data, mask),
        partial(lt.gradient_scores, base={}),
        torch.nn.Identity(),
    ],
)
def test_a_criterion_that_a_folder_cannot_know_is_refused(tiny_data, config, tmp_path, criterion):
    with pytest.raises(ValueError, match="by name|numbers or words|is a function of 3"):
        run(tiny_data, config, tmp_path, criterion)


def test_a_function_of_ones_own_is_known_by_its_source(tiny_data, config, tmp_path):
    assert len(run(tiny_data, config, tmp_path, magnitude)) == 3
    assert "magnitude " in (tmp_path / "identity.json").read_text()
