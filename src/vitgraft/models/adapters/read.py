"""An adapter folder of PEFT as a graft: its LoRA on our sites, its classifier as our head.

Ours is LoRA of one rank and scale at the same places of each block. An adapter of several ranks, scales or places
is filled up with zeros to that, which changes nothing that it computes.
"""

import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vitgraft.backbones.hub import NAMING
from vitgraft.backbones.transformers_names import place_of
from vitgraft.core.backbone import Backbone
from vitgraft.core.sites import JOINED, LINEAR_PLACES, QKV, Site
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.errors import ArtefactError, Told
from vitgraft.methods.lora import LoRA
from vitgraft.models.adapters.names import Names, names_of
from vitgraft.models.adapters.write import CONFIG, FACTS, PREFIX, TENSORS
from vitgraft.models.model import Model, graft
from vitgraft.train.targets import from_json

FACTOR = re.compile(rf"{re.escape(PREFIX)}(.+)\.lora_(A|B)\.weight")
OTHER_KINDS = ("use_dora", "use_bdlora", "use_qalora", "alora_invocation_tokens", "arrow_config", "velora_config")
"""Keys of PEFT's configuration under which its LoRA is another function."""


@dataclass(frozen=True)
class _Pair:
    """The change scale * B A of one place."""

    down: Tensor
    up: Tensor
    scale: float


def is_adapter(path: Path) -> bool:
    """Whether a folder holds what PEFT saves."""
    return (path / CONFIG).is_file()


def read(
    folder: Path,
    backbone: Backbone,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
) -> Model:
    """A LoRA adapter that PEFT has saved as a model on the same weights, by timm's names or transformers'.

    `classes` are label names in order: by default those that the folder tells if vitgraft wrote it, else numbers.
    An adapter without a classifier gets a new one, which is told.

    Raises:
        ArtefactError: no adapter, one of another kind than LoRA on the blocks' linear maps, or of other weights.
    """
    config, tensors, facts = _config(folder), _tensors(folder), _facts(folder)
    _check(folder, config, facts, backbone)
    names = names_of(backbone, torch.zeros(2, backbone.width), None)
    pairs, rest = _pairs(folder, config, tensors, names)
    weight, bias = _classifier(folder, rest, backbone)
    known = facts.get("class_names") if classes is None else list(classes)
    if weight is None and known is None:
        raise ArtefactError(
            f"{folder} holds no classifier (PEFT's modules_to_save), and no class names were given for a new one. "
            "Give them (--classes of vitgraft import; in Python, classes=[...])."
        )
    labels = tuple(map(str, range(len(weight)))) if known is None and weight is not None else tuple(known or ())
    if weight is not None and len(labels) != len(weight):
        raise ArtefactError(f"{folder} tells {len(weight)} classes apart, and {len(labels)} names were given.")
    if preprocessing is None and "preprocessing" in facts:
        preprocessing = Preprocessing.from_json(facts["preprocessing"])
    method, filled = _method(folder, pairs, names, backbone)
    target = from_json(facts.get("target"))
    model = graft(backbone, method, labels, preprocessing=preprocessing, kind=target.kind)
    model.target = target
    with torch.no_grad():
        for site, pair in filled.items():
            (one,) = model.tuned.plan.grafts[site]
            one.get_parameter("down").copy_(pair.down)
            one.get_parameter("up").copy_(pair.up)
        if weight is not None:
            model.tuned.head.classifier.weight.copy_(weight)
            model.tuned.head.classifier.bias.zero_() if bias is None else model.tuned.head.classifier.bias.copy_(
                bias
            )
    if weight is None:
        told = (
            f"{folder} holds no classifier: the one of {len(labels)} classes is new, and is still to be trained."
        )
        warnings.warn(Told(told), stacklevel=2)
    return model


def _config(folder: Path) -> dict[str, Any]:
    if not is_adapter(folder):
        raise ArtefactError(f"{folder} holds no {CONFIG}. Name the folder that PEFT's save_pretrained wrote.")
    return _json(folder / CONFIG)


def _facts(folder: Path) -> dict[str, Any]:
    """What vitgraft says of an adapter that it wrote; nothing for another one."""
    return _json(folder / FACTS) if (folder / FACTS).is_file() else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{path} is damaged ({error}). Save the adapter again.") from None
    if not isinstance(found, dict):
        raise ArtefactError(f"{path} is no table. Save the adapter again.")
    return found


def _tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / TENSORS
    old = path.with_suffix(".bin")
    try:
        if path.is_file() or not old.is_file():
            return load_file(path)
        found = torch.load(old, map_location="cpu", weights_only=True)
        return {str(name): value for name, value in found.items()}
    except (SafetensorError, OSError, RuntimeError, ValueError, AttributeError) as error:
        raise ArtefactError(f"{path} cannot be read ({error}). Save the adapter again.") from None


def _check(folder: Path, config: Mapping[str, Any], facts: Mapping[str, Any], backbone: Backbone) -> None:
    """Raise ArtefactError for another kind of adapter, or one of other weights."""
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ArtefactError(f"{folder} is an adapter of the kind {kind!r}, and vitgraft reads PEFT's LORA.")
    if other := [key for key in OTHER_KINDS if config.get(key)]:
        raise ArtefactError(f"{folder} is a LoRA with {other[0]}, which is another function than vitgraft's lora.")
    wanted = dict(facts.get("backbone") or {}).get("fingerprint")
    if wanted is not None and wanted != backbone.fingerprint():
        raise ArtefactError(
            f"{folder} was trained on weights {wanted}; {backbone.name} has {backbone.fingerprint()} here. Load "
            f"the same weights ({NAMING})."
        )


def _pairs(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], names: Names
) -> tuple[dict[Site, _Pair], dict[str, Tensor]]:
    """The change at each site, and all other tensors."""
    halves: dict[str, dict[str, Tensor]] = {}
    rest: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if found := FACTOR.fullmatch(name):
            halves.setdefault(found[1], {})[found[2]] = value.float()
        else:
            rest[name] = value
    pairs: dict[Site, _Pair] = {}
    for name, both in halves.items():
        site = names.site_of(name) or place_of(name)
        if site is None or site not in names.slots:
            raise ArtefactError(
                f"{folder} adapts {name}, which is no linear map of a block of this backbone. Name the backbone "
                "that it was trained on."
            )
        slots = names.slots[site]
        shape = (sum(slot.stop - slot.start for slot in slots), slots[0].inputs)
        if both.keys() != {"A", "B"} or (both["B"].shape[0], both["A"].shape[-1]) != shape:
            raise ArtefactError(f"{folder}: the factors at {name} do not fit a linear map of {shape} values.")
        rank = len(both["A"])
        alpha = float(_by_pattern(config.get("alpha_pattern"), name, config.get("lora_alpha", rank)))
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        pairs[site] = _Pair(both["A"], both["B"], scale)
    if not pairs:
        raise ArtefactError(f"{folder} holds no LoRA factors. Save the adapter again.")
    return pairs, rest


def _by_pattern(patterns: Any, name: str, default: Any) -> Any:
    """PEFT's own rule: the first pattern that is the name, or its end."""
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", name):
            return value
    return default


def _classifier(
    folder: Path, rest: Mapping[str, Tensor], backbone: Backbone
) -> tuple[Tensor | None, Tensor | None]:
    """Weight (C, D) and bias of the classifier. Raises ArtefactError for tensors that are something else."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in rest.items():
        module, _, leaf = name.removeprefix(PREFIX).rpartition(".")
        found.setdefault(module, {})[leaf] = value.float()
    heads = {
        module: one
        for module, one in found.items()
        if set(one) <= {"weight", "bias"} and "weight" in one and one["weight"].shape[1:] == (backbone.width,)
    }
    several = {tuple(one["weight"].flatten().tolist()) for one in heads.values()}
    if other := sorted(found.keys() - heads.keys()):
        raise ArtefactError(
            f"{folder} also holds {other[0]}, which is neither a LoRA factor nor a classifier of {backbone.width} "
            "inputs, and which vitgraft's lora cannot say."
        )
    if len(several) > 1:
        raise ArtefactError(
            f"{folder} holds {len(several)} classifiers ({', '.join(heads)}), and a model has one."
        )
    if not heads:
        return None, None
    one = next(iter(heads.values()))
    return one["weight"], one.get("bias")


def _method(
    folder: Path, pairs: Mapping[Site, _Pair], names: Names, backbone: Backbone
) -> tuple[LoRA, dict[Site, _Pair]]:
    """The LoRA of one rank and scale that holds these changes, and each of its sites' factors."""
    rank = max(len(pair.down) for pair in pairs.values())
    scale = next(iter(pairs.values())).scale
    used = {place for _, place in pairs}
    joined = JOINED in used
    if joined and used & set(QKV):
        raise ArtefactError(f"{folder} adapts q, k and v both as one and apart. Adapt one or the other.")
    places = [place for place in (JOINED, *LINEAR_PLACES) if place in used]
    first = min(block for block, _ in pairs)
    spelled = "+".join([*(QKV if joined else ()), *(place for place in places if place != JOINED)])
    last = backbone.depth - first if first else 0
    method = LoRA(rank, None if scale == 1 else scale * rank, spelled, last=last, share_a=joined)
    filled: dict[Site, _Pair] = {}
    added = 0
    for block in range(first, backbone.depth):
        for place in places:
            slots = names.slots[block, place]
            down = torch.zeros(rank, slots[0].inputs)
            up = torch.zeros(sum(slot.stop - slot.start for slot in slots), rank)
            if (pair := pairs.get((block, place))) is not None:
                down[: len(pair.down)] = pair.down
                up[:, : len(pair.down)] = pair.up * (pair.scale / scale)
            added += rank - (0 if pair is None else len(pair.down))
            filled[block, place] = _Pair(down, up, scale)
    if added:
        told = f"{folder} has other ranks or places by block: filled up with zeros to lora's rank {rank}."
        warnings.warn(Told(told), stacklevel=3)
    return method, filled
