"""What a token costs with each of the peers, as a plot."""

from pathlib import Path

import matplotlib as mpl

from results import OURS, Results, ns_of

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "atoma-crypto", "font.size": 9})  # the same results, the same file

from matplotlib import pyplot as plt  # noqa: E402 - it asks for the backend when it is imported

ONCE_A_KEY = ("hpke", "hybrid")  # a key for each message: no stream of tokens


def shown(results: Results, operation: str) -> list[tuple[str, float]]:
    """Who, and µs; the fastest first."""
    everyone = [who for who in results.operations()[operation] if not who.endswith(ONCE_A_KEY)]
    found = [(who, results.over(ns_of(operation, who))[0] / 1000) for who in everyone if results.did(operation, who)]
    return sorted(found, key=lambda pair: pair[1])


def draw(results: Results, path: Path) -> None:
    """Two panels of bars, seal and open, on one logarithmic axis."""
    figure, axes = plt.subplots(2, 1, figsize=(8, 6.6), sharex=True, layout="constrained")
    for axis, operation, title in zip(
        axes,
        ("seal 300", "open 300"),
        ("seal 300 bytes", "open them"),
        strict=True,
    ):
        pairs = shown(results, operation)[::-1]
        names = [f"{who} ●" if who.startswith((OURS, "reference", "atoma-sdk")) else who for who, _ in pairs]
        colours = ["#0b7285" if who.startswith(OURS) else "#adb5bd" for who, _ in pairs]
        bars = axis.barh(names, [us for _, us in pairs], color=colours)
        axis.bar_label(bars, [f"{us:.2f}" for _, us in pairs], padding=3)
        axis.set_xscale("log")
        axis.set_title(title, loc="left", fontweight="bold")
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.12)
    axes[1].set_xlabel(
        "µs for each, logarithmic; ● with JSON, base64 and hash, as protocol v1 has it; the others without"
    )
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
