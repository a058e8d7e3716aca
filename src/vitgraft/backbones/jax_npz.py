"""Google's JAX checkpoints (.npz) in timm's names: the original ViT and augreg releases, and big_vision's.

Letters: D width, h heads, d = D / h, M mlp width, p patch size. flax kernels are (in, out), torch weights
(out, in).
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

EMBEDDING = "embedding/kernel"
"""What stands before this name (`opt/target/`, `params/`, `params/img/`) stands before all of the weights; arrays
without it are the optimizer's or another model's, and left out."""

PARTS = {
    EMBEDDING: "patch_embed.proj.weight",  # (p, p, 3, D)
    "embedding/bias": "patch_embed.proj.bias",
    "cls": "cls_token",  # (1, 1, D)
    "Transformer/posembed_input/pos_embedding": "pos_embed",  # (1, N, D)
    "pos_embedding": "pos_embed",  # big_vision
    "Transformer/encoder_norm/scale": "norm.weight",
    "Transformer/encoder_norm/bias": "norm.bias",
    "head/kernel": "head.weight",  # (D, C)
    "head/bias": "head.bias",
}

BLOCK_PARTS = {
    "LayerNorm_0/scale": "norm1.weight",
    "LayerNorm_0/bias": "norm1.bias",
    "LayerNorm_2/scale": "norm2.weight",
    "LayerNorm_2/bias": "norm2.bias",
    "MultiHeadDotProductAttention_1/out/kernel": "attn.proj.weight",  # (h, d, D)
    "MultiHeadDotProductAttention_1/out/bias": "attn.proj.bias",
    "MlpBlock_3/Dense_0/kernel": "mlp.fc1.weight",  # (D, M)
    "MlpBlock_3/Dense_0/bias": "mlp.fc1.bias",
    "MlpBlock_3/Dense_1/kernel": "mlp.fc2.weight",  # (M, D)
    "MlpBlock_3/Dense_1/bias": "mlp.fc2.bias",
}

ATTENTION = "MultiHeadDotProductAttention_1"
QKV = ("query", "key", "value")  # kernels (D, h, d), biases (h, d)

# flax numbers submodules as they are created: the first release counted all together, big_vision by class.
BIG_VISION = {
    "LayerNorm_1": "LayerNorm_2",
    "MultiHeadDotProductAttention_0": ATTENTION,
    "MlpBlock_0": "MlpBlock_3",
}

DROPPED = frozenset({"pre_logits"})
"""First parts that are left out: timm has no `pre_logits` layer, and a head of our own replaces it."""

_BLOCK = re.compile(r"Transformer/encoderblock_(\d+)/(.+)")
_STACKED = "Transformer/encoderblock/"


def is_jax(names: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a JAX ViT."""
    return any(map(_is_embedding, names))


def translate(arrays: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Tensors by timm's names, and the names left out on purpose. An unknown array keeps its own name."""
    known: dict[str, Tensor] = {}
    blocks: dict[int, dict[str, Tensor]] = {}
    dropped = [name for name in arrays if not name.startswith(prefix(arrays))]
    for name, value in _unstacked(_without_prefix(arrays)):
        if name.partition("/")[0] in DROPPED:
            dropped.append(name)
        elif found := _BLOCK.fullmatch(name):
            blocks.setdefault(int(found[1]), {})[_first_release(found[2])] = value
        else:
            known[PARTS.get(name, name)] = _as_torch(name, value)
    for index, parts in blocks.items():
        known |= {f"blocks.{index}.{name}": value for name, value in _block(parts).items()}
    return known, tuple(dropped)


def head_count(arrays: Mapping[str, Tensor]) -> int | None:
    """h, which only a JAX file knows: its attention kernels keep the heads apart."""
    for name, value in _unstacked(_without_prefix(arrays)):
        found = _BLOCK.fullmatch(name)
        if found and value.ndim == 3 and _first_release(found[2]) == f"{ATTENTION}/query/kernel":
            return value.shape[1]
    return None


def joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Projections (D, D) or biases (D,) of query, key and value, in one; None if one is missing or differs."""
    found = [part for part in parts if part is not None]
    if len(found) < len(parts) or len({part.shape for part in found}) > 1 or not found[0].ndim:
        return None
    return torch.cat(found)


def prefix(arrays: Mapping[str, Tensor]) -> str:
    """What stands before the weights' names; the shortest, if there are several."""
    return min((name.removesuffix(EMBEDDING) for name in arrays if _is_embedding(name)), key=len, default="")


def _is_embedding(name: str) -> bool:
    return name == EMBEDDING or name.endswith(f"/{EMBEDDING}")


def _without_prefix(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    before = prefix(arrays)
    return {name.removeprefix(before): value for name, value in arrays.items() if name.startswith(before)}


def _unstacked(arrays: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """big_vision may scan over blocks, whose arrays are then stacked along a first axis of L."""
    for name, value in arrays.items():
        if not name.startswith(_STACKED):
            yield name, value
            continue
        for index, one in enumerate(value):
            yield f"Transformer/encoderblock_{index}/{name.removeprefix(_STACKED)}", one


def _first_release(part: str) -> str:
    module, _, rest = part.partition("/")
    return f"{BIG_VISION.get(module, module)}/{rest}"


def _block(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    known = {}
    for leaf, name in (("kernel", "attn.qkv.weight"), ("bias", "attn.qkv.bias")):
        names = [f"{ATTENTION}/{which}/{leaf}" for which in QKV]
        whole = joined([_projection(parts[part]) if part in parts else None for part in names])
        if whole is not None:  # else they stay, and are reported under their own names
            known[name] = whole
            parts = {part: value for part, value in parts.items() if part not in names}
    for part, value in parts.items():
        name = BLOCK_PARTS.get(part, part)
        merged = value.flatten(0, 1) if name == "attn.proj.weight" and value.ndim == 3 else value
        known[name] = _as_torch(part, merged)
    return known


def _projection(value: Tensor) -> Tensor:
    """A kernel (D, h, d) -> (D, D), torch's way round; a bias (h, d) -> (D,)."""
    return value.flatten(1).T if value.ndim == 3 else value.flatten()


def _as_torch(name: str, value: Tensor) -> Tensor:
    if name.rpartition("/")[2] != "kernel":
        return value
    if value.ndim == 4:
        return value.permute(3, 2, 0, 1)
    return value.T if value.ndim == 2 else value
