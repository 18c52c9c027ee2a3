"""The selection in Triton, by its interpreter on a CPU, against the present selection.

The interpreter must be chosen before Triton is imported, so the cases run in a process of their
own: this file, as a script.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

CPU = torch.device("cpu")


@pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="needs Triton")
def test_every_choice_is_that_of_the_present_selection():
    root = Path(__file__).parents[2]
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "checked" in done.stdout


def test_a_triton_that_does_not_work_is_named_once(monkeypatch):
    from lth_tutorial.pruning import radix

    def broken():
        raise RuntimeError("Failed to find C compiler\nmore")

    monkeypatch.setattr(radix, "_kernels", broken)
    monkeypatch.setitem(sys.modules, "triton", types.ModuleType("triton"))
    monkeypatch.setattr(torch, "device", lambda *_: CPU)  # the probe asks for a GPU
    radix._works.cache_clear()
    with pytest.warns(UserWarning, match="does not work here .*C compiler.*sorting"):
        assert not radix._works(0)
    assert not radix._works(0)
    radix._works.cache_clear()
    monkeypatch.setitem(sys.modules, "triton", None)  # not installed: no warning
    assert not radix._works(1)
    radix._works.cache_clear()
    assert not radix.is_available(CPU)


def main() -> None:
    """Check all cases; fail at the first that differs."""
    from lth_tutorial.pruning.radix import Highest
    from lth_tutorial.supermask.selection import highest, largest

    generator = torch.Generator().manual_seed(0)
    checked = 0

    def check(rows, count):
        nonlocal checked
        n = rows.shape[1]
        pieces = [(i, n) for i in range(len(rows))]
        choose = Highest(pieces, [count] * len(rows), CPU, block=256)
        found = choose(rows.flatten().view(torch.int32), magnitudes=True).view(rows.shape)
        assert torch.equal(found, largest(rows, count)), ("magnitudes", rows, count)
        found = choose(ordered(rows)).view(rows.shape)
        assert torch.equal(found, highest(rows, count)), ("values", rows, count)
        checked += 1

    for n in (7, 300):
        zeros = torch.zeros(2, n)
        zeros[:, ::2] *= -1
        kinds = {
            "normal": torch.randn(2, n, generator=generator),
            "ties": torch.randint(-2, 3, (2, n), generator=generator).float(),
            "all equal": torch.ones(2, n),
            "signed zeros": zeros,
            "subnormal": torch.randn(2, n, generator=generator) * 1e-42,
            "huge": torch.randn(2, n, generator=generator) * 1e38,
        }
        for rows in kinds.values():
            for count in (1, n // 2):
                check(rows, count)
    check(torch.randn(2, 300, generator=generator), 299)
    check(torch.randn(2, 300, generator=generator), 300)
    check(torch.tensor([[-0.5]]), 1)
    check(torch.tensor([[float("inf"), 1.0, -float("inf"), 0.0]]), 2)
    prune_and_supermasks(generator)
    many = torch.randn(11_000_000, generator=generator)
    many[::7] = many[3]  # 1.6 million ties, at the threshold
    count = int((many.abs() > many[3].abs()).sum()) + 800_000
    found = Highest([(0, len(many))], [count], CPU, block=2**19)(
        many.view(torch.int32), magnitudes=True
    )
    assert torch.equal(found, largest(many[None], count)[0])
    none = Highest([(0, 3)], [0], CPU)(torch.ones(3).view(torch.int32))
    assert not none.any()
    print("checked", checked)


def ordered(rows):
    from lth_tutorial.pruning.radix import ordered_bits

    return ordered_bits(rows.flatten())


def prune_and_supermasks(generator) -> None:
    """Whole masks, layer by layer and over the network, as the package asks for them."""
    import lth_tutorial as lt
    from lth_tutorial.pruning import radix, ranking
    from lth_tutorial.supermask.group import MaskedGroup

    model = lt.build_model("mlp_12_6", seed=0)
    mask, scores = lt.dense_mask(model), lt.snapshot(model)
    scores = {name: scores[name].round(decimals=1) for name in mask}  # full of ties
    for scope in ("layer", "global"):
        groups, found = [], []
        for there in (False, True):
            radix.is_available = lambda device, there=there: there
            models = [lt.build_model("mlp_bn_9_5", seed=s) for s in range(2)]
            group = MaskedGroup(models, lt.SupermaskConfig("edge_popup", 0.3, scope), 5, [0, 1])
            with torch.no_grad():
                group.all_scores.copy_(group.all_scores.round(decimals=2))
            groups.append(group.masks())
            assert (group.highest is not None) == there
            by_band = ranking._by_band
            if there:  # as on a GPU
                ranking._by_band = lambda values, allowed, keep: [
                    each.numpy() for each in ranking._on_a_gpu(
                        torch.cat([torch.from_numpy(v) for v in values]),
                        torch.cat([torch.from_numpy(a) for a in allowed]), keep,
                    ).split([len(v) for v in values])
                ]  # fmt: skip
            once = lt.prune(scores, mask, 0.4, scope=scope)
            found.append(lt.prune({n: -s for n, s in scores.items()}, once, 0.5, scope=scope))
            ranking._by_band = by_band
        for one, other in (groups, found):
            assert all(torch.equal(one[name], other[name]) for name in one), scope


if __name__ == "__main__":
    main()
