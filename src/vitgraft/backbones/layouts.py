"""Says which publisher's layout a weight file has, and gives its tensors timm's names.

A backbone's names may begin with anything (`backbone.`, `model.teacher.`): with what stands before its patch
embedding. What does not begin so is no part of it, and told as left out. A layout declares what else it leaves out
on purpose, by the first part of a name; what stays unknown is reported by `checkpoints.load_weights`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from vitgraft.backbones import clip_names, jax_npz, transformers_names
from vitgraft.backbones.containers import ANCHORS
from vitgraft.backbones.snapshots import described
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
CLIP = Layout("open_clip", drops=clip_names.DROPPED)
TRANSFORMERS = Layout("transformers", drops=transformers_names.POOLED)
JAX = Layout("JAX npz", drops=jax_npz.DROPPED)

HEADS = frozenset({"head", "head_dist"})
"""First parts of a classifier's names. Heads are ours, so any layout's may be absent, or left out."""

FIRST = ("ema", "model_ema", "ema_model", "teacher", "target_encoder", "base_encoder", "encoder_q")
LAST = ("student", "momentum_encoder", "encoder_k", "predictor", "decoder")
"""Which of several transformers in one file is meant, by a part of its names: the first of the first, and one of
the last only if there is no other."""

WHOLES = {"attn": ("qkv", ("q", "k", "v")), "mlp": ("fc1", ("gate", "up"))}
"""What timm keeps in one, by the module that holds it: its name there, and the parts in their order."""

REGISTERS = "register_tokens"
OPEN_CLIP_TRUNK = "visual.trunk."
TOKEN_AXES = 3  # of (1, N, D)
_LAYER_SCALES = {"gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}  # DeiT III's own names
_DINOV2_MLP = {"w12": "fc1", "w3": "fc2"}
_CHUNKED = re.compile(r"blocks\.\d+\.(\d+\..+)")  # DINOv2's training keeps blocks in chunks, counted through


@dataclass(frozen=True)
class Named:
    """A weight file in timm's names. `dropped` was left out on purpose; `heads` is h where the file tells it.

    `prefix` stood before each name of the backbone, and `others` before those of another transformer; `activation`
    is transformers' word for the mlps', where a config.json says it.
    """

    layout: Layout
    tensors: Mapping[str, Tensor]
    dropped: tuple[str, ...]
    heads: int | None = None
    prefix: str = ""
    others: tuple[str, ...] = ()
    activation: str | None = None


def translate(file: WeightFile) -> Named:
    """The file's tensors by timm's names; unknown ones keep their own.

    Raises:
        CheckpointError: several transformers of which none is to be preferred.
    """
    if jax_npz.is_jax(file.tensors):
        arrays, dropped = jax_npz.translate(file.tensors)
        before = jax_npz.prefix(file.tensors)
        return Named(JAX, arrays, (*file.ignored, *dropped), jax_npz.head_count(file.tensors), before)
    prefix, others, own = own_part(file)
    foreign = tuple(name for name in file.tensors if not name.startswith(prefix))
    layout = _layout(own, prefix)
    renamed = _renamed(own, layout)
    if len(renamed) < len(own):
        raise CheckpointError(
            f"{file.path} names some tensors of its transformer twice, in two spellings, and nothing says which "
            "are meant. Save the state_dict() of one model alone."
        )
    kept = {name: value for name, value in renamed.items() if first_part(name) not in layout.drops}
    dropped = (*file.ignored, *foreign, *(name for name in renamed if name not in kept))
    heads, activation = described(file.config) if layout is TRANSFORMERS else (None, None)
    if layout is TRANSFORMERS:
        layout = replace(layout, name=f"{layout.name} {transformers_names.family(own)}")
    return Named(layout, _with_registers(_with_whole(kept)), dropped, heads, prefix, others, activation)


def own_part(file: WeightFile) -> tuple[str, tuple[str, ...], dict[str, Tensor]]:
    """What stands before the backbone's names and before those of others, and its tensors without it.

    Raises:
        CheckpointError: see `translate`.
    """
    prefix, others = _prefixes(file)
    own = {name.removeprefix(prefix): value for name, value in file.tensors.items() if name.startswith(prefix)}
    return prefix, others, own


def _renamed(own: Mapping[str, Tensor], layout: Layout) -> Mapping[str, Tensor]:
    """By timm's names, but for what has to be put together."""
    if layout is TRANSFORMERS:
        return transformers_names.translate(own)
    if layout is CLIP and clip_names.is_clip(own):
        return clip_names.translate(own)
    return {_unchunked(name): value for name, value in own.items()}


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
    parts = prefix.split(".")
    if worse := [len(FIRST) + 1 + LAST.index(part) for part in parts if part in LAST]:
        return max(worse)
    return min((FIRST.index(part) for part in parts if part in FIRST), default=len(FIRST))


def first_part(name: str) -> str:
    """`head` of `head.weight`."""
    return name.partition(".")[0]


def _layout(own: Mapping[str, Tensor], prefix: str) -> Layout:
    """Whose names these are, `prefix` having stood before them."""
    firsts = {first_part(name) for name in own}
    if transformers_names.is_transformers(own):
        return TRANSFORMERS
    if clip_names.is_clip(own) or prefix.endswith(OPEN_CLIP_TRUNK):
        return CLIP
    if "base_encoder" in prefix.split("."):
        return MOCO
    if firsts & MAE.drops - DINOV2.drops:
        return MAE
    return DINOV2 if firsts & {*DINOV2.drops, REGISTERS} else TIMM


def _unchunked(name: str) -> str:
    """A name of DINOv2's authors as timm's; timm's own stay."""
    chunked = _CHUNKED.fullmatch(name)
    name = f"blocks.{chunked[1]}" if chunked else name
    owner, _, leaf = name.rpartition(".")
    module, _, last = owner.rpartition(".")
    return f"{module}.{_DINOV2_MLP[last]}.{leaf}" if module.endswith(".mlp") and last in _DINOV2_MLP else name


def _with_registers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2's registers in timm's way: they have no positions, and the class token has its own added for good."""
    kept = dict(tensors)
    if REGISTERS not in kept:
        return kept
    kept["reg_token"] = kept.pop(REGISTERS)
    positions, token = kept.get("pos_embed"), kept.get("cls_token")
    if positions is not None and token is not None and positions.ndim == token.ndim == TOKEN_AXES:
        kept["cls_token"], kept["pos_embed"] = token + positions[:, :1], positions[:, 1:]
    return kept


def _with_whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parts put together (`attn.q`, `attn.k`, `attn.v`; `mlp.gate`, `mlp.up`), layer scales by timm's names."""
    whole: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        module, _, leaf = name.rpartition(".")
        owner, _, last = module.rpartition(".")
        kind = owner.rpartition(".")[2]
        if last in WHOLES.get(kind, ("", ()))[1]:
            parts.setdefault(f"{owner}.{WHOLES[kind][0]}.{leaf}", {})[last] = value
        else:
            whole[f"{module}.{_LAYER_SCALES[leaf]}" if leaf in _LAYER_SCALES else name] = value
    for name, found in parts.items():
        module, _, leaf = name.rpartition(".")
        owner = module.rpartition(".")[0]
        wanted = WHOLES[owner.rpartition(".")[2]][1]
        joined = jax_npz.joined([found.get(one) for one in wanted])
        if joined is not None:
            whole[name] = joined
        else:  # one of them is missing: the others are reported by their own names
            whole |= {f"{owner}.{one}.{leaf}": value for one, value in found.items()}
    return whole
