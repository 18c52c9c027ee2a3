"""One name per arm: what figures, tables and claims call it."""

import re

import pytest
from bootstrap import ROOT

import lth_tutorial as lt
from lth_tutorial.results.names import ARM_NAMES

KEY = re.compile(r"[a-z]\w*_\w")


def test_no_two_arms_share_a_name_and_no_name_is_a_key():
    assert len(set(ARM_NAMES.values())) == len(ARM_NAMES)
    assert not [name for name in ARM_NAMES.values() if KEY.search(name)]


def test_figures_take_their_labels_from_the_names():
    assert set(lt.plotting.METHODS) <= set(ARM_NAMES)
    for key, style in lt.plotting.METHODS.items():
        assert style["label"] == ARM_NAMES[key]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("units_l1", "smallest ℓ1"),
        ("act 1, low: reinit", "act 1, low: re-initialised"),
        ("3 blocks to 6 blocks, stretched", "3 blocks to 6 blocks, moved ticket"),
        ("snip/shuffled", "SNIP, shuffled"),
        ("PGD: low_mask", "PGD: low-rate mask"),
        ("an arm of my own", "an arm of my own"),
        ("", ""),
    ],
)
def test_an_arm_is_called_by_its_name(key, name):
    assert lt.arm_name(key) == name


@pytest.mark.parametrize("record", sorted(path.stem for path in (
    ROOT / "lth_tutorial" / "_data" / "records").glob("*.csv")))  # fmt: skip
def test_every_arm_of_a_record_has_a_name(record):
    arms = lt.load_rows(record)["arm"].unique()
    assert not [arm for arm in arms if KEY.search(lt.arm_name(arm))]


def test_claims_are_stated_without_keys():
    table = lt.claims()
    for column in ("claim", "setting", "effect", "verdict"):
        assert not [text for text in table[column] if KEY.search(text)], column
