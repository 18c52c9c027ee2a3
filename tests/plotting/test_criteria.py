from __future__ import annotations

import matplotlib
import pandas as pd
import pytest
import torch

from lth_tutorial import plotting

matplotlib.use("Agg")


def cloud(n=1_000):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, generator=generator), torch.rand(n, generator=generator).pow(4)


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_plane_counts_what_both_rankings_keep():
    w, h = cloud()
    figure = plotting.saliency_plane(w, h, 0.3)
    large = w.abs() >= w.abs().double().quantile(0.7)
    salient = w.square() * h >= (w.square() * h).double().quantile(0.7)
    both = (large & salient).float().mean().item()
    assert labels(figure)[0] == f"kept by both ({both:.0%})"
    assert labels(figure)[3] == f"by neither ({1 - 0.6 + both:.0%})"


def test_with_equal_curvature_the_rankings_agree():
    w, h = cloud()
    assert "(0%)" in labels(plotting.saliency_plane(w, torch.ones_like(h), 0.5))[1]


@pytest.mark.parametrize("share", [0, 1, 1.5])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="share lies in"):
        plotting.saliency_plane(*cloud(), share)


def layer_rows():
    return pd.DataFrame(
        {"arm": arm, "density": d, "layer": i, "kept": 10 * i, "connected": joined * i}
        for arm, joined in (("snip", 0), ("synflow", 9))
        for d in (0.1, 0.01)
        for i in (1, 2, 3)
    )


def test_each_method_has_its_bars_and_is_called_collapsed_or_alive():
    figure = plotting.connected_layers(layer_rows(), density=0.01)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["SNIP\ncollapsed", "SynFlow\nalive"]
    heights = [bar.get_height() for bar in figure.axes[1].patches]
    assert heights == [10, 20, 30, 9, 18, 27]


def test_a_density_that_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="Known: 0.1, 0.01"):
        plotting.connected_layers(layer_rows(), density=0.02)
