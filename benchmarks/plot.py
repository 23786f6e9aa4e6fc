"""What a token costs with each of the peers, as a plot."""

import textwrap
from pathlib import Path

import matplotlib as mpl

from results import OURS, Results, ns_of

mpl.use("svg")
mpl.rcParams.update(
    {"svg.hashsalt": "atoma-crypto", "svg.fonttype": "none", "font.size": 9}
)  # the same results, the same file

from matplotlib import pyplot as plt  # noqa: E402 - it asks for the backend when it is imported

ONCE_A_KEY = ("hpke", "hybrid")  # a key for each message: no stream of tokens


def shown(results: Results, operation: str) -> list[tuple[str, float]]:
    """Who, and µs; the fastest first."""
    everyone = [who for who in results.operations()[operation] if not who.endswith(ONCE_A_KEY)]
    found = [(who, results.over(ns_of(operation, who))[0] / 1000) for who in everyone if results.did(operation, who)]
    return sorted(found, key=lambda pair: pair[1])


def draw(results: Results, path: Path) -> None:
    """Two panels, seal and open, on one logarithmic axis: dots, as a logarithmic bar has no honest beginning."""
    figure, axes = plt.subplots(2, 1, figsize=(8, 6.4), sharex=True, layout="constrained")
    for axis, operation, title in zip(axes, ("seal 300", "open 300"), ("seal 300 bytes", "open them"), strict=True):
        for who, us in shown(results, operation)[::-1]:
            ours = who.startswith(OURS)
            whole = ours or who.startswith(("reference", "atoma-sdk"))
            colour = "#0b7285" if ours else "#868e96"
            axis.plot([us], [who], marker="o" if whole else "D", color=colour, markerfacecolor=colour if whole else "w")
            axis.annotate(f"{us:.2f}", (us, who), (7, -3), textcoords="offset points", color=colour)
        axis.set_xscale("log")
        axis.set_xlim(0.5, 100)
        axis.xaxis.set_major_formatter("{x:g} µs")
        axis.grid(axis="x", color="#dee2e6")
        axis.set_axisbelow(True)
        axis.set_title(title, loc="left", fontweight="bold")
        axis.spines[["top", "right", "left"]].set_visible(False)
    machine = results.machine
    caption = (
        "Filled: with JSON, base64 and hash, as protocol v1 has it. Open: an AEAD and at most a frame of its own. "
        f"{machine['CPU']}; {machine['versions']}; {machine['date']}."
    )
    figure.supxlabel(textwrap.fill(caption, 120), fontsize=7, color="#495057")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
