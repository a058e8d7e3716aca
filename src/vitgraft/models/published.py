"""Grafts that papers' own code has saved, read as ours.

SynQT (Zhang et al., 2024): the published model is a timm ViT with everything that is trained under `synqt.`, and
the classifier under `head.`. Parts of it never get a gradient and have no counterpart here: a `pre_norm` a block,
`out_combine.weight` and, with one query, what compares queries.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vitgraft.backbones.containers import shortened
from vitgraft.backbones.hub import NAMING
from vitgraft.backbones.weight_files import read_weights
from vitgraft.core.backbone import Backbone
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.errors import ArtefactError, CheckpointError
from vitgraft.methods.synqt import SynQT
from vitgraft.models.model import Model, graft

TOLERANCE = 1e-6
"""How far a published file's backbone may lie from the one it is put on: the noise of a changed format."""


def synqt_names(depth: int, tokens: int) -> Iterator[tuple[str, str]]:
    """Our name and the published one of every tensor of SynQT (T = `tokens`) on L = `depth` blocks, but queries.

    The queries are one tensor there, `synqt.q` (L, T, D), and one a block here.
    """

    def both(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
        yield from ((f"{ours}.{part}", f"{theirs}.{part}") for part in ("weight", "bias"))

    def mlp(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
        for layer in ("fc1", "fc2"):
            yield from both(f"{ours}.{layer}", f"{theirs}.mlp.{layer}")

    yield "feature_scale", "synqt.feat_scale"
    for block in range(depth):
        ours, theirs = f"synthesis.{block}", f"synqt.qsm_block.{block}"
        yield f"{ours}.attention_scale", f"{theirs}.attn_scale"
        yield f"{ours}.mlp_scale", f"{theirs}.ffn_scale"
        yield from mlp(f"{ours}.inlet", f"synqt.prompt_ffn.{block}")
        yield from mlp(f"{ours}.mlp", f"{theirs}.mlp")
        compared = (("q", "q_proj"), ("k", "k_proj")) if tokens > 1 else ()
        for place, projection in (*compared, ("v", "v_proj"), ("proj", "proj")):
            yield from mlp(f"{ours}.attention.{place}", f"{theirs}.attn.{projection}")
        for norm in ("norm1", "norm2"):
            yield from both(f"{ours}.{norm}", f"{theirs}.{norm}")
        for norm in ("q_norm", "kv_norm") if tokens > 1 else ("kv_norm",):
            yield from both(f"{ours}.attention.{norm}", f"{theirs}.attn.{norm}")
    yield from mlp("adapter", "synqt.mlp")
    yield from both("norm", "synqt.out_norm")
    yield from both("weigh", "synqt.out_combine.get_weight.fc1")
    yield from both("head_norm", "synqt.head_norm")
    yield from both("classifier", "head")


def synqt_values(state: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """The values of our `SynqtHead` from a published state dict.

    Raises:
        CheckpointError: tensors that are missing, or more blocks than `depth`.
    """
    tokens = state["synqt.q"].shape[1] if "synqt.q" in state else 1
    names = dict(synqt_names(depth, tokens))
    missing = [name for name in ("synqt.q", *names.values()) if name not in state]
    if missing:
        raise CheckpointError(
            f"This is no SynQT of {depth} blocks: it lacks {len(missing)} tensors, such as {shortened(missing)}. "
            "Give the file that the published code saved, and the backbone that it was trained on."
        )
    queries = state["synqt.q"]
    if len(queries) != depth:
        raise CheckpointError(
            f"This SynQT has {len(queries)} blocks and the backbone {depth}. Name the backbone it was trained on."
        )
    found = {ours: state[theirs].float() for ours, theirs in names.items()}
    return found | {f"synthesis.{block}.queries": queries[block].float() for block in range(depth)}


def load_synqt(
    file: Path | str,
    backbone: str | Backbone,
    classes: Sequence[str] | None = None,
    *,
    preprocessing: Preprocessing | None = None,
) -> Model:
    """A published SynQT as a model that can be used, saved and trained on.

    `classes` are the label names in order; by default numbers. The published runs normalise with ImageNet's mean
    and standard deviation: `vitgraft.data.transforms.preset("vtab", own)`.

    Raises:
        CheckpointError: a file that cannot be read, or is no SynQT for this backbone.
        ArtefactError: the file holds another backbone's weights, or the number of classes differs.
    """
    state = read_weights(Path(file)).tensors
    many = len(state["head.bias"]) if "head.bias" in state else 2
    names = tuple(map(str, range(many))) if classes is None else tuple(classes)
    if len(names) != many:
        raise ArtefactError(f"{file} tells {many} classes apart, and {len(names)} names were given.")
    tokens = state["synqt.q"].shape[1] if "synqt.q" in state else 1
    model = graft(backbone, SynQT(tokens=tokens), names, preprocessing=preprocessing)
    values = synqt_values(state, model.backbone.depth)
    own = model.tuned.head.state_dict()
    misfits = [name for name in own if own[name].shape != values[name].shape]
    if misfits:
        raise CheckpointError(
            f"{file} has tensors of another shape than SynQT on {model.backbone.name}: {shortened(misfits)}. Name "
            "the backbone it was trained on."
        )
    _check_backbone(state, model.backbone, file)
    model.tuned.head.load_state_dict(values, strict=True)
    return model


def _check_backbone(state: Mapping[str, Tensor], backbone: Backbone, file: Path | str) -> None:
    """Raise ArtefactError if the file has the backbone's weights, too, and they are others."""
    own = {name: backbone.parameter(name).detach().cpu().float() for name in backbone.parameter_names()}
    there = [name for name in own if name in state and own[name].shape == state[name].shape]
    other = [name for name in there if not torch.allclose(own[name], state[name].float(), atol=TOLERANCE)]
    if other:
        raise ArtefactError(
            f"{file} was trained on other weights than {backbone.name}: {len(other)} of {len(there)} tensors "
            f"differ, such as {shortened(other)}. Load the same weights ({NAMING})."
        )
