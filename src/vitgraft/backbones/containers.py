"""Which of the things in a torch file are the weights: found under the keys that training scripts use, and told.

A file of a training run holds a model's weights more than once: averaged ones beside the last ones, a teacher
beside its student. What is taken is the first of `PREFERRED`, and what else would have done is named.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vitgraft.backbones.inert import StandIn, Stored
from vitgraft.errors import CheckpointError

PREFERRED = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema_model",
    "ema",
    "params_ema",
    "teacher",
    "target_encoder",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "backbone",
    "encoder",
    "net",
    "network",
    "params",
    "weights",
    "module",
)
"""Keys under which training scripts keep their weights, the preferred first: averaged weights, as in timm, and the
teacher of a self-distillation, as its authors do."""

LAST = ("student", "predictor", "optimizer")
"""Keys that come behind all others, known and unknown."""

ANCHORS = (
    "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embedding.weight",
    "ln_pre.weight",
    "embedding/kernel",
)
"""A name that a vision transformer has once, in timm, transformers (twice), open_clip and JAX: what stands before
it stands before every name of the backbone."""

DEPTH = 5
"""So many keys deep are weights looked for."""

Weights = Mapping[str, "Tensor | Stored"]


@dataclass(frozen=True)
class Found:
    """A file's weights by name, the keys that led to them, other keys that lead to a transformer, and what lay
    among the weights without being a tensor."""

    weights: Weights
    keys: tuple[str, ...]
    others: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def weights_in(path: Path, content: Any) -> Found:
    """The weights in a torch file's contents.

    Raises:
        CheckpointError: none, a whole pickled model, or several sets of which none is to be preferred.
    """
    if isinstance(content, StandIn) and content.is_module:
        raise CheckpointError(_whole_model(path, content, "is"))
    if not isinstance(content, Mapping) or (isinstance(content, StandIn) and not content):
        raise CheckpointError(f"{path} holds {_kind(content)}, not a dictionary of named tensors.")
    sets = dict(_sets(content))
    chosen = {keys: one for keys, one in sets.items() if is_transformer(one)}
    models = [value for value in content.values() if isinstance(value, StandIn) and value.is_module]
    if models and not chosen:
        raise CheckpointError(_whole_model(path, models[0], "holds"))
    chosen = chosen or sets
    if not chosen:
        raise CheckpointError(
            f"{path} holds no named tensors. Its keys are {shortened([str(key) for key in content]) or 'none'}; "
            "weights are looked for under any of them, and at the top."
        )
    best = min(map(_rank, chosen))
    first = [keys for keys in chosen if _rank(keys) == best]
    if len(first) > 1:
        raise CheckpointError(
            f"{path} holds several sets of weights, under {' and '.join(map(dotted, first))}, and none of these "
            "keys says which is meant. Save the one that you mean by itself, in the Python that wrote the file: "
            "safetensors.torch.save_file(STATE_DICT, 'weights.safetensors')."
        )
    (keys,) = first
    own = content
    for key in keys:
        own = own[key]
    weights = {str(name): value for name, value in own.items() if is_weight(value)}
    if len(weights) < sum(map(is_weight, own.values())):
        raise CheckpointError(
            f"{path} names several tensors alike, of different types of name. Name them by text."
        )
    others = tuple(dotted(one) for one in chosen if one != keys)
    ignored = tuple(str(name) for name, value in own.items() if not is_weight(value))
    return Found(weights, keys, others, ignored)


def is_weight(value: Any) -> bool:
    """Whether it is a tensor, read or not."""
    return isinstance(value, Tensor | Stored)


def is_transformer(names: Mapping[Any, Any]) -> bool:
    """Whether a vision transformer's patch embedding is among the names."""
    return any(isinstance(name, str) and name.endswith(ANCHORS) for name in names)


def dotted(keys: tuple[str, ...]) -> str:
    """`model.teacher`, or words for the file's top."""
    return ".".join(keys) or "the top"


SHOWN = 8  # names that a message lists before it only counts


def shortened(names: list[str]) -> str:
    """`a, b, c and 5 more`: up to 8 names."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


Sets = Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]


def _sets(content: Mapping[Any, Any], keys: tuple[str, ...] = ()) -> Sets:
    """Every dictionary that holds named tensors, by the keys that lead to it."""
    if any(isinstance(name, str) and is_weight(value) for name, value in content.items()):
        yield keys, content
    for key, value in content.items() if len(keys) < DEPTH else ():
        if isinstance(key, str) and isinstance(value, Mapping):
            yield from _sets(value, (*keys, key))


def _rank(keys: tuple[str, ...]) -> tuple[int, int]:
    """The better, the smaller: by the best of its keys, then by the next."""
    unknown = len(PREFERRED)
    ranks = sorted(PREFERRED.index(key) if key in PREFERRED else unknown for key in keys)
    if worse := [unknown + 1 + LAST.index(key) for key in keys if key in LAST]:
        return max(worse), ranks[0]
    return (ranks[0] if ranks else PREFERRED.index("state_dict"), ranks[1] if len(ranks) > 1 else unknown)


def _kind(content: Any) -> str:
    if isinstance(content, Stored | Tensor):
        return "a single tensor"
    name = content.origin if isinstance(content, StandIn) else type(content).__name__
    return f"an object of type {name}"


def _whole_model(path: Path, model: StandIn, verb: str) -> str:
    return (
        f"{path} {verb} a whole pickled model, a {model.origin}, instead of its weights: only the code that it "
        "was made with could unpickle it, which vitgraft never does. Save the weights alone, in a Python that has "
        "that code: safetensors.torch.save_model(model, 'weights.safetensors'), and pass that file."
    )
