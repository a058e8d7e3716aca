"""Draw what the demo's records say: accuracy against trained values, one panel a task.

python demo/picture.py docs/demo.png
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from vitgraft.results import store
from vitgraft.results.record import Record

FOLDER = Path("runs/demo")


def main() -> int:
    """Read every record of the demo, draw, write; returns the exit code."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    records = [store.read(path) for path in sorted(FOLDER.glob(f"*/{store.FILE}"))]
    if not records:
        print(f"No records below {FOLDER}. Run `make demo` first.")
        return 1
    tasks = list(dict.fromkeys(record.task.name for record in records))
    figure, axes = plt.subplots(1, len(tasks), figsize=(5.2 * len(tasks), 3.6), squeeze=False)
    for panel, task in zip(axes[0], tasks, strict=True):
        _draw(panel, task, [record for record in records if record.task.name == task])
    figure.tight_layout()
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=120)
    return 0


def _draw(panel: plt.Axes, task: str, records: list[Record]) -> None:
    """One point a method; its size is what training keeps for an image."""
    for record in records:
        assert record.test is not None, "the demo's tasks have test splits"
        cost = record.cost
        trained = cost.trained_method + cost.trained_head
        point = panel.scatter(trained, record.test.top1, s=20 + cost.kept_bytes_per_image / 2**14, alpha=0.7)
        panel.annotate(
            record.method.spec,
            (trained, record.test.top1),
            textcoords="offset points",
            xytext=(8, 4),
            color=point.get_facecolor()[0][:3],
        )
    panel.set(xscale="log", title=task, xlabel="trained values, classifier included", ylabel="test accuracy, %")
    panel.margins(x=0.25, y=0.15)
    panel.grid(alpha=0.3)


if __name__ == "__main__":
    sys.exit(main())
