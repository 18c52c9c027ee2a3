"""The one command for a lent GPU, rehearsed: time on such a machine is too dear for an old slip."""

from __future__ import annotations

import json
import subprocess
import sys

import gpu_check
import pytest
import torch


@pytest.mark.skipif(torch.cuda.is_available(), reason="a rehearsal: here `make gpu` runs it")
def test_everything_but_the_tests_runs_on_a_cpu_in_pretence(tmp_path):
    """The GPU tests are rehearsed by `make unit` itself."""
    command = [sys.executable, gpu_check.__file__, "--out", str(tmp_path), "--skip", "tests"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["about"]["device"] == "cpu, in pretence"
    works = {work.name for work in gpu_check.WORKS}
    assert works | {"about", "selection", "loader", "watching", "record"} == found.keys()
    for name in works:
        assert 0 < found[name]["floor_us"] and 0 < found[name]["step_us"]
    table = done.stdout.splitlines()
    assert all(any(line.startswith(found[name]["name"]) for line in table) for name in works)
    assert found["record"]["rows"] > 0
