"""Says which publisher's layout a weight file has, and gives its tensors timm's names.

A backbone's names may begin with anything (`backbone.`, `model.teacher.`): with what stands before its patch
embedding. What does not begin so is no part of it, and told as left out. A layout declares what else it leaves out
on purpose, by the first part of a name; what stays unknown is reported by `checkpoints.load_weights`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vitgraft.backbones import jax_npz
from vitgraft.backbones.containers import ANCHORS
from vitgraft.backbones.weight_files import WeightFile
from vitgraft.errors import CheckpointError


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
MOCO = Layout("MoCo-v3", drops=frozenset({"head"}))
DINOV2 = Layout("DINOv2", drops=frozenset({"mask_token"}))
TRANSFORMERS = Layout("transformers ViT", drops=frozenset({"pooler", "classifier"}))
JAX = Layout("JAX npz", drops=jax_npz.DROPPED)

HEADS = frozenset({"head", "head_dist"})
"""First parts of a classifier's names. Heads are ours, so any layout's may be absent, or left out."""

PARTS = ("ema", "teacher", "target_encoder", "base_encoder", "encoder_q", "student", "momentum_encoder")
"""Which of several transformers in one file is meant, by a part of its names: the first of these."""

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
    """A weight file in timm's names. `dropped` was left out on purpose; `heads` is h where the file tells it.

    `prefix` stood before each name of the backbone, and `others` before those of another transformer.
    """

    layout: Layout
    tensors: Mapping[str, Tensor]
    dropped: tuple[str, ...]
    heads: int | None = None
    prefix: str = ""
    others: tuple[str, ...] = ()


def translate(file: WeightFile) -> Named:
    """The file's tensors by timm's names; unknown ones keep their own.

    Raises:
        CheckpointError: several transformers of which none is to be preferred.
    """
    if jax_npz.is_jax(file.tensors):
        arrays, dropped = jax_npz.translate(file.tensors)
        before = jax_npz.prefix(file.tensors)
        return Named(JAX, arrays, (*file.ignored, *dropped), jax_npz.head_count(file.tensors), before)
    prefix, others = _prefixes(file)
    layout = _layout(file, prefix)
    own = {name.removeprefix(prefix): value for name, value in file.tensors.items() if name.startswith(prefix)}
    foreign = tuple(name for name in file.tensors if not name.startswith(prefix))
    renamed = {_transformers_name(name): value for name, value in own.items()} if layout is TRANSFORMERS else own
    kept = {name: value for name, value in renamed.items() if first_part(name) not in layout.drops}
    dropped = (*file.ignored, *foreign, *(name for name in renamed if name not in kept))
    return Named(layout, _with_whole_qkv(kept), dropped, None, prefix, others)


def _prefixes(file: WeightFile) -> tuple[str, tuple[str, ...]]:
    """What stands before the backbone's names, and before those of other transformers in the file."""
    found = [
        prefix
        for name in file.tensors
        for anchor in ANCHORS
        if name.endswith(anchor) and (prefix := name.removesuffix(anchor))[-1:] in ("", ".")
    ]
    if not found or "" in found:
        return "", ()
    best = min(map(_rank, found))
    first = [prefix for prefix in found if _rank(prefix) == best]
    if len(first) > 1:
        raise CheckpointError(
            f"{file.path} holds several vision transformers, whose names begin with {' and '.join(first)}, and "
            "nothing says which is meant. Save the one that you mean by itself: safetensors.torch.save_file("
            f"{{name.removeprefix({first[0]!r}): value for name, value in WEIGHTS.items() if "
            f"name.startswith({first[0]!r})}}, 'weights.safetensors'), WEIGHTS being its dictionary of tensors."
        )
    return first[0], tuple(prefix for prefix in found if prefix != first[0])


def _rank(prefix: str) -> int:
    return min((PARTS.index(part) for part in prefix.split(".") if part in PARTS), default=len(PARTS))


def first_part(name: str) -> str:
    """`head` of `head.weight`."""
    return name.partition(".")[0]


def _layout(file: WeightFile, prefix: str) -> Layout:
    firsts = {first_part(name.removeprefix(prefix)) for name in file.tensors if name.startswith(prefix)}
    if f"{prefix}embeddings.cls_token" in file.tensors:
        return TRANSFORMERS
    if "base_encoder" in prefix.split("."):
        return MOCO
    if firsts & MAE.drops - DINOV2.drops:
        return MAE
    return DINOV2 if firsts & DINOV2.drops else TIMM


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
