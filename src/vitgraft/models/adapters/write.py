"""A low-rank graft as an adapter folder that PEFT loads: `adapter_model.safetensors`, `adapter_config.json`.

PEFT adapts whole modules: what is edited at q and at v of one `qkv` becomes one pair of factors there, A stacked
and B in blocks. The classifier is one of PEFT's `modules_to_save`. What else a method changes, no such file can
say.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from vitgraft.atomic import write_atomically
from vitgraft.backbones.called import never_called, owner
from vitgraft.core.backbone import Edits
from vitgraft.core.graft import Graft
from vitgraft.core.merge import merged
from vitgraft.core.sites import Site
from vitgraft.errors import ArtefactError, NotFoldable, option
from vitgraft.grafts.low_rank import LowRank
from vitgraft.methods import spec_of
from vitgraft.models.adapters.names import Names, Slot, names_in, names_of
from vitgraft.models.model import Model

CONFIG, TENSORS, FACTS = "adapter_config.json", "adapter_model.safetensors", "vitgraft.json"
PREFIX = "base_model.model."
"""What PEFT puts before the names of the model that it has wrapped."""


@dataclass(frozen=True)
class Adapter:
    """A written adapter: its folder, how many linear maps it adapts, their ranks, and the base that it is for.

    `base` is the file of a base model that was written with it, None if the plain one serves; of a class `kind`.
    """

    folder: Path
    modules: int
    ranks: tuple[int, ...]
    base: Path | None
    kind: type[nn.Module]


@dataclass(frozen=True)
class _Factors:
    """One pair of factors of a module: y + scale * B A x, of rank r."""

    down: Tensor
    up: Tensor
    scale: float
    dropout: float


def write(model: Model, folder: Path, base: Path | None = None, onto: nn.Module | None = None) -> Adapter:
    """Write the low-rank part of a model's graft, and its classifier, as an adapter of the plain library model.

    `onto` is a transformers model of the same weights, whose names are then taken. What is not low-rank goes
    into the weights of a `base` model, a file of its own, on which the adapter gives the same logits; without one
    there must be none of it.

    Raises:
        ArtefactError: nothing that is low-rank, something else, a head that is no linear classifier of the pooled
            vector, or a module that PEFT would adapt and the library never calls.
    """
    low, rest = _parted(model)
    classifier = model.tuned.head.plain_classifier()
    if classifier is None:
        raise _refused(model, f"its head is a {type(model.tuned.head).__name__}, which reads other features")
    if rest.grafts or rest.values:
        _check_rest(model, rest, base, onto)
    names = _names(model, onto, *classifier)
    if onto is None and (
        unheard := never_called(model.backbone, dict.fromkeys(names.own[slot.name] for slot in _slots(low, names)))
    ):
        raise _refused(
            model,
            f"{owner(model.backbone.model, unheard[0])} computes with the weight of {unheard[0]} and never calls "
            "it, so that PEFT's layer there would do nothing without a word",
        )
    factors = _by_module(low, names)
    tensors: dict[str, Tensor] = {}
    for name, one in factors.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = one.down
        tensors[f"{PREFIX}{name}.lora_B.weight"] = one.up
    tensors |= {f"{PREFIX}{name}": value for name, value in names.heads.items()}
    heads = tuple(dict.fromkeys(name.rpartition(".")[0] for name in names.heads))
    config = _config(model, factors, heads, onto)
    folder.mkdir(parents=True, exist_ok=True)
    if base is not None:
        plain = merged(model.backbone, rest, model.tuned.head).state_dict()
        write_atomically(base, safetensors.torch.save(_plain(plain), {"format": "pt"}))
    write_atomically(folder / TENSORS, safetensors.torch.save(_plain(tensors), {"format": "pt"}))
    write_atomically(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())
    facts = _facts(model, base if rest.grafts or rest.values else None)
    write_atomically(folder / FACTS, (json.dumps(facts, indent=2) + "\n").encode())
    ranks = tuple(sorted({len(one.down) for one in factors.values()}))
    return Adapter(folder, len(factors), ranks, base, names.kind)


def _names(model: Model, onto: nn.Module | None, weight: Tensor, bias: Tensor | None) -> Names:
    if onto is not None:
        return names_in(onto, weight, bias)
    try:
        return names_of(model.backbone, weight, bias)
    except NotFoldable as error:
        raise _refused(model, str(error).rstrip(".")) from None


def _facts(model: Model, base: Path | None) -> dict[str, Any]:
    """What vitgraft reads again, and PEFT does not look at; `base` is the file of weights that are others."""
    plain = {"name": model.backbone.name, "fingerprint": model.backbone.fingerprint()}
    return {
        "class_names": list(model.class_names),
        "preprocessing": model.preprocessing.to_json(),
        "temperature": model.divisor,
        "target": model.target.to_json(),
        "method": spec_of(model.method),
        "backbone": plain if base is None else {"name": model.backbone.name, "file": base.name},
    }


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().float().contiguous().clone() for name, value in tensors.items()}


def _refused(model: Model, why: str) -> ArtefactError:
    return ArtefactError(
        f"{spec_of(model.method)} cannot be said in PEFT's format, which holds low-rank factors of linear maps "
        f"and a classifier: {why}. Export it as a program (vitgraft export --to onnx), or keep the graft as it is."
    )


def _parted(model: Model) -> tuple[dict[Site, list[LowRank]], Edits]:
    """The low-rank grafts by site, and all other edits."""
    edits = model.tuned.edits()
    low: dict[Site, list[LowRank]] = defaultdict(list)
    rest: dict[Site, list[Graft]] = defaultdict(list)
    for site, grafts in edits.grafts.items():
        for graft in grafts:
            if isinstance(graft, LowRank):
                low[site].append(graft)
            else:
                rest[site].append(graft)
    if not low:
        if not rest and not edits.values:
            raise _refused(model, "it trains a classifier alone" if _linear(model) else "its side reads features")
        raise _refused(model, f"it trains {_told(Edits(rest, edits.values))}, and nothing that is low-rank")
    return dict(low), Edits(dict(rest), edits.values)


def _linear(model: Model) -> bool:
    return model.tuned.head.plain_classifier() is not None


def _told(rest: Edits) -> str:
    """Edits in words."""
    kinds = Counter(type(graft).__name__ for grafts in rest.grafts.values() for graft in grafts)
    parts = [f"{count} grafts of the kind {kind}" for kind, count in kinds.items()]
    if rest.values:
        parts.append(f"{len(rest.values)} of the backbone's own tensors, such as {next(iter(rest.values))}")
    return " and ".join(parts)


def _check_rest(model: Model, rest: Edits, base: Path | None, onto: nn.Module | None) -> None:
    """Raise ArtefactError unless what is not low-rank has a place."""
    if onto is not None:
        raise _refused(model, f"it also changes {_told(rest)}, which the model that it is for lacks")
    if base is None:
        raise ArtefactError(
            f"{spec_of(model.method)} also changes {_told(rest)}, which PEFT's format cannot say. Write these "
            "into the weights of a base model, for which the adapter is then: "
            f"{option('base', 'base.safetensors')}."
        )
    try:
        merged(model.backbone, rest, model.tuned.head)
    except NotFoldable as error:
        raise _refused(model, f"it also changes {_told(rest)}. {error}".rstrip(".")) from None


def _slots(low: Mapping[Site, Iterable[LowRank]], names: Names) -> list[Slot]:
    """The slots that are edited. Raises ArtefactError for a place that a model does not have."""
    missing = [site for site in low if site not in names.slots]
    if missing:
        block, place = missing[0]
        raise ArtefactError(
            f"There is an edit at block {block}, place {place!r}, and the model that the adapter is for has no "
            "linear map there. Use a model of the same weights."
        )
    return [slot for site in low for slot in names.slots[site]]


def _by_module(low: Mapping[Site, Iterable[LowRank]], names: Names) -> dict[str, _Factors]:
    """The factors of each module: those of its rows as one pair, at the scale of the first."""
    _slots(low, names)
    parts: dict[str, list[tuple[Slot, LowRank, Tensor]]] = defaultdict(list)
    for site, grafts in sorted(low.items()):
        for graft in grafts:
            start = 0
            for slot in names.slots[site]:
                stop = start + slot.stop - slot.start
                parts[slot.name].append((slot, graft, graft.up.detach()[start:stop]))
                start = stop
    found: dict[str, _Factors] = {}
    for name, some in parts.items():
        (first, graft, _), scale = some[0], some[0][1].scale
        down = torch.cat([one.down.detach() for _, one, _ in some])
        up = down.new_zeros(first.outputs, len(down))
        column = 0
        for slot, one, rows in some:
            up[slot.start : slot.stop, column : column + rows.shape[1]] = rows * (one.scale / scale)
            column += rows.shape[1]
        found[name] = _Factors(down, up, scale, graft.dropout.p)
    return found


def _config(
    model: Model, factors: Mapping[str, _Factors], heads: tuple[str, ...], onto: nn.Module | None
) -> dict[str, Any]:
    """PEFT's LoraConfig: the commonest rank for all, the others by name."""
    ranks = {name: len(one.down) for name, one in factors.items()}
    alphas = {name: one.scale * ranks[name] for name, one in factors.items()}
    rank = Counter(ranks.values()).most_common(1)[0][0]
    alpha = next(alphas[name] for name in factors if ranks[name] == rank)
    target = model.backbone.model if onto is None else onto
    return {
        "peft_type": "LORA",
        "task_type": None,
        "inference_mode": True,
        "base_model_name_or_path": model.backbone.name if onto is None else getattr(onto, "name_or_path", None),
        "auto_mapping": {"base_model_class": type(target).__name__, "parent_library": type(target).__module__},
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": max(one.dropout for one in factors.values()),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_rslora": False,
        "target_modules": list(factors),
        "rank_pattern": {name: one for name, one in ranks.items() if one != rank},
        "alpha_pattern": {name: one for name, one in alphas.items() if one != alpha},
        "modules_to_save": list(heads),
    }
