"""Small transformers, and weight files of them in every published layout, written down from its conventions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from vitgraft.backbones.checkpoints import load_weights
from vitgraft.errors import CheckpointError

WIDTH, DEPTH, HEADS = 48, 3, 4


def tiny(seed: int = 0, kind: type[VisionTransformer] = VisionTransformer, **arguments: Any) -> VisionTransformer:
    """A model whose every value is random, norms and biases too."""
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    torch.manual_seed(seed)
    model = kind(**{**sizes, "num_classes": 0, **arguments})
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    return model.eval()


def jax_arrays(model: VisionTransformer, prefix: str = "", big_vision: bool = False) -> dict[str, Any]:
    """The model as flax stores it, written down from flax's conventions, not from the loader."""
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    norm2, attention, mlp = ("1", "0", "0") if big_vision else ("2", "1", "3")
    arrays = {
        "cls": state["cls_token"],
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        ("pos_embedding" if big_vision else "Transformer/posembed_input/pos_embedding"): state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
    }
    if "head.weight" in state:
        arrays |= {"head/kernel": state["head.weight"].T, "head/bias": state["head.bias"]}
    for i in range(len(model.blocks)):
        jax, own = f"Transformer/encoderblock_{i}", f"blocks.{i}"
        for name, number in (("norm1", "0"), ("norm2", norm2)):
            arrays[f"{jax}/LayerNorm_{number}/scale"] = state[f"{own}.{name}.weight"]
            arrays[f"{jax}/LayerNorm_{number}/bias"] = state[f"{own}.{name}.bias"]
        for which, name in enumerate(("query", "key", "value")):
            rows = slice(which * WIDTH, (which + 1) * WIDTH)
            part = f"{jax}/MultiHeadDotProductAttention_{attention}/{name}"
            arrays[f"{part}/kernel"] = state[f"{own}.attn.qkv.weight"][rows].T.reshape(WIDTH, HEADS, -1)
            arrays[f"{part}/bias"] = state[f"{own}.attn.qkv.bias"][rows].reshape(HEADS, -1)
        out = f"{jax}/MultiHeadDotProductAttention_{attention}/out"
        arrays[f"{out}/kernel"] = state[f"{own}.attn.proj.weight"].T.reshape(HEADS, -1, WIDTH)
        arrays[f"{out}/bias"] = state[f"{own}.attn.proj.bias"]
        for number, name in enumerate(("fc1", "fc2")):
            dense = f"{jax}/MlpBlock_{mlp}/Dense_{number}"
            arrays[f"{dense}/kernel"] = state[f"{own}.mlp.{name}.weight"].T
            arrays[f"{dense}/bias"] = state[f"{own}.mlp.{name}.bias"]
    return {prefix + name: value for name, value in arrays.items()}


def stacked(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    """big_vision's scanned form: one array for all blocks."""
    first, block = f"{prefix}Transformer/encoderblock_0/", f"{prefix}Transformer/encoderblock_"
    whole = {name: value for name, value in arrays.items() if not name.startswith(block)}
    for name in [name.removeprefix(first) for name in arrays if name.startswith(first)]:
        together = np.stack([arrays[f"{block}{i}/{name}"] for i in range(DEPTH)])
        whole[f"{prefix}Transformer/encoderblock/{name}"] = together
    return whole


def npz(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def torch_file(path: Path, content: object, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def tensors_of(model: VisionTransformer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def transformers_names(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The model as ViTModel or ViTForImageClassification of transformers store it on the hub."""
    parts = {"cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings"}
    parts |= {f"norm.{leaf}": f"layernorm.{leaf}" for leaf in ("weight", "bias")}
    parts |= {
        f"patch_embed.proj.{leaf}": f"embeddings.patch_embeddings.projection.{leaf}" for leaf in ("weight", "bias")
    }
    inner = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    named = {prefix + parts[name]: value for name, value in state.items() if name in parts}
    for i in range(DEPTH):
        layer = f"{prefix}encoder.layer.{i}"
        for leaf in ("weight", "bias"):
            for own, theirs in inner.items():
                named[f"{layer}.{theirs}.{leaf}"] = state[f"blocks.{i}.{own}.{leaf}"]
            for which, value in zip(
                ("query", "key", "value"), state[f"blocks.{i}.attn.qkv.{leaf}"].chunk(3), strict=True
            ):
                named[f"{layer}.attention.attention.{which}.{leaf}"] = value.clone()
    return named


def refused(model: VisionTransformer, path: Path, *told: str) -> None:
    """The load fails, its message names the file and says all of `told`, and no value has changed."""
    before = tensors_of(model)
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, path)
    for text in (path.name, *told):
        assert text in str(caught.value)
    assert same(tensors_of(model), before)
