"""The cost of training is measured on copies, and counted as three forward passes."""

import pytest

import lth_tutorial as lt

CONFIG = lt.TrainConfig(steps=1, batch_size=50)


def test_a_small_network_trains_with_fewer_operations_and_is_left_alone(digits):
    models = {n: lt.build_model(f"mlp_{n}", seed=0, data=digits) for n in (400, 8)}
    before = {name: lt.state_hash(lt.snapshot(model)) for name, model in models.items()}
    table = lt.training_cost(models, digits, CONFIG, repeats=1).set_index("network")
    x = digits.normalize(digits.x_test[:1])
    assert all(table["flops"][name] == 3 * lt.flops(model, x) for name, model in models.items())
    assert (table["step_ms"] > 0).all() and table["speedup"][400] == 1
    assert before == {name: lt.state_hash(lt.snapshot(model)) for name, model in models.items()}


@pytest.mark.parametrize("repeats", [0, 1.5])
def test_a_wrong_number_of_repeats_is_refused(digits, repeats):
    model = lt.build_model("mlp_8", seed=0, data=digits)
    with pytest.raises(ValueError, match=f"got {repeats}"):
        lt.training_cost({"one": model}, digits, CONFIG, repeats=repeats)
