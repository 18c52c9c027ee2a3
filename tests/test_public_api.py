from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import lth_tutorial as lt

# Chapters and coursework rely on these: a release may add names, not take one away.
PROMISED = """
Dataset TrainConfig IMPConfig load_dataset build_model batch_indices train evaluate snapshot
dense_mask apply_mask_ density layer_densities overlap shuffle_within_layers save_mask load_mask
magnitude_scores random_scores prune iterative_magnitude_pruning lottery_experiment reinitialize
save_rows load_rows summarize paired_difference claims check plotting explore limit_threads
pick_device
""".split()


def test_promised_names_are_there_and_listed():
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
