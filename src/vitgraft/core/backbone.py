"""Backbone: a library's own model, frozen, and the one forward pass of this project: the walk.

The walk goes through stages: the stem (block -1), the L blocks, and the tail (block L). At every named site it
lets grafts edit and taps read. Stages that no trained value reaches run without autograd.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint as run_twice

from vitgraft.core.block import Visitor
from vitgraft.core.graft import Graft
from vitgraft.core.model_view import ModelView
from vitgraft.core.rows import Rows
from vitgraft.core.sites import AFTER_ATTENTION, PLACES, STEM, Recompute, Site, Tap
from vitgraft.errors import BackboneError, ConfigError, unknown
from vitgraft.kinds import checked

PROBE_TOLERANCE = 1e-4
"""The largest difference between the walk and the library's own pass, relative to the features' size."""


@dataclass(frozen=True)
class Edits:
    """What is trained inside a backbone: grafts by site, and values that stand in for its parameters."""

    grafts: Mapping[Site, Sequence[Graft]] = field(default_factory=dict)
    values: Mapping[str, Tensor] = field(default_factory=dict)


NO_EDITS = Edits()

Wanted = dict[int, dict[str, list[Tap]]]
"""Taps by block and place; it gives an empty list where there is none."""


@dataclass(frozen=True)
class Features:
    """What a walk returns: tokens (B, N, D) and pooled (B, D) after the final norm, and the taps' readings.

    Prompts are not among the tokens. tokens is empty and pooled is meaningless only where a walk says so. Readings
    that come from a cache have the type that it stores, perhaps of 16 bits: a head converts what it computes with.
    """

    tokens: Tensor
    pooled: Tensor
    taps: Mapping[Tap, Tensor]


class Backbone(nn.Module):
    """A frozen vision transformer that many tuned models can share. It is never written to.

    Raises:
        BackboneError: the walk does not reproduce the library's own forward pass on a probe image.
    """

    @checked
    def __init__(self, view: ModelView, name: str, config: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.model = view.model.eval().requires_grad_(False)
        # A plain tuple: the views own no tensors, and must not appear in the state dict.
        self._view = (view,)
        self.name = name
        self.config = dict(config or {})
        self.known_as: str | None = None
        self._verify()

    @property
    def view(self) -> ModelView:
        return self._view[0]

    @property
    def depth(self) -> int:
        """L, the number of blocks."""
        return len(self.view.blocks)

    @property
    def width(self) -> int:
        """D, the size of a token."""
        return self.view.width

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type that it computes in, but for autocast."""
        return next(self.model.parameters()).dtype

    @cached_property
    def _homes(self) -> dict[str, list[tuple[int, str]]]:
        """For each parameter name of the model: the stages that hold it, and its name there."""
        names = {id(value): name for name, value in self.model.named_parameters()}
        homes: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for block, stage in enumerate((self.view.stem, *self.view.blocks, self.view.tail), start=STEM):
            for local, value in stage.own_parameters().items():
                homes[names[id(value)]].append((block, local))
        return dict(homes)

    def parameter_names(self, block: int | None = None) -> list[str]:
        """Names of the backbone's parameters (head excluded); of those that one stage has alone, if given."""
        homes = self._homes
        order = [name for name, _ in self.model.named_parameters() if name in homes]
        return [name for name in order if block is None or {home for home, _ in homes[name]} == {block}]

    def bias_names(self) -> list[str]:
        """Names of every parameter that its module calls `bias`, or that a linear place has for one."""
        modules = [*self.model.modules()]
        found = {id(bias) for one in modules if isinstance(bias := getattr(one, "bias", None), nn.Parameter)}
        rows = [rows for site in self.sites() for rows in self.rows(site)]
        found |= {id(one.bias.whole) for one in rows if one.bias is not None}
        return [name for name in self.parameter_names() if id(self.model.get_parameter(name)) in found]

    def final_norm_names(self) -> list[str]:
        """Names of the final normalisation's parameters."""
        own = {id(value) for rows in self.rows((self.depth, "norm")) for value in rows.module.parameters()}
        return [name for name, value in self.model.named_parameters() if id(value) in own]

    def parameter(self, name: str) -> nn.Parameter:
        """One parameter by its name in the library model. Raises ConfigError for a name that is none."""
        if name not in self._homes:
            raise ConfigError(unknown("backbone parameter", name, self._homes))
        return self.model.get_parameter(name)

    def sites(self) -> list[Site]:
        """Every site of this backbone."""
        inner = [(block, place) for block in range(self.depth) for place in PLACES]
        return [(STEM, "patch"), *inner, (self.depth, "norm"), (self.depth, "pooled")]

    def rows(self, site: Site) -> tuple[Rows, ...]:
        """The library modules' rows behind a site; empty if it is no module of its own."""
        block, place = site
        inside = 0 <= block < self.depth
        return self.view.blocks[block].rows(place) if inside else self.view.rows(place)

    def first_trained(self, edits: Edits) -> int:
        """The first block that a trained value reaches: -1 the stem, L the tail, L + 1 none at all."""
        found = [block for block, _ in edits.grafts]
        found += [min(block for block, _ in self._homes[name]) for name in edits.values]
        return min(found, default=self.depth + 1)

    def forward(
        self,
        images: Tensor | None,
        edits: Edits = NO_EDITS,
        taps: Iterable[Tap] = (),
        start: tuple[int, Tensor] | None = None,
        recompute: Recompute = "none",
        tokens: bool = True,
    ) -> Features:
        """THE walk: the only forward pass.

        images (B, 3, height, width) are preprocessed; `start` = (block, x) begins with the input x (B, N, D)
        of a block instead. `recompute` runs parts of each block twice and keeps only what they start from.
        Stages before the first trained value run without autograd. Unless `tokens` are wanted, the last block
        computes those alone that the pooled vector depends on.
        """
        wanted = self._taps_by_stage(taps)
        begin, x = (STEM, images) if start is None else start
        assert x is not None, "a walk needs images or a start"
        only = None if tokens else self._read_after(self.depth - 1, edits, wanted)
        x, readings = self._climb(x, range(begin, self.depth), edits, wanted, only, recompute)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.depth >= self.first_trained(edits)):
            visit = Visitor(self.depth, edits.grafts, wanted[self.depth])
            (normed, pooled), read = self._run(self.view.tail, x, visit, edits)
        return Features(normed, pooled, {**readings, **read})

    @torch.no_grad()
    def read(self, images: Tensor, taps: Iterable[Tap]) -> dict[Tap, Tensor]:
        """Readings of the plain model on images (B, 3, height, width), walked no further than they need."""
        chosen = tuple(taps)
        end = max(tap.block for tap in chosen)
        if end == self.depth:
            return dict(self(images, taps=chosen, tokens=False).taps)
        wanted = self._taps_by_stage(chosen)
        only = self._read_after(end, NO_EDITS, wanted)
        return self._climb(images, range(STEM, end + 1), NO_EDITS, wanted, only, "none")[1]

    def _climb(
        self,
        x: Tensor,
        blocks: range,
        edits: Edits,
        wanted: Wanted,
        only: int | None,
        recompute: Recompute,
    ) -> tuple[Tensor, dict[Tap, Tensor]]:
        """x after some stages, and what was read there; `only` as many tokens leave the last of them."""
        first, count = self.first_trained(edits), x.shape[1]
        readings: dict[Tap, Tensor] = {}
        for block in blocks:
            stage = self.view.stem if block == STEM else self.view.blocks[block]
            with torch.set_grad_enabled(torch.is_grad_enabled() and block >= first):
                twice = recompute if block != STEM and torch.is_grad_enabled() else "none"
                visit = Visitor(block, edits.grafts, wanted[block], only=only if block == blocks[-1] else None)
                x, read = self._run_stage(stage, x, visit, edits, twice)
            readings.update(read)
            count = x.shape[1] if block == STEM else count
        return x[:, :count], readings  # prompts stand last

    def fingerprint(self) -> str:
        """A digest of every weight of the backbone (head excluded), whatever its device.

        A twin in another floating-point type has that of its original (`twins`).
        """
        if self.known_as is not None:
            return self.known_as
        digest = hashlib.sha256()
        for name in self.parameter_names():
            value = self.model.get_parameter(name).detach().cpu().contiguous()
            digest.update(f"{name}:{tuple(value.shape)}:{value.dtype}".encode())
            digest.update(value.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def train(self, mode: bool = True) -> "Backbone":
        """A backbone stays in eval mode: nothing in it is trained and nothing in it is random."""
        super().train(False)
        return self

    def _read_after(self, block: int, edits: Edits, wanted: Wanted) -> int | None:
        """How many leading tokens of a block's output anything reads, if no more than pooling does; else None.

        Behind a block that is not the last one nothing is read at all, and one token is as few as there can be.
        """
        tapped = any(place in wanted[block] for place in AFTER_ATTENTION) or "norm" in wanted[self.depth]
        after = [graft for place in AFTER_ATTENTION for graft in edits.grafts.get((block, place), ())]
        if tapped or not self.view.one_sequence or not all(graft.per_token for graft in after):
            return None
        return self.view.tail.reads if block == self.depth - 1 else 1

    def _run_stage(
        self, stage: nn.Module, x: Tensor, at: Visitor, edits: Edits, twice: Recompute
    ) -> tuple[Any, dict[Tap, Tensor]]:
        if twice != "mlp":
            return self._run(stage, x, at, edits, twice == "block")
        (x, middle), first = self._run(stage, x, at, edits, False, "attention")
        x, second = self._run(stage, x, at, edits, True, "mlp", middle)
        return x, {**first, **second}

    def _run(
        self, stage: nn.Module, x: Tensor, at: Visitor, edits: Edits, twice: bool = False, *part: Any
    ) -> tuple[Any, Any]:
        values = self._values_of(at.block, edits.values)

        def run(x: Tensor, *part: Any) -> tuple[Any, dict[Tap, Tensor]]:
            visit = replace(at, readings={})
            y = functional_call(stage, values, (x, visit, *part)) if values else stage(x, visit, *part)
            return y, visit.readings

        return run_twice(run, x, *part, use_reentrant=False) if twice else run(x, *part)

    def _values_of(self, block: int, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The values that stand in one stage, by their names there."""
        if not values:
            return {}
        return {
            local: value for name, value in values.items() for home, local in self._homes[name] if home == block
        }

    def _taps_by_stage(self, taps: Iterable[Tap]) -> Wanted:
        wanted: Wanted = defaultdict(lambda: defaultdict(list))
        known = set(self.sites())
        for tap in taps:
            if (tap.block, tap.place) not in known:
                raise ConfigError(
                    f"A tap at block {tap.block}, place {tap.place!r}: there is no such site. Blocks are 0 to "
                    f"{self.depth - 1} with places {', '.join(PLACES)}; block {self.depth} has norm and pooled."
                )
            wanted[tap.block][tap.place].append(tap)
        return wanted

    def _verify(self) -> None:
        """Raise BackboneError unless the walk and the library agree on a probe image."""
        if self.device.type == "meta":
            return
        height, width = self.view.image_size
        parameter = next(self.model.parameters())
        generator = torch.Generator().manual_seed(0)
        probe = torch.randn(2, self.view.channels, height, width, generator=generator).to(parameter)
        with torch.no_grad():
            ours, theirs = self(probe).pooled.float(), self.view.library_pass(probe).float()
        gap = float((ours - theirs).abs().max()) if ours.shape == theirs.shape else float("inf")
        if not gap <= PROBE_TOLERANCE * max(1.0, float(theirs.abs().max())):
            raise BackboneError(
                f"{self.name}: the walk through its blocks differs from {type(self.model).__name__}'s own forward "
                f"pass by {gap:.2g} on a probe image, so grafts would stand at the wrong places. This library "
                "version or model variant is not supported; please report it with the model's name."
            )
