"""Head2Toe: a linear classifier on features chosen from the whole model (Evci et al., 2022)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from vitgraft.methods.base import Calibration, Findings, Method, Recipe, needed, not_negative, share

if TYPE_CHECKING:
    from torch import Tensor

    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape


@dataclass(frozen=True)
class Head2Toe(Method):
    """A linear classifier on the most useful features of all blocks, each place's features L2-normalised.

    First a classifier on all features is trained with a group lasso (`penalty` times the sum of its columns'
    norms); the share `keep` of features with the largest columns stays, and a fresh classifier is trained on
    them without the lasso. Places with tokens are averaged over windows of tokens so that about `size` values
    remain (0, or a size up to the width: over all tokens). `keep=1` keeps all features, and looks at no data.

    `keep` is 0.1 by default: published values go from 0.01 to 0.2 by task. Deviations: 52 places of ViT-B/16
    instead of 53, since the class token behind the final normalisation was read twice, and the patch embedding
    has no class token yet; AdamW without decay and the run's schedule instead of Adam over a set number of
    steps; fields are chosen by the user instead of five-fold cross-validation.
    """

    name: ClassVar[str] = "head2toe"
    trains: ClassVar[str] = "a classifier of chosen features"
    where: ClassVar[str] = "every block's activations"
    source: ClassVar[str] = "Evci 2022"
    merges: ClassVar[bool] = False
    crosses: ClassVar[Literal["no block"]] = "no block"
    recipe: ClassVar[Recipe] = Recipe(lr=1e-2, weight_decay=0.0)

    size: int = 0
    keep: float = 0.1
    penalty: float = 1e-4

    def looks(self) -> bool:
        return self.keep < 1

    def find(self, backbone: "Backbone", classes: int, calibration: Calibration) -> "dict[str, Tensor]":
        from vitgraft.heads.selected import strongest

        model = calibration.fit("scores", self._plan(backbone, classes, None, self.penalty), self.recipe)
        return {"kept": strongest(model.head.classifier.weight, self.keep)}

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        kept = needed(self, findings, f"keep={self.keep}")["kept"] if self.looks() else None
        return self._plan(backbone, classes, kept, 0.0)

    def _plan(self, backbone: "Backbone", classes: int, kept: "Tensor | None", strength: float) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.heads.selected import SelectedHead, pieces

        share(self, keep=self.keep)
        not_negative(self, size=self.size, penalty=self.penalty)
        head = SelectedHead(classes, pieces(backbone, self.size), kept, strength)
        return Plan(head, taps=head.taps)

    def formula(self, shape: "Shape") -> int:
        return 0
