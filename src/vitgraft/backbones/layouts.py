"""Says which publisher's layout a weight file has, and gives its tensors timm's names.

A layout declares what it leaves out on purpose, by the first part of a name. Nothing else is dropped here:
what stays unknown is reported by `checkpoints.load_weights`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vitgraft.backbones import jax_npz
from vitgraft.backbones.weight_files import WeightFile


@dataclass(frozen=True)
class Layout:
    """A publisher's habits: `drops` are first parts of names that are no part of the backbone."""

    name: str
    drops: frozenset[str] = frozenset()


TIMM = Layout("timm", drops=frozenset({"pre_logits"}))  # timm itself no longer has this layer
MAE = Layout(
    "MAE",
    drops=frozenset(
        {"mask_token", "decoder_embed", "decoder_pos_embed", "decoder_blocks", "decoder_norm", "decoder_pred"}
    ),
)
MOCO = Layout("MoCo-v3", drops=frozenset({"head", "momentum_encoder", "predictor"}))
DINOV2 = Layout("DINOv2", drops=frozenset({"mask_token"}))
TRANSFORMERS = Layout("transformers ViT", drops=frozenset({"pooler", "classifier"}))
JAX = Layout("JAX npz", drops=jax_npz.DROPPED)

HEADS = frozenset({"head", "head_dist"})
"""First parts of a classifier's names. Heads are ours, so any layout's may be absent, or left out."""

_MOCO_ENCODER = "base_encoder."
_TRANSFORMERS_PREFIXES = ("vit.", "")
_TRANSFORMERS_PARTS = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "layernorm": "norm",
}
_TRANSFORMERS_BLOCK_PARTS = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.attention.query": "attn.q",
    "attention.attention.key": "attn.k",
    "attention.attention.value": "attn.v",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
QKV = ("q", "k", "v")
_LAYER_SCALES = {"gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}  # DeiT III's own names


@dataclass(frozen=True)
class Named:
    """A weight file in timm's names. `dropped` was left out on purpose; `heads` is h where the file tells it."""

    layout: Layout
    tensors: Mapping[str, Tensor]
    dropped: tuple[str, ...]
    heads: int | None = None


def translate(file: WeightFile) -> Named:
    """The file's tensors by timm's names; unknown ones keep their own."""
    if jax_npz.is_jax(file.tensors):
        arrays, dropped = jax_npz.translate(file.tensors)
        return Named(JAX, arrays, dropped, jax_npz.head_count(file.tensors))
    layout = _layout(file)
    names: Mapping[str, Tensor] = file.tensors
    if layout is TRANSFORMERS:
        names = _from_transformers(names)
    elif layout is MOCO:
        names = {name.removeprefix(_MOCO_ENCODER): value for name, value in names.items()}
    kept = {name: value for name, value in names.items() if first_part(name) not in layout.drops}
    return Named(layout, _with_whole_qkv(kept), tuple(name for name in names if name not in kept))


def first_part(name: str) -> str:
    """`head` of `head.weight`."""
    return name.partition(".")[0]


def _layout(file: WeightFile) -> Layout:
    firsts = {first_part(name) for name in file.tensors}
    if any(f"{prefix}embeddings.cls_token" in file.tensors for prefix in _TRANSFORMERS_PREFIXES):
        return TRANSFORMERS
    if file.unwrapped[:2] == ("state_dict", "module."):
        return MOCO
    if file.unwrapped[:1] == ("model",) and not firsts & HEADS:
        return MAE
    return DINOV2 if "mask_token" in firsts else TIMM


def _from_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = next(p for p in _TRANSFORMERS_PREFIXES if f"{p}embeddings.cls_token" in tensors)
    return {_transformers_name(name.removeprefix(prefix)): value for name, value in tensors.items()}


def _transformers_name(name: str) -> str:
    if name in _TRANSFORMERS_PARTS:
        return _TRANSFORMERS_PARTS[name]
    module, _, leaf = name.rpartition(".")
    if module in _TRANSFORMERS_PARTS:
        return f"{_TRANSFORMERS_PARTS[module]}.{leaf}"
    index, _, part = module.removeprefix("encoder.layer.").partition(".")
    known = _TRANSFORMERS_BLOCK_PARTS.get(part)
    return name if known is None else f"blocks.{index}.{known}.{leaf}"


def _with_whole_qkv(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Separate `attn.q`, `attn.k`, `attn.v` as timm's one `attn.qkv`, and layer scales by timm's names."""
    whole: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        module, _, leaf = name.rpartition(".")
        owner, _, last = module.rpartition(".")
        if owner.endswith(".attn") and last in QKV:
            parts.setdefault(f"{owner}.qkv.{leaf}", {})[last] = value
        else:
            whole[f"{module}.{_LAYER_SCALES[leaf]}" if leaf in _LAYER_SCALES else name] = value
    for name, found in parts.items():
        joined = jax_npz.joined([found.get(one) for one in QKV])
        if joined is not None:
            whole[name] = joined
        else:  # one of the three is missing: the others are reported by their own names
            owner, _, leaf = name.partition(".qkv.")
            whole |= {f"{owner}.{one}.{leaf}": value for one, value in found.items()}
    return whole
