from __future__ import annotations

import inspect
import subprocess
import sys
import typing

import pytest

import lth_tutorial as lt
from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.locks import one_writer

# Chapters and coursework rely on these, all of version 0.1.0: a release may add names, not take
# one away.
PROMISED = """
all_units apply_mask_ Barrier barrier batch_indices best_single best_subset biprop build_model
check Claim CLAIMS claims connected_weights corrupt_data cost_table count_paths Criterion
DamagedFileWarning Dataset dense_mask density difference_table DivergenceWarning edge_popup
effective_state evaluate explore Explorer fisher_scores flops gallery GalleryEntry gradient_scores
grasp_scores imitation_experiment IMPConfig IMPRound instability interpolate Interval
iterative_magnitude_pruning kaiming_normal_ keep_best kept_units large_final_mask layer_counts
layer_densities LayerCollapseWarning learned_supermask learning_rate limit_threads load_dataset
load_mask load_provenance load_rows load_shipped_ticket load_ticket lottery_experiment
magnitude_increase_scores magnitude_scores make_dataset Mask matching MemoryWarning Metrics mlp
movement_scores obd_scores output_error overlap paired_difference pick_device Plane plane plotting
prune prune_before_training prune_like prune_random_layer prune_random_network prune_to_density
PrunedRandomNetwork random_products random_scores RandomLayer recorded reinitialize relu_network
remove_units replace_kept rescale_kept retraining_experiment rewind_ rewinding_experiment
round_barriers save_mask save_rows save_ticket Scores scratch scratch_config shipped_tickets
shuffle_within_layers SignActivation signed_constant_ signs_experiment silence_ snapshot
snip_scores State state_hash structured_experiment Subset subset_sum_experiment summarize Supermask
supermask_experiment SupermaskConfig synflow_scores t_interval TicketSize top_k_mask train
train_replicates train_supermasks TrainConfig TrainResult typical_error unit_groups unit_mask
unit_scores UnitGroup Units UntraceableError verdicts versions widen with_batch_norm
with_sign_activations
""".split()


def test_promised_names_are_there_and_listed():
    assert len(PROMISED) == 140
    assert set(PROMISED) <= set(lt.__all__)
    assert all(hasattr(lt, name) for name in lt.__all__)
    assert len(set(lt.__all__)) == len(lt.__all__)


def test_everything_public_that_is_imported_is_listed():
    modules = {"exercises"}  # listed under the name `check`
    public = {
        name
        for name, value in vars(lt).items()
        if not name.startswith("_")
        and not (inspect.ismodule(value) and name not in lt.__all__)
        and name not in modules
    }
    assert public == set(lt.__all__)


@pytest.mark.parametrize("name", lt.__all__)
def test_a_public_function_or_class_says_what_it_does_and_takes(name):
    value = getattr(lt, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__doc__ and len(value.__doc__.split("\n")[0]) > 20, name
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        untyped = [p for p in signature.parameters.values() if p.annotation is p.empty]
        assert not untyped and signature.return_annotation is not signature.empty, name


def test_importing_the_package_loads_no_heavy_library():
    code = (
        "import sys, torch; before = set(sys.modules); import lth_tutorial; "
        "heavy = {'pandas', 'torchvision', 'matplotlib', 'ipywidgets', 'scipy', 'joblib'}; "
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_no_library_code_seeds_the_global_generator_unprotected():
    """`torch.manual_seed` may only stand inside a `fork_rng` block."""
    from pathlib import Path

    for path in Path(lt.__file__).parent.rglob("*.py"):
        lines = path.read_text().splitlines()
        for i, line in enumerate(lines):
            if "torch.manual_seed(" in line:
                before = "\n".join(lines[max(0, i - 25) : i])
                assert "fork_rng" in before, f"{path.name}:{i + 1}"


@pytest.mark.parametrize("decorator", [checked, one_writer])
def test_editors_see_a_decorated_function_itself(decorator):
    hints = typing.get_type_hints(decorator)
    assert isinstance(hints["return"], typing.TypeVar) and hints["return"] is hints["function"]


ONE_TRAINING = {"train", "train_replicates", "edge_popup", "biprop", "learned_supermask"}
"""What they call first with their working directory takes the lock."""


def chain(function):
    while function is not None:
        yield function
        function = getattr(function, "__wrapped__", None)


def test_every_run_of_several_trainings_keeps_its_workdir_to_one_process():
    locked = one_writer(lambda: None).__code__
    public = {name: getattr(lt, name) for name in lt.__all__}
    runs = {
        name: any(getattr(step, "__code__", None) is locked for step in chain(value))
        for name, value in public.items()
        if inspect.isfunction(value) and "workdir" in inspect.signature(value).parameters
    }
    assert len(runs) > 20
    assert {name for name, keeps in runs.items() if not keeps} == ONE_TRAINING
