"""SynQT: synthesised queries read a frozen backbone (Zhang et al., 2024)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from vitgraft.errors import ConfigError, unknown
from vitgraft.methods.base import Findings, Method, Recipe, in_one_sequence, one_of, positive, probability

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape

DEFAULTS = (4, 0.1, 0.1, 0.1)
PRESETS: dict[str, tuple[int, float, float, float]] = {
    "caltech101": (4, 1.0, 0.1, 0.1),
    "cifar100": (4, 0.1, 1.0, 0.1),
    "dtd": (1, 0.1, 0.1, 0.1),
    "flowers102": (4, 0.1, 0.1, 0.1),
    "pets": (1, 1.0, 0.1, 1.0),
    "svhn": (4, 1.0, 0.1, 1.0),
    "sun397": (1, 0.1, 1.0, 0.1),
    "camelyon": (16, 0.1, 0.1, 1.0),
    "eurosat": (16, 0.1, 1.0, 0.1),
    "resisc45": (4, 0.1, 0.1, 0.1),
    "retinopathy": (16, 0.1, 1.0, 0.1),
    "clevr_count": (16, 0.1, 0.1, 0.1),
    "clevr_dist": (16, 0.1, 0.1, 0.1),
    "dmlab": (1, 1.0, 0.1, 0.1),
    "kitti_dist": (16, 0.1, 1.0, 0.1),
    "dspr_loc": (16, 0.1, 0.1, 0.1),
    "dspr_ori": (4, 1.0, 0.1, 0.1),
    "snorb_azim": (16, 1.0, 0.1, 1.0),
    "snorb_ele": (16, 0.1, 1.0, 0.1),
}
"""The published settings on VTAB-1k: tokens, feature scale, attention scale, mlp scale."""


@dataclass(frozen=True)
class SynQT(Method):
    """T queries a block are synthesised from learnt ones and from what the block before gave, read the frozen
    block (query-only attention), and an instance-aware weighted mean of all readings is classified.

    `tokens` is T; the three scales are where the learnt scalars start; `preset` takes all four from the paper's
    setting for a VTAB-1k task, unless given. `scales=one` fixes the scales to 1 (the paper's SynQT†),
    `extraction=trained` reads trained copies of the blocks (SynQT‡).

    Deviations: the published dead parameters (a pre-norm a block, an unused vector of 3 L + 1, with one query what
    compares queries) are left out; the frozen stream has no drop path, so it can be computed once; drop path acts
    on the queries' branches.
    """

    name: ClassVar[str] = "synqt"
    trains: ClassVar[str] = "query synthesis, weighing head"
    where: ClassVar[str] = "beside every block"
    source: ClassVar[str] = "Zhang 2024"
    merges: ClassVar[bool] = False
    crosses: ClassVar[Literal["no block"]] = "no block"
    revision: ClassVar[int] = 2
    recipe: ClassVar[Recipe] = Recipe(lr=1e-3, weight_decay=1e-2)

    tokens: int | None = None
    feature_scale: float | None = None
    attention_scale: float | None = None
    mlp_scale: float | None = None
    preset: str = "none"
    scales: str = "learned"
    extraction: str = "frozen"
    dropout: float = 0.1
    drop_path: float = 0.1
    drop_features: float = 0.3

    def sizes(self) -> tuple[int, float, float, float]:
        """Tokens, feature scale, attention scale, mlp scale: as given, else the preset's. Raises ConfigError."""
        if self.preset not in (*PRESETS, "none"):
            raise ConfigError(unknown("preset of synqt", self.preset, PRESETS))
        chosen = PRESETS.get(self.preset, DEFAULTS)
        given = (self.tokens, self.feature_scale, self.attention_scale, self.mlp_scale)
        tokens, *scales = (own if value is None else value for value, own in zip(given, chosen, strict=True))
        return int(tokens), scales[0], scales[1], scales[2]

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.heads.synqt import SynqtHead, Synthesis

        in_one_sequence(self, backbone)
        positive(self, tokens=self.sizes()[0])
        probability(self, dropout=self.dropout, drop_path=self.drop_path, drop_features=self.drop_features)
        one_of(self, "scales", self.scales, ("learned", "one"))
        one_of(self, "extraction", self.extraction, ("frozen", "trained"))
        sizes = Synthesis(
            *self.sizes(),
            learn_scales=self.scales == "learned",
            train_extraction=self.extraction == "trained",
            dropout=self.dropout,
            drop_path=self.drop_path,
            drop_features=self.drop_features,
        )
        return Plan(SynqtHead(backbone, classes, sizes), taps=SynqtHead.taps(backbone))

    def formula(self, shape: "Shape") -> int:
        width, depth = shape.width, shape.depth
        norm = 2 * width

        def adapter(hidden: int) -> int:
            return 2 * width * hidden + hidden + width

        tokens = self.sizes()[0]
        synthesis = adapter(48) + 2 * adapter(8) + adapter(48) + 3 * norm
        synthesis += 2 * adapter(8) + norm if tokens > 1 else 0
        head = norm + adapter(48) + 3 * depth * (width + 1) + norm
        scales = 2 * depth + 1 if self.scales == "learned" else 0
        copies = depth * shape.block_parameters if self.extraction == "trained" else 0
        return depth * (tokens * width + synthesis) + head + scales + copies
