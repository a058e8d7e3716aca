"""SPT: sensitivity-aware tuning, the values to train chosen by their gradients (He et al., 2023)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from vitgraft.core.shape import Shape, measure
from vitgraft.methods.base import (
    Calibration,
    Findings,
    Method,
    amount,
    check_idle,
    needed,
    not_negative,
    one_of,
    positive,
    probability,
)

if TYPE_CHECKING:
    from torch import Tensor

    from vitgraft.core.backbone import Backbone
    from vitgraft.core.graft import Graft
    from vitgraft.core.plan import Plan
    from vitgraft.core.sites import Site
    from vitgraft.search.allocation import Allocation, Rule

AUTO = (0.0025, 0.005, 0.0075, 0.01)
"""Budgets to choose from, as parts of the backbone's values: what the paper tried, 0.2 to 0.8 M of ViT-B/16."""

FILE = "pattern.json"
SCORES = ("gradient", "fisher", "magnitude", "random")
LOOKING = ("score", "images", "batch", "drop_path")
SPENDING = ("budget", "alpha", "beta", "sweep")
"""Fields of how gradients are taken, and of how a budget is spent."""

USELESS = {"fisher": ("batch",), **dict.fromkeys(("magnitude", "random"), ("images", "batch", "drop_path"))}
"""Fields that do nothing, by score."""


@dataclass(frozen=True)
class Spt(Method):
    """What both kinds of SPT share: scores of all values, a budget, and edits where the budget goes.

    The values that rank highest are tuned: a matrix that holds price / `alpha` of them by a module, a vector that
    holds length / `beta` of them whole, all others one by one; the class token always. `budget` limits the trained
    values, classifier excluded, and the most that the rule can spend within it is spent. With several, such as
    0.2M+0.4M, or `auto` (a quarter of a percent to one percent of the backbone), a model is trained for each, and
    the one with the best validation accuracy is chosen. `mask` is a file of published choices instead.

    `score` is gradient (of batches' mean losses, squared and summed), fisher (of single images), magnitude or
    random. Gradients are those of a fresh seeded classifier, over `images` training images, `batch` at a time;
    `drop_path` is stochastic depth while they are taken (published: 0.1). The file `sensitivity` has scores that
    were computed before. `sweep` published chooses among the 79 published thresholds, and may exceed the budget.

    Deviations: images are drawn by the seed instead of the first in the file; no drop path in training, no dropout
    unless asked; modules begin at zero, so that a fresh model is the frozen one; chosen entries of normalisations
    train, which the published code counts but leaves as they are; the budget is not exceeded.
    """

    merges: ClassVar[bool] = False
    source: ClassVar[str] = "He 2023"
    where: ClassVar[str] = "where gradients are largest"
    counts: ClassVar[Literal["exactly", "at most"]] = "at most"
    leaves: ClassVar[tuple[str, ...]] = (FILE,)
    module: ClassVar[str]

    budget: int | str = "0.4M"
    rank: int = 8
    alpha: float = 10.0
    beta: float = 5.0
    dropout: float = 0.0
    score: str = "gradient"
    images: int = 512
    batch: int = 32
    drop_path: float = 0.0
    sweep: str = "fine"
    sensitivity: str | None = None
    mask: str | None = None

    def looks(self) -> bool:
        return True

    def idle(self) -> dict[str, str]:
        if self.mask:
            return dict.fromkeys((*SPENDING, *LOOKING, "sensitivity"), f"mask={self.mask}")
        if self.sensitivity:
            return dict.fromkeys(LOOKING, f"sensitivity={self.sensitivity}")
        return dict.fromkeys(USELESS.get(self.score, ()), f"score={self.score}")

    def chooses(self) -> bool:
        return self.mask is None and self._asked() is None

    def find(self, backbone: "Backbone", classes: int, calibration: Calibration) -> "dict[str, Tensor]":
        self._check()
        check_idle(self)
        if self.mask:
            return self._read(self.mask, backbone).tensors()
        budgets = self._budgets(measure(backbone).parameters)

        def spend() -> "dict[str, Tensor]":
            found = self.spend(backbone, self.scores(backbone, classes, calibration), budgets)
            return {
                f"{budget}/{name}": value
                for budget, one in zip(budgets, found, strict=True)
                for name, value in one.tensors().items()
            }

        # Kept before anything trains on it: scores of another device may differ by rounding, and places with them.
        spent = calibration.once("places", spend)
        found = {
            budget: {
                name.partition("/")[2]: value for name, value in spent.items() if name.startswith(f"{budget}/")
            }
            for budget in budgets
        }
        if len(found) == 1:
            return found[budgets[0]]
        scores = {}
        for budget, one in found.items():
            plan = self.plan(backbone, classes, one)
            scores[budget] = calibration.score(calibration.fit(f"budget-{budget}", plan, self.recipe))
        return found[max(budgets, key=lambda budget: scores[budget])]

    def _read(self, mask: str, backbone: "Backbone") -> "Allocation":
        """The choices of a published file."""
        from vitgraft.search.allocation import candidates
        from vitgraft.search.published_masks import read_mask

        kinds = {kind.name: lambda rank, kind=kind: kind(rank=rank).rule() for kind in (SptLora, SptAdapter)}
        return read_mask(mask, candidates(backbone), self.rule(), _always(backbone), kinds).allocation

    def scores(self, backbone: "Backbone", classes: int, calibration: Calibration) -> "dict[str, Tensor]":
        """A score for each value of the backbone, by the parameter's name."""
        from vitgraft.search import sensitivity

        self._check()
        check_idle(self)
        if self.sensitivity:
            return dict(sensitivity.read(Path(self.sensitivity), backbone).scores)
        if self.score in ("magnitude", "random"):
            return sensitivity.without_data(backbone, self.score)
        from vitgraft.core.tuned import Tuned
        from vitgraft.methods.linear import Linear

        model = Tuned(backbone, Linear().plan(backbone, classes))
        batch = 1 if self.score == "fisher" else self.batch
        return calibration.squared_gradients(model, self.images, batch, self.drop_path)

    def spend(self, backbone: "Backbone", scores: "dict[str, Tensor]", budgets: list[int]) -> "list[Allocation]":
        """The allocation of each budget by these scores."""
        from vitgraft.search.allocation import candidates, scores_of, spend

        parts = scores_of(backbone, scores)
        published = self.sweep == "published"
        return spend(candidates(backbone), parts, self.rule(), budgets, _always(backbone), published)

    def allocation(self, backbone: "Backbone", findings: Findings) -> "Allocation":
        """The choice that `find` came to."""
        from vitgraft.search.allocation import candidates, restored

        return restored(candidates(backbone), findings, _always(backbone))

    def told(self, backbone: "Backbone", findings: Findings) -> list[str]:
        from vitgraft.search.pattern import drawn

        lines = drawn(self.allocation(backbone, findings), self.rule(), self.module, self._asked())
        if self.mask or self._asked() is not None:
            return lines
        tried = ", ".join(f"{budget:,}" for budget in self._budgets(measure(backbone).parameters))
        return [*lines, f"Chosen by validation accuracy among budgets of {tried}."]

    def files(self, backbone: "Backbone", findings: Findings) -> dict[str, str]:
        from vitgraft.methods.registry import spec_of
        from vitgraft.search.pattern import pattern

        found, rule = self.allocation(backbone, findings), self.rule()
        card = {"schema": 1, "backbone": backbone.name, "fingerprint": backbone.fingerprint()}
        card |= {"method": spec_of(self), "budget": self._asked(), "met": found.total(rule), "level": found.level}
        return {FILE: json.dumps({**card, "rows": pattern(found, rule)}, indent=1) + "\n"}

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.heads.linear import LinearHead

        self._check()
        allocation = self.allocation(backbone, needed(self, findings, f"budget={self.budget}"))
        grafts: dict[Site, tuple[Graft, ...]] = {}
        for site, numbers in allocation.by_site().items():
            found = self._grafts(backbone, site, allocation, numbers)
            if found:
                grafts[site] = found
        token = backbone.view.class_token
        unfreeze = frozenset() if token is None else frozenset({token})
        return Plan(LinearHead(backbone.width, classes), grafts, unfreeze=unfreeze)

    def formula(self, shape: Shape) -> int:
        if not self.mask:
            return max(self._budgets(shape.parameters))
        from vitgraft.search.published_masks import claimed

        return claimed(self.mask)

    def rule(self) -> "Rule":
        """How the budget is spent."""
        from vitgraft.search.allocation import Rule

        return Rule(self.price, self.alpha, self.beta)

    def price(self, outputs: int, inputs: int) -> int:
        """Values of a module on a matrix (D_out, D_in)."""
        raise NotImplementedError

    def build(self, place: str, outputs: int, inputs: int) -> "Graft":
        """A module on a place's matrix (D_out, D_in)."""
        raise NotImplementedError

    def _dropout(self, place: str) -> float:
        """Of a module's input: proj's has none (published)."""
        return 0.0 if place == "proj" else self.dropout

    def _grafts(
        self, backbone: "Backbone", site: "Site", allocation: "Allocation", numbers: list[int]
    ) -> "tuple[Graft, ...]":
        """The edits of one site, of whose weight and bias `numbers` are the candidates."""
        from vitgraft.grafts.sparse import NormDelta, SparseDelta

        chosen = {allocation.candidates[number].kind: _chosen(allocation, number) for number in numbers}
        weight, bias = chosen["weight"], chosen.get("bias")
        shape = allocation.candidates[numbers[0]].shape
        found: list[Graft] = []
        if weight is not None or bias is not None:
            if len(shape) == 2:
                found.append(SparseDelta((shape[0], shape[1]), weight, bias))
            else:
                found.append(NormDelta(backbone.rows(site)[0].module, weight, bias))
        if numbers[0] in allocation.structured:
            found.append(self.build(site[1], shape[0], shape[1]))
        return tuple(found)

    def _budgets(self, values: int) -> list[int]:
        """Budgets to choose from, for a backbone of so many values."""
        if self.budget == "auto":
            return [round(share * values) for share in AUTO]
        return [amount(part) for part in str(self.budget).split("+")]

    def _asked(self) -> int | None:
        """The budget, if it was just one."""
        several = self.mask or self.budget == "auto" or "+" in str(self.budget)
        return None if several else amount(self.budget)

    def _check(self) -> None:
        """Raise ConfigError for fields that make no sense."""
        positive(self, budget=min(self._budgets(1_000_000)), rank=self.rank, images=self.images, batch=self.batch)
        not_negative(self, alpha=self.alpha - 1, beta=self.beta - 1)
        probability(self, dropout=self.dropout, drop_path=self.drop_path)
        one_of(self, "score", self.score, SCORES)
        one_of(self, "sweep", self.sweep, ("fine", "published"))


@dataclass(frozen=True)
class SptLora(Spt):
    """SPT with LoRA as its module: W + B A of rank `rank`, at a scale of 1.

    Everything folds into a plain model: its inference costs nothing.
    """

    name: ClassVar[str] = "spt-lora"
    trains: ClassVar[str] = "LoRA, entries, vectors by budget"
    merges: ClassVar[bool] = True
    module: ClassVar[str] = "LoRA"

    def price(self, outputs: int, inputs: int) -> int:
        return self.rank * (outputs + inputs)

    def build(self, place: str, outputs: int, inputs: int) -> "Graft":
        from vitgraft.grafts.low_rank import LowRank

        return LowRank(inputs, outputs, self.rank, float(self.rank), self._dropout(place))


@dataclass(frozen=True)
class SptAdapter(Spt):
    """SPT with adapters as its module: z + W_u GELU(W_d z + b_d) + b_u on a place's output z, `rank` values wide.

    At proj the adapter stands beside the place and reads its input, as published.
    """

    name: ClassVar[str] = "spt-adapter"
    trains: ClassVar[str] = "adapters, entries, vectors by budget"
    module: ClassVar[str] = "adapter"

    def price(self, outputs: int, inputs: int) -> int:
        return 2 * self.rank * outputs + self.rank + outputs

    def build(self, place: str, outputs: int, inputs: int) -> "Graft":
        from vitgraft.grafts.bottleneck import Bottleneck

        beside = place == "proj" and inputs == outputs
        reads: Literal["input", "output"] = "input" if beside else "output"
        dropout = self._dropout(place)
        return Bottleneck(outputs, self.rank, reads, "gelu", dropout=dropout, drops="input")


def _always(backbone: "Backbone") -> int:
    """Values that are trained whatever the scores say: the class token."""
    token = backbone.view.class_token
    return 0 if token is None else backbone.parameter(token).numel()


def _chosen(allocation: "Allocation", number: int) -> "Tensor | None":
    """Positions that are trained one by one or whole, None for none."""
    import torch

    if number in allocation.whole:
        return torch.arange(allocation.candidates[number].size)
    return allocation.sparse.get(number)
