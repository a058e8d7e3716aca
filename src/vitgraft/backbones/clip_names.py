"""OpenAI's and open_clip's own names of an image tower in timm's; the tower's names begin with `visual.`."""

import re
from collections.abc import Mapping

from torch import Tensor

ANCHOR = "ln_pre.weight"
"""By this name the layout is told: the text tower beside it has no such norm."""

PARTS = {
    "class_embedding": "cls_token",  # (D,)
    "positional_embedding": "pos_embed",  # (N, D)
    "conv1.weight": "patch_embed.proj.weight",
    "proj": "proj",  # (D, E): into the space shared with texts
}

MODULES = {"conv1": "patch_embed.proj", "ln_pre": "norm_pre", "ln_post": "norm"}

BLOCK_PARTS = {
    "attn.in_proj_weight": "attn.qkv.weight",
    "attn.in_proj_bias": "attn.qkv.bias",
    "ls_1.gamma": "ls1.gamma",
    "ls_2.gamma": "ls2.gamma",
    **{
        f"{theirs}.{leaf}": f"{own}.{leaf}"
        for theirs, own in {
            "ln_1": "norm1",
            "ln_2": "norm2",
            "attn.out_proj": "attn.proj",
            "mlp.c_fc": "mlp.fc1",
            "mlp.c_proj": "mlp.fc2",
        }.items()
        for leaf in ("weight", "bias")
    },
}

DROPPED = frozenset({"proj"})
"""First parts of names that are no part of a backbone."""

_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")


def is_clip(names: Mapping[str, Tensor]) -> bool:
    """Whether the names, without a prefix, are those of OpenAI's or open_clip's own tower."""
    return ANCHOR in names and any(_BLOCK.fullmatch(name) for name in names)


def translate(names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by timm's names; unknown ones keep their own."""
    found = {}
    for name, value in names.items():
        own = _own(name)
        flat = own in ("cls_token", "pos_embed") and 0 < value.ndim < 3
        found[own] = value.reshape(1, -1, value.shape[-1]) if flat else value
    return found


def _own(name: str) -> str:
    if name in PARTS:
        return PARTS[name]
    if block := _BLOCK.fullmatch(name):
        index, part = block.groups()
        return f"blocks.{index}.{BLOCK_PARTS[part]}" if part in BLOCK_PARTS else name
    module, _, leaf = name.rpartition(".")
    return f"{MODULES[module]}.{leaf}" if module in MODULES else name
