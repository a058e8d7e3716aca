"""One class a picture: cross-entropy, and the share of pictures whose likeliest class is right."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vitgraft.train.metrics import Metrics
from vitgraft.train.metrics import Tally as Hits
from vitgraft.train.objective import Objective, balanced_weights
from vitgraft.train.settings import Training
from vitgraft.train.targets.base import Loss, Tally, Target, need_classes


@dataclass(frozen=True)
class OneClass(Target):
    """Outputs are logits of C classes; accuracy on validation decides."""

    kind: ClassVar[str] = "class"
    measures: ClassVar[type] = Metrics
    main: ClassVar[str] = "top1"

    def to_json(self) -> None:
        return None

    def prepared(self, labels: Tensor, settings: Training) -> "OneClass":
        need_classes(settings)
        return self

    def loss(self, labels: Tensor, outputs: int, settings: Training) -> Loss:
        weights = balanced_weights(labels, outputs) if settings.class_weights == "balanced" else None
        return Objective(weights, settings.label_smoothing)

    def hits(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs.argmax(-1) == labels).sum(-1)

    def told(self, hits: float, n: int) -> dict[str, float]:
        return {"train_top1": 100 * hits / n}

    def tally(self, labels: Tensor, outputs: int, device: torch.device) -> Tally:
        return Hits(outputs, device)

    def answers(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(1).cpu()
