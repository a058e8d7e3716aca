"""What was measured, in words: of one class a picture, of several, of numbers."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vitgraft.cli import show

if TYPE_CHECKING:
    from vitgraft.results.record import Scores
    from vitgraft.train.targets import Measured, Target


def measured(metrics: "Measured", names: Sequence[str], over: str) -> dict[str, str]:
    """Names and values for `show.pairs`; `names` are of classes or numbers, `over` which of them there are."""
    found = asdict(metrics)
    if "map" in found:
        told = {
            "mean average precision": f"{show.percent(found['map'])}{over}",
            "F1, micro": show.percent(found["f1_micro"]),
            "F1, macro": f"{show.percent(found['f1_macro'])}{over}",
            "all labels right": show.percent(found["exact"]),
        }
    elif "mae" in found:
        told = {
            f"mean absolute error{of}": f"{mae:.4g} (R² {known:.3f})"
            for of, mae, known in zip(
                [f" of {name}" if len(names) > 1 else "" for name in names],
                found["maes"],
                found["r2s"],
                strict=True,
            )
        }
        told |= {"R², mean": f"{found['r2']:.3f}"} if len(names) > 1 else {}
    else:
        told = {
            "top-1": show.percent(found["top1"]),
            "top-5": show.percent(found["top5"]),
            "mean per class": f"{show.percent(found['mean_per_class'])}{over}",
        }
    return {**told, "loss": f"{metrics.loss:.4f}"}


def learned(target: "Target", names: Sequence[str], metrics: "Measured") -> dict[str, Any]:
    """What JSON says beside what was measured, by name: thresholds of labels, or errors of numbers."""
    found, kept = asdict(metrics), target.to_json() or {}
    told: dict[str, Any] = {"labels": target.kind}
    if kept.get("thresholds") is not None:
        told["thresholds"] = dict(zip(names, kept["thresholds"], strict=True))
    if "maes" in found:
        told["mae_by_name"] = dict(zip(names, found["maes"], strict=True))
        told["r2_by_name"] = dict(zip(names, found["r2s"], strict=True))
    return told


def of_run(name: str, scores: "Scores") -> dict[str, str]:
    """What a run reached on the split that is called so, as a record has it."""
    if scores.map is not None:
        text = f"{show.percent(scores.map)} mean average precision of {scores.n:,} images"
        return {name: f"{text}, F1 {show.percent(scores.f1_micro)} micro, {show.percent(scores.f1_macro)} macro"}
    if scores.maes is not None and len(scores.maes) > 1:
        return {name: f"R² {scores.r2:.3f}, the mean of {len(scores.maes)} numbers, of {scores.n:,} images"}
    if scores.mae is not None:
        return {name: f"mean absolute error {scores.mae:.4g} of {scores.n:,} images, R² {scores.r2:.3f}"}
    text = f"{show.percent(scores.top1)} of {scores.n:,} images, mean per class"
    return {f"{name} accuracy": f"{text} {show.percent(scores.mean_per_class)}"}
