"""The claims of chapter 11: what subset sums prove about random networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lth_tutorial.claims.rules import Claim, Effect, Measured, Setting, difference

if TYPE_CHECKING:
    import pandas as pd

# The criteria were fixed after a pilot with seeds 100 to 107, before the seeds that decide were
# run. The margin of 0.5 points is the one by which the other chapters judge matching on the
# digits; 0.1 points is that of the MNIST claims of chapter 4.

_SUMS, _DIGITS, _MNIST = "subset-sums", "digits-imitation", "mnist-pruned-random-network"
_PRODUCTS = "products of two uniform numbers, 200 targets in [−1, 1] per seed"
_NETWORK = "64-32-10 network without biases on digits, Adam, 600 steps"
_MNIST_NETWORK = "784-100-10 network without biases on MNIST, Adam, 5,000 steps"
_PENSIA = "Pensia et al. 2020, theorem 1"
_ROUND = {n: i for i, n in enumerate((2, 4, 6, 8, 10, 12, 16), start=1)}
"""Round of `imitation_experiment` in which there are n products per weight and sign."""


def _fit(quantity: str, low: int = 5, high: int = 20):
    """Return the measure of a straight line through log10(error) against n, seed by seed."""

    def measure(rows: pd.DataFrame) -> Measured:
        import numpy as np

        own = rows[(rows["arm"] == "subset") & rows["products"].between(low, high)]
        values = []
        for _, one in own.groupby("seed"):
            n, log = one["products"].to_numpy(float), np.log10(one["median_error"].to_numpy(float))
            slope, start = np.polyfit(n, log, 1)
            left = ((log - slope * n - start) ** 2).sum() / ((log - log.mean()) ** 2).sum()
            values.append({"r2": 1 - left, "factor": 10**slope}[quantity])
        return Measured(values)

    return measure


def _error_at(n: int):
    def measure(rows: pd.DataFrame) -> Measured:
        own = rows[(rows["arm"] == "subset") & (rows["products"] == n)]
        return Measured(list(own["median_error"]))

    return measure


def _how_many_times(error: float):
    """Return the measure of products needed: one product alone, over the best subset."""

    def measure(rows: pd.DataFrame) -> Measured:
        values, never = [], False
        for _, one in rows.groupby("seed"):
            needed = {}
            for arm, own in one.groupby("arm"):
                enough = own.loc[own["median_error"] <= error, "products"]
                needed[arm] = enough.min() if len(enough) else None
            if needed.get("subset") is None or "single" not in needed:
                continue
            never |= needed["single"] is None
            most = one.loc[one["arm"] == "single", "products"].max()
            values.append((needed["single"] or most) / needed["subset"])
        return Measured(values, at_least=never)

    return measure


def _accuracy(name: str, a: str, b: str, n: int, threshold: float) -> Setting:
    effect = Effect(f"accuracy: {name}", difference("accuracy", a, b, round=_ROUND[n]), threshold)
    return Setting(f"{n} products per weight", (effect,))


def _live(key: str, statement: str, source: str, record: str, setting: Setting) -> Claim:
    network = _PRODUCTS if record == _SUMS else _NETWORK
    return Claim(key, 11, statement, source, record, network, (setting,), live_only=True)


CLAIMS: tuple[Claim, ...] = (
    _live(
        "subset-sums-halve",
        "The error of the best subset sum falls exponentially with the number of products.",
        "Lueker 1998; Pensia et al. 2020, section 3", _SUMS,
        Setting("5 to 20 products", (
            Effect("fit of a line to log error (R²)", _fit("r2"), 0.95, unit=""),
            Effect("factor per product", _fit("factor"), 0.6, "below", unit=""),
            Effect("median error with 20", _error_at(20), 0.01, "below", unit=""),
        )),
    ),
    _live(
        "subsets-beat-single-products",
        "For the same error, choosing one product takes many times as many as adding some up.",
        "Pensia et al. 2020 against Malach et al. 2020", _SUMS,
        Setting("median error 0.01", (
            Effect("products: one / subset", _how_many_times(0.01), 5.0, unit=""),
        )),
    ),
    _live(
        "random-network-holds-the-target",
        "A random network contains a subnetwork as accurate as the trained target network.",
        _PENSIA, _DIGITS,
        _accuracy("pruned random network − target", "subset", "dense", 16, -0.005),
    ),
    _live(
        "subsets-beat-single-in-networks",
        "In a random network of the same size, subsets imitate a target better than single paths.",
        "Pensia et al. 2020 against Malach et al. 2020", _DIGITS,
        _accuracy("best subsets − best single products", "subset", "single", 10, 0.02),
    ),
    _live(
        "imitation-needs-the-right-mask",
        "The mask does it: as many weights kept at random places imitate nothing.",
        "a control of this book", _DIGITS,
        _accuracy("chosen mask − shuffled mask", "subset", "random", 16, 0.5),
    ),
    Claim(
        "random-network-holds-the-target-mnist", 11,
        "A random network contains a subnetwork as accurate as the trained target network.",
        _PENSIA, _MNIST, _MNIST_NETWORK,
        (_accuracy("pruned random network − target", "subset", "dense", 16, -0.001),),
        minimum_n=5,
    ),
)  # fmt: skip
