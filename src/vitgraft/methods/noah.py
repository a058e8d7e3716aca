"""NOAH: prompts, LoRA and adapters, how much of each in which block being searched for (Zhang et al., 2022)."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from vitgraft.errors import ConfigError, unknown
from vitgraft.methods.base import (
    Calibration,
    Findings,
    Method,
    Recipe,
    amount,
    needed,
    positive,
    probability,
)

if TYPE_CHECKING:
    from torch import Tensor

    from vitgraft.core.backbone import Backbone
    from vitgraft.core.graft import Graft
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape
    from vitgraft.core.sites import Site
    from vitgraft.search.evolution import Candidate, Dial

KINDS = ("prompt", "lora", "adapter")
LORA_PLACES = ("q", "v")
FILE = "architecture.toml"


@dataclass(frozen=True)
class Noah(Method):
    """Prompts in front of blocks, LoRA on q and v, adapters behind mlps, each of a size of its own in each block.

    One supernet holds all `sizes` at once (a smaller one's values are the first of a larger one's) and is trained
    for `supernet` times the run's epochs, a random architecture a step. Evolution then looks for the architecture
    with the best validation accuracy among those that train at most `limit` values: `generations` of `population`
    candidates, the best `parents` of all giving rise to the next. What is found is trained anew. A kind stands in
    the first part of the blocks: one of `depths` even steps up to all of them. `architecture` is a file that an
    earlier search left in its run's folder (architecture.toml); it is trained directly.

    Deviations: grafts begin as those of vpt-deep, lora and adapter do here; LoRA has a factor A of its own for q
    and for v (as many values as the published one for the fused qkv); prompts before block 0 are read (the
    published ones are replaced before that, and counted all the same); a mutation draws blocks' sizes anew, too,
    at a rate of 0.2 (published: only the depth changes); random candidates are drawn more often where a low limit
    allows few; the search never sees images that are trained on, and
    the validation images that it chooses by are not trained on later.
    """

    name: ClassVar[str] = "noah"
    trains: ClassVar[str] = "prompts, LoRA, adapters by search"
    where: ClassVar[str] = "where a search puts them"
    source: ClassVar[str] = "Zhang 2022"
    merges: ClassVar[bool] = False
    fresh: ClassVar[bool] = False
    counts: ClassVar[Literal["exactly", "at most"]] = "at most"
    revision: ClassVar[int] = 2
    recipe: ClassVar[Recipe] = Recipe()

    limit: int | str = "0.64M"
    sizes: str = "1+5+10"
    depths: int = 4
    supernet: int = 5
    population: int = 50
    generations: int = 15
    parents: int = 10
    dropout: float = 0.1
    architecture: str | None = None

    def looks(self) -> bool:
        return True

    def chooses(self) -> bool:
        return self.architecture is None

    def find(self, backbone: "Backbone", classes: int, calibration: Calibration) -> "dict[str, Tensor]":
        import torch

        self._check()
        found = self._read(backbone) if self.architecture else self._search(backbone, classes, calibration)
        return {kind: torch.tensor(sizes) for kind, sizes in zip(KINDS, found, strict=True)}

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.grafts.elastic import combined
        from vitgraft.heads.linear import LinearHead

        self._check()
        candidate = _found(needed(self, findings, f"limit={self.limit}"))
        return Plan(LinearHead(backbone.width, classes), combined(self._parts(backbone, candidate)))

    def formula(self, shape: "Shape") -> int:
        most = max(self._sizes())
        lora = most * sum(sum(shape.widths[place]) for place in LORA_PLACES)
        adapter = most * (2 * shape.width + 1) + shape.width
        return min(amount(self.limit), shape.depth * (lora + adapter + most * shape.width))

    def told(self, backbone: "Backbone", findings: Findings) -> list[str]:
        candidate = _found(findings)
        lines = [f"{'block':>8}  " + " ".join(f"{block:>3}" for block in range(backbone.depth))]
        lines += [
            f"{kind:>8}  " + " ".join(f"{size or '·':>3}" for size in sizes)
            for kind, sizes in zip(KINDS, candidate, strict=True)
        ]
        asked = "" if self.architecture else f"; at most {amount(self.limit):,} were asked for"
        return [*lines, f"{self._count(backbone, candidate):,} values{asked}."]

    def files(self, backbone: "Backbone", findings: Findings) -> dict[str, str]:
        candidate = _found(findings)
        sizes = [f"{kind} = {list(sizes)}" for kind, sizes in zip(KINDS, candidate, strict=True)]
        count = f"# {self._count(backbone, candidate):,} trained values on {backbone.name}; a size for each block"
        return {FILE: "\n".join([count, *sizes, ""])}

    def _search(self, backbone: "Backbone", classes: int, calibration: Calibration) -> "Candidate":
        from vitgraft.core.plan import Plan
        from vitgraft.grafts.elastic import Supernet
        from vitgraft.heads.linear import LinearHead
        from vitgraft.search.evolution import Evolution

        dials = self._dials(backbone.depth)
        largest = tuple((max(dial.sizes),) * dial.positions for dial in dials)
        net = Supernet(dials, self._parts(backbone, largest))
        limit, least = amount(self.limit), net.count(tuple(dial.least for dial in dials))
        if limit < least:
            raise ConfigError(f"noah: limit={self.limit} is below {least:,}, the fewest values of these sizes.")
        plan = Plan(LinearHead(backbone.width, classes), net.grafts, draw=net.draw)
        model = calibration.fit("supernet", plan, self.recipe, rate=0.5, longer=self.supernet)
        evolution = Evolution(self.population, self.generations, self.parents)
        return calibration.search("search", model, net, evolution, lambda one: net.count(one) <= limit)

    def _dials(self, depth: int) -> "list[Dial]":
        from vitgraft.search.evolution import Dial

        steps = tuple(sorted({max(1, round(depth * step / self.depths)) for step in range(1, self.depths + 1)}))
        return [Dial(kind, depth, self._sizes(), steps) for kind in KINDS]

    def _parts(self, backbone: "Backbone", candidate: "Candidate") -> "list[list[dict[Site, Graft]]]":
        """The grafts of an architecture, by kind and block."""
        from vitgraft.core.shape import measure
        from vitgraft.grafts.bottleneck import Bottleneck
        from vitgraft.grafts.low_rank import LowRank
        from vitgraft.grafts.prompt import Prompt

        widths, width = measure(backbone).widths, backbone.width
        prompts, loras, adapters = candidate
        found: list[list[dict[Site, Graft]]] = [[], [], []]
        standing = 0
        for block, (prompt, rank, hidden) in enumerate(zip(prompts, loras, adapters, strict=True)):
            at: list[dict[Site, Graft]] = [{}, {}, {}]
            if prompt:
                at[0][block, "in"] = Prompt(prompt, width, backbone.view.patch_values, standing, self.dropout)
                standing = prompt
            for place in LORA_PLACES if rank else ():
                at[1][block, place] = LowRank(*widths[place], rank, float(rank), self.dropout)
            if hidden:
                at[2][block, "mlp"] = Bottleneck(width, hidden, "output", "quick_gelu", dropout=self.dropout)
            for kind, one in zip(found, at, strict=True):
                kind.append(one)
        return found

    def _count(self, backbone: "Backbone", candidate: "Candidate") -> int:
        from vitgraft.grafts.elastic import combined

        grafts = combined(self._parts(backbone, candidate)).values()
        return sum(value.numel() for some in grafts for one in some for value in one.parameters())

    def _sizes(self) -> tuple[int, ...]:
        try:
            found = tuple(sorted({int(part) for part in self.sizes.split("+")}))
        except ValueError:
            found = ()
        if not found or found[0] < 1:
            raise ConfigError(f"noah: sizes={self.sizes!r} are no sizes. Write whole numbers, such as 1+5+10.")
        return found

    def _check(self) -> None:
        """Raise ConfigError for fields that make no sense."""
        whole = {key: getattr(self, key) for key in ("depths", "supernet", "population", "generations", "parents")}
        positive(self, limit=amount(self.limit), **whole)
        probability(self, dropout=self.dropout)
        self._sizes()

    def _read(self, backbone: "Backbone") -> "Candidate":
        """The architecture in the file."""
        assert self.architecture is not None
        path = Path(self.architecture)
        try:
            table = tomllib.loads(path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"'{path}' is no architecture that can be read ({error}).") from None
        for key in table:
            if key not in KINDS:
                raise ConfigError(f"'{path}': {unknown('kind of graft', key, KINDS)}")
        sizes = [table.get(kind, [0] * backbone.depth) for kind in KINDS]
        for kind, given in zip(KINDS, sizes, strict=True):
            whole = isinstance(given, list) and all(type(size) is int and size >= 0 for size in given)
            if not whole or len(given) != backbone.depth:
                raise ConfigError(
                    f"'{path}': {kind} = {given} must be {backbone.depth} sizes, one for each block of "
                    f"{backbone.name}, 0 for none."
                )
        if not any(map(any, sizes)):
            raise ConfigError(f"'{path}' has no size above 0; method linear trains a classifier alone.")
        return tuple(map(tuple, sizes))


def _found(findings: Findings) -> "Candidate":
    return tuple(tuple(findings[kind].tolist()) for kind in KINDS)
