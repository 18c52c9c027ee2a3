"""Figures of chapter 14 show what they are given, and refuse what they cannot show."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

import lth_tutorial as lt
from lth_tutorial import plotting
from lth_tutorial.plotting import METHODS

matplotlib.use("Agg")


def mask(units=12, side=5, density=0.3):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(units, side * side, generator=generator) < density


def locality_rows():
    return pd.DataFrame(
        {
            "arm": "ticket", "seed": seed, "round": r, "first_density": 0.5**r,
            "neighbours": 0.6**r + 0.01 * seed, "neighbours_matched": 0.55**r,
            "neighbours_uniform": 0.5**r, "excess": 0.01 * seed,
        }
        for seed in range(4) for r in range(5)
    )  # fmt: skip


def test_receptive_fields_show_every_unit_in_its_square_fullest_first():
    kept = mask()
    figure = plotting.receptive_fields(kept, (5, 5), columns=4, rows=3)
    sheet = figure.axes[0].get_images()[0].get_array()
    order = kept.sum(1).argsort(descending=True, stable=True)
    for i, unit in enumerate(order.tolist()):
        y, x = divmod(i, 4)
        square = sheet[y * 6 + 1 : y * 6 + 6, x * 6 + 1 : x * 6 + 6]
        assert np.array_equal(np.asarray(square), kept[unit].view(5, 5).float().numpy())
    with pytest.raises(ValueError, match="5 by 6 pixels it has shape .units, 30."):
        plotting.receptive_fields(kept, (5, 6))


def test_locality_curves_draw_the_mask_and_its_nulls():
    table = lt.kept_at_distance(mask(), (5, 5), longest=3)
    figure = plotting.locality_curves({"kept": table, "matched": table})
    lines = figure.axes[0].get_lines()
    assert len(lines) == 2
    assert lines[0].get_ydata() == pytest.approx(100 * table["same"].to_numpy())
    with pytest.raises(ValueError, match="kept, matched, uniform; got 'shuffled'"):
        plotting.locality_curves({"shuffled": table})


def test_neighbours_are_drawn_with_both_nulls_against_the_density_of_the_first_layer():
    rows = locality_rows()
    axes = plotting.neighbours_vs_density(rows).axes[0]
    lines = [one for one in axes.get_lines() if len(one.get_xdata()) == 5]
    assert len(lines) == 3
    means = rows.groupby("round")["neighbours"].mean()
    assert lines[0].get_ydata() == pytest.approx(100 * means.to_numpy())
    assert lines[0].get_xdata() == pytest.approx([0.5**r for r in range(5)])


def test_every_arm_has_a_line_with_a_dot_for_each_seed():
    rows = locality_rows()
    rows = rows[rows["round"] == 4]
    rows = pd.concat([rows, rows.assign(arm="clone")])
    axes = plotting.excess_by_arm(rows, {"clone": "a clone", "ticket": "tickets"}).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a clone", "tickets"]
    dots = [one for one in axes.get_lines() if len(one.get_xdata()) == 4]
    assert len(dots) == 2 and list(dots[0].get_xdata()) == pytest.approx([0, 1, 2, 3])


def test_the_wiring_shows_every_kept_weight_and_which_are_needed():
    data, model = lt.cubist_spiral(200), lt.spiral_network((3, 2, 2), 0)
    kept = {name: m.clone() for name, m in lt.dense_mask(model).items()}
    kept["output.weight"][0, 1] = False  # the second unit of the third layer is read by nothing
    lt.apply_mask_(model, kept)
    figure = plotting.spiral_and_wiring(model, data, kept, title="some")
    wires = [one for one in figure.axes[1].get_lines() if len(one.get_xdata()) == 2]
    assert len(wires) == sum(int(m.sum()) for m in kept.values())
    dotted = [one for one in wires if one.get_linestyle() == ":"]
    assert len(wires) - len(dotted) == lt.needed_weights(model, data, kept)
    regions = np.asarray(figure.axes[0].get_images()[0].get_array())
    limit = 1.08 * float(data.x_train.abs().max())
    side = torch.linspace(-limit, limit, 140)
    point = torch.stack([side[30], side[100]])[None]
    with torch.no_grad():
        logits = model(data.normalize(point))[0]
    assert regions[100, 30] == float(logits[1] > logits[0])


def test_weights_against_width_and_accuracy_against_weights():
    table = pd.DataFrame(
        {"arm": arm, "width": width, "seed": seed, "weights": 2 * width + seed,
         "pruned": (arm, width, seed) != ("snip", 8, 1)}
        for arm in ("ticket", "snip") for width in (4, 8) for seed in range(3)
    )  # fmt: skip
    figure = plotting.weights_vs_width(table, fewest=7)
    hollow = [line for line in figure.axes[0].get_lines() if line.get_markerfacecolor() == "white"]
    assert len(hollow) == 1 and hollow[0].get_ydata().tolist() == [17]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert METHODS["snip"]["label"] in labels and "fewest known: 7" in labels
    rows = table.assign(accuracy=np.linspace(0.5, 1, len(table)))
    axes = plotting.weights_vs_accuracy(rows).axes[0]
    own = rows[rows["arm"] == "ticket"]
    assert axes.get_lines()[0].get_ydata() == pytest.approx(100 * own["accuracy"].to_numpy())
    for draw in (plotting.weights_vs_width, plotting.weights_vs_accuracy):
        with pytest.raises(ValueError, match="column"):
            draw(table.drop(columns="weights"))


@pytest.mark.parametrize("name", ["fields", "curves", "neighbours", "excess", "spiral", "width"])
def test_figures_are_white_cards_with_readable_text(name):
    data, model = lt.cubist_spiral(200), lt.spiral_network(3, 0)
    table = lt.kept_at_distance(mask(), (5, 5), longest=3)
    rows, widths = locality_rows(), {"arm": "ticket", "width": [4, 8], "seed": 0, "pruned": True}
    figure = {
        "fields": lambda: plotting.receptive_fields(mask(), (5, 5), title="some"),
        "curves": lambda: plotting.locality_curves({"kept": table}),
        "neighbours": lambda: plotting.neighbours_vs_density(rows),
        "excess": lambda: plotting.excess_by_arm(rows[rows["round"] == 1], {"ticket": "tickets"}),
        "spiral": lambda: plotting.spiral_and_wiring(model, data, lt.dense_mask(model), title="x"),
        "width": lambda: plotting.weights_vs_width(pd.DataFrame(widths | {"weights": [20, 30]})),
    }[name]()
    figure.draw_without_rendering()
    assert figure.get_facecolor() == (1, 1, 1, 1) and figure.get_size_inches()[0] <= 6.5
    texts = figure.findobj(matplotlib.text.Text)
    assert min(t.get_fontsize() for t in texts if t.get_text().strip()) >= 9
