"""The picture of a demo: loss and accuracy of every node, round by round, beside what was learned apart."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def plot(report: dict[str, Any], path: Path) -> None:
    """Writes a PNG of ``report`` (the content of report.json)."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    widths = [2 + 3 * index for index in range(len(report["digests"]))][::-1]  # equal curves lie on each other
    axes = dict(zip(("loss", "accuracy"), figure.subplots(1, 2), strict=True))
    for quantity, axis in axes.items():
        for node, width in zip(report["digests"], widths, strict=True):
            points = [
                (entry["round"], entry["reports"][node][quantity])
                for entry in report["history"]
                if node in entry["reports"]
            ]
            axis.plot(*zip(*points, strict=True), label=node, linewidth=width)
        axis.set(xlabel="round", title=f"Validation {quantity} of the merged model")
        axis.grid(alpha=0.3)
    accuracy = report["accuracy"]
    axes["accuracy"].axhline(accuracy["central"], color="black", linestyle="--", label="all data on one machine (test)")
    for index, alone in enumerate(accuracy["nodes"]):
        label = "each node alone (test)" if index == 0 else None
        axes["accuracy"].axhline(alone, color="grey", linestyle=":", label=label)
    axes["loss"].set_yscale("log")
    for axis in axes.values():
        axis.legend(fontsize="small")
    figure.suptitle(f"{report['example']}, {report['framework']}, chain {report['chain']}")
    figure.savefig(path, dpi=120)
