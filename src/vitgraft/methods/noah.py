"""NOAH: prompts, LoRA and adapters, how much of each in which block being searched for (Zhang et al., 2022)."""

import reprlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vitgraft.core.sites import JOINED
from vitgraft.errors import ConfigError, unknown
from vitgraft.methods.base import (
    Calibration,
    Findings,
    Method,
    Recipe,
    amount,
    check_idle,
    in_one_sequence,
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
FILE = "architecture.toml"

PUBLISHED = {"VISUAL_PROMPT_DIM": "prompt", "LORA_DIM": "lora", "ADAPTER_DIM": "adapter"}
"""What the published subnets call the kinds, under RETRAIN in their YAML files."""

SEARCHING = ("limit", "sizes", "depths", "supernet", "population", "generations", "parents")
"""Fields of the search."""

PREFIX, SUBNET = "PREFIX_DIM", "RETRAIN"
MOST = 10_000
"""A size above this is a slip."""


@dataclass(frozen=True)
class Noah(Method):
    """Prompts in front of blocks, LoRA on q, k, v, adapters behind mlps, each of a size of its own in each block.

    LoRA has one factor A for q, k and v, as published; with `share_a` false q and v have one each: as many values,
    and another function.

    One supernet holds all `sizes` at once (a smaller one's values are the first of a larger one's) and is trained
    for `supernet` times the run's epochs, a random architecture a step. Evolution then looks for the architecture
    with the best validation accuracy among those that train at most `limit` values: `generations` of `population`
    candidates, the best `parents` of all giving rise to the next. What is found is trained anew. A kind stands in
    the first part of the blocks: one of `depths` even steps up to all of them. `architecture` is a file that an
    earlier search left in its run's folder (architecture.toml), or a published subnet (YAML); it is trained
    directly.

    Deviations: grafts begin as those of vpt-deep, lora and adapter do here; prompts before block 0 are read (the
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
    leaves: ClassVar[tuple[str, ...]] = (FILE,)
    revision: ClassVar[int] = 3
    before: ClassVar[Mapping[str, Any]] = {"share_a": False}
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
    share_a: bool = True

    def looks(self) -> bool:
        return True

    def idle(self) -> dict[str, str]:
        return dict.fromkeys(SEARCHING, f"architecture={self.architecture}") if self.architecture else {}

    def chooses(self) -> bool:
        return self.architecture is None

    def find(self, backbone: "Backbone", classes: int, calibration: Calibration) -> "dict[str, Tensor]":
        import torch

        self._check()
        check_idle(self)
        in_one_sequence(self, backbone)
        if self.architecture:
            found = self._read(self.architecture, backbone.depth)
        else:
            found = self._search(backbone, classes, calibration)
        return {kind: torch.tensor(sizes) for kind, sizes in zip(KINDS, found, strict=True)}

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.grafts.elastic import combined
        from vitgraft.heads.linear import LinearHead

        self._check()
        in_one_sequence(self, backbone)
        candidate = _found(needed(self, findings, f"limit={self.limit}"))
        return Plan(LinearHead(backbone.width, classes), combined(self._parts(backbone, candidate)))

    def formula(self, shape: "Shape") -> int:
        lora = sum(sum(widths) for widths in self._widths(shape).values())

        def count(candidate: "Candidate") -> int:
            prompts, ranks, hidden = candidate
            adapters = sum(size * (2 * shape.width + 1) + shape.width for size in hidden if size)
            return sum(prompts) * shape.width + sum(ranks) * lora + adapters

        if self.architecture:
            return count(self._read(self.architecture, shape.depth))
        return min(amount(self.limit), count(((max(self._sizes()),) * shape.depth,) * len(KINDS)))

    def told(self, backbone: "Backbone", findings: Findings) -> list[str]:
        candidate = _found(findings)
        lines = [f"{'block':>8}  " + " ".join(f"{block:>3}" for block in range(backbone.depth))]
        lines += [
            f"{kind:>8}  " + " ".join(f"{size or '·':>3}" for size in sizes)
            for kind, sizes in zip(KINDS, candidate, strict=True)
        ]
        asked = f"; at most {amount(self.limit):,} were asked for"
        asked = f", as {self.architecture} says" if self.architecture else asked
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

        count = min(self.depths, 2 * depth)  # more than that give every depth, and no other
        steps = tuple(sorted({max(1, round(depth * step / count)) for step in range(1, count + 1)}))
        return [Dial(kind, depth, self._sizes(), steps) for kind in KINDS]

    def _parts(self, backbone: "Backbone", candidate: "Candidate") -> "list[list[dict[Site, Graft]]]":
        """The grafts of an architecture, by kind and block."""
        from vitgraft.core.shape import measure
        from vitgraft.grafts.bottleneck import Bottleneck
        from vitgraft.grafts.low_rank import LowRank
        from vitgraft.grafts.prompt import Prompt

        widths, width = self._widths(measure(backbone)), backbone.width
        prompts, loras, adapters = candidate
        found: list[list[dict[Site, Graft]]] = [[], [], []]
        standing = 0
        for block, (prompt, rank, hidden) in enumerate(zip(prompts, loras, adapters, strict=True)):
            at: list[dict[Site, Graft]] = [{}, {}, {}]
            if prompt:
                at[0][block, "in"] = Prompt(prompt, width, backbone.view.patch_values, standing, self.dropout)
                standing = prompt
            for place, sizes in widths.items() if rank else ():
                at[1][block, place] = LowRank(*sizes, rank, float(rank), self.dropout)
            if hidden:
                at[2][block, "mlp"] = Bottleneck(width, hidden, "output", "quick_gelu", dropout=self.dropout)
            for kind, one in zip(found, at, strict=True):
                kind.append(one)
        return found

    def _widths(self, shape: "Shape") -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each place of LoRA."""
        from vitgraft.core.shape import joined

        return {JOINED: joined(shape)} if self.share_a else {place: shape.widths[place] for place in ("q", "v")}

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

    def _read(self, file: str, depth: int) -> "Candidate":
        """The architecture in a file, for a backbone of so many blocks. Raises ConfigError."""
        path = Path(file)
        table = _table(path)
        for key in table:
            if key not in KINDS:
                raise ConfigError(f"'{path}': {unknown('kind of graft', str(key), KINDS)}")
        sizes = [table.get(kind, [0] * depth) for kind in KINDS]
        for kind, given in zip(KINDS, sizes, strict=True):
            whole = isinstance(given, list) and all(type(size) is int and 0 <= size <= MOST for size in given)
            if not whole or len(given) != depth:
                raise ConfigError(
                    f"'{path}': {kind} = {reprlib.repr(given)} must be {depth} sizes, one for each block of the "
                    "backbone, 0 for none."
                )
        if not any(map(any, sizes)):
            raise ConfigError(f"'{path}' has no size above 0; method linear trains a classifier alone.")
        return tuple(map(tuple, sizes))


def _table(path: Path) -> dict[str, Any]:
    """Sizes by kind from a file of ours (TOML) or a published one (YAML): what it is, its content says."""
    import yaml

    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{path}' is no architecture that can be read ({error}).") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason: Exception = error
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        found, reason = None, error if path.suffix in (".yaml", ".yml") else reason
    if not isinstance(found, dict):
        raise ConfigError(f"'{path}' is no architecture that can be read ({reason}).")
    return _published(path, found)


def _published(path: Path, found: Mapping[Any, Any]) -> dict[str, Any]:
    """Sizes by our names for the kinds, from a published subnet."""
    subnet = found.get(SUBNET, found)
    if not isinstance(subnet, dict) or not subnet.keys() & {*PUBLISHED, *KINDS}:
        space = " It is a search space: noah:sizes=...,depths=... searches one." if "SEARCH_SPACE" in found else ""
        raise ConfigError(
            f"'{path}' is no subnet: it has no {SUBNET} with {', '.join(PUBLISHED)}, each one size a block.{space}"
        )
    prefix = subnet.get(PREFIX)
    if prefix and (not isinstance(prefix, list) or any(prefix)):
        raise ConfigError(
            f"'{path}': {PREFIX} = {reprlib.repr(prefix)}, and there are no prefixes to keys and values here."
        )
    return {PUBLISHED.get(key, str(key)): sizes for key, sizes in subnet.items() if key != PREFIX}


def _found(findings: Findings) -> "Candidate":
    return tuple(tuple(findings[kind].tolist()) for kind in KINDS)
