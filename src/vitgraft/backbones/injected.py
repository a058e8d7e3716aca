"""PEFT's layers for a backbone: injected into a copy of its model that shares its weights, then taken out."""

import copy
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vitgraft.backbones.called import never_called, owner
from vitgraft.core.backbone import Backbone
from vitgraft.core.shape import Shape, joined
from vitgraft.core.sites import JOINED, LINEAR_PLACES, QKV, Site
from vitgraft.errors import ConfigError

NORMS = ("norm1", "norm2")
BASE = "base_layer"
"""What PEFT calls the module that it wraps."""

AGAIN = 1
"""A seed under which what is drawn differs from before."""

OUTSIDE = "modules_to_save"
"""What PEFT trains whole: for us the classifier, which is no part of a backbone."""


@dataclass(frozen=True)
class Injected:
    """PEFT's layers with the library's own modules, by site, and the backbone's parameters that train besides."""

    layers: Mapping[Site, tuple[nn.Module, nn.Module]]
    unfreeze: frozenset[str]


def inject(backbone: Backbone, values: Mapping[str, Any]) -> Injected:
    """What a configuration of PEFT makes of a backbone; initial values come from torch's generator.

    Raises:
        ConfigError: PEFT is not installed or refuses, a layer where no site is, or one that is never called.
    """
    places = _places(backbone)
    heads = {name.partition(".")[0] for name in backbone.view.head_names()}
    kind = values["peft_type"]
    config = _config(kind, values, places, heads)
    model = shared_copy(backbone.view.model).requires_grad_()  # PEFT freezes what it does not train
    _injected(kind, config, model)
    layers = _layers(model)
    if not layers:
        raise ConfigError(f"peft: {kind} adapts no module of {backbone.name}.")
    if odd := [path for path in layers if path not in places]:
        raise ConfigError(
            f"peft: {kind} adapts {odd[0]} of {backbone.name}, which is no linear map or normalisation of a "
            f"block. Name others in target_modules, such as {_examples(places)}."
        )
    if unheard := never_called(backbone, layers):
        raise ConfigError(
            f"peft: {owner(backbone.model, unheard[0])} of {backbone.name} computes with the weight of "
            f"{unheard[0]} and never calls it, so that PEFT's layer there would train nothing without a word. "
            "Name others in target_modules, or use a method of vitgraft's own, such as lora."
        )
    for path, layer in layers.items():
        _check(kind, path, layer)
    fixed = _fixed(layers)
    if fixed:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(AGAIN)
            twin = shared_copy(backbone.view.model).requires_grad_()
            _injected(kind, _config(kind, values, places, heads), twin)
        _check_fixed(kind, fixed, _fixed(_layers(twin)))
    own = set(backbone.parameter_names())
    inside = {id(value) for layer in layers.values() for value in _adapter(layer)}
    trained = {
        name.replace(f"{BASE}.", "")
        for name, value in model.named_parameters()
        if value.requires_grad and id(value) not in inside
    }
    if other := sorted(trained - own):
        raise ConfigError(f"peft: {kind} also trains {other[0]}, which is no part of {backbone.name}.")
    bases = {path: backbone.model.get_submodule(path) for path in layers}
    for path, layer in layers.items():
        _forget(layer, {name.removeprefix(f"{path}.") for name in fixed})
    return Injected({places[path]: (layer, bases[path]) for path, layer in layers.items()}, frozenset(trained))


def counted(shape: Shape, values: Mapping[str, Any]) -> int:
    """How many values a configuration trains on a plain transformer of some shape, by timm's names."""
    places: dict[str, Site] = {}
    for block in range(shape.depth):
        names = {JOINED: "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
        names |= {norm: norm for norm in NORMS}
        places |= {f"blocks.{block}.{name}": (block, place) for place, name in names.items()}
    places["norm"] = (shape.depth, "norm")
    kind = values["peft_type"]
    config = _config(kind, values, places, {"head"})
    try:
        with torch.device("meta"):
            model = _skeleton(shape)
        _injected(kind, config, model, low_cpu_mem_usage=True)
    except (ConfigError, RuntimeError):  # some begin with what is in the weights
        model = _skeleton(shape)
        _injected(kind, config, model)
    return sum(value.numel() for value in model.parameters() if value.requires_grad)


def shared_copy(model: nn.Module) -> nn.Module:
    """A copy of a model whose modules are new, and whose tensors are the same."""
    memo: dict[int, object] = {
        id(value): nn.Parameter(value.detach(), requires_grad=False) for value in model.parameters()
    }
    memo.update({id(value): value.detach() for value in model.buffers()})
    return copy.deepcopy(model, memo)


def _skeleton(shape: Shape) -> nn.Module:
    """The linear maps and normalisations of a transformer, by timm's names."""
    model = nn.Module()
    model.blocks = nn.ModuleList()
    for _ in range(shape.depth):
        block: Any = nn.Module()
        block.norm1, block.norm2 = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        block.attn, block.mlp = nn.Module(), nn.Module()
        block.attn.qkv = nn.Linear(*joined(shape))
        block.attn.proj = nn.Linear(*shape.widths["proj"])
        block.mlp.fc1, block.mlp.fc2 = nn.Linear(*shape.widths["fc1"]), nn.Linear(*shape.widths["fc2"])
        model.blocks.append(block)
    model.norm = nn.LayerNorm(shape.width)
    return model


def _places(backbone: Backbone) -> dict[str, Site]:
    """The site of each module of the model that is one place as a whole."""
    paths = {id(module): path for path, module in backbone.model.named_modules()}
    found: dict[str, Site] = {}
    sites = [(block, place) for block in range(backbone.depth) for place in (*LINEAR_PLACES, JOINED, *NORMS)]
    for site in (*sites, (backbone.depth, "norm")):
        rows = backbone.rows(site)
        if len(rows) == 1 and len(rows[0]) == len(rows[0].weight.whole):
            found[paths[id(rows[0].weight.module)]] = site
    return found


def _config(kind: str, values: Mapping[str, Any], places: Mapping[str, Site], heads: set[str]) -> Any:
    """PEFT's own configuration, with modules to adapt if it names none."""
    try:
        import peft
        from peft.utils import PeftType
    except ImportError:
        raise ConfigError(
            "peft: the package peft, which makes these layers, is not installed: pip install 'vitgraft[peft]'."
        ) from None
    if kind not in PeftType.__members__:
        known = ", ".join(sorted(PeftType.__members__))
        raise ConfigError(f"peft: PEFT {peft.__version__} has no peft_type {kind!r}. Known: {known}.")
    given = dict(values)
    saved = given.pop(OUTSIDE, None) or []
    if others := [name for name in saved if name not in heads | {"head", "classifier", "score"}]:
        raise ConfigError(
            f"peft: {OUTSIDE} names {others[0]}, which would be trained whole. The classifier always is; leave "
            "others out."
        )
    if given.get("target_modules") is None and "target_parameters" not in given:
        wanted = NORMS if kind == "LN_TUNING" else (*QKV, JOINED)
        given["target_modules"] = [path for path, (_, place) in places.items() if place in wanted]
        if kind == "IA3":
            given["feedforward_modules"] = []
    try:
        return peft.get_peft_config(given)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"peft: PEFT {peft.__version__} refuses this configuration of {kind}: {error}") from None


def _injected(kind: str, config: Any, model: nn.Module, **more: Any) -> None:
    import peft

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peft.inject_adapter_in_model(config, model, **more)
    except (KeyError, NotImplementedError, StopIteration, TypeError, ValueError) as error:
        raise ConfigError(f"peft: PEFT {peft.__version__} cannot inject {kind} here: {error}") from None


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """PEFT's layers, by the paths of the modules that they wrap."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {path: module for path, module in model.named_modules() if isinstance(module, BaseTunerLayer)}


def _forget(layer: nn.Module, fixed: set[str]) -> None:
    """Save every buffer of a layer, but for those that are made the same again."""
    for path, module in layer.named_modules():
        for name, _ in module.named_buffers(recurse=False):
            module._non_persistent_buffers_set.discard(name)
            if f"{path}.{name}".lstrip(".") in fixed:
                module._non_persistent_buffers_set.add(name)


def _check(kind: str, path: str, layer: Any) -> None:
    """Raise ConfigError for a layer that needs more than its input."""
    width = getattr(layer.base_layer, "in_features", None) or layer.base_layer.weight.shape[-1]
    try:
        with torch.no_grad():
            layer(layer.base_layer.weight.new_zeros(1, 1, width))
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"peft: {kind} cannot run on the input of {path} alone: {error}") from None


def _fixed(layers: Mapping[str, nn.Module]) -> dict[str, torch.Tensor]:
    """What layers compute with that no saved graft would have: tensors they hide, or share with one another."""
    seen: Counter[int] = Counter()
    for layer in layers.values():
        seen.update({one.data_ptr() for name, one in layer.named_buffers() if not name.startswith(f"{BASE}.")})
    found: dict[str, torch.Tensor] = {}
    for path, layer in layers.items():
        for name, one in layer.named_buffers():
            if seen[one.data_ptr()] > 1 and not name.startswith(f"{BASE}."):
                found[f"{path}.{name}"] = one
        for inner, module in layer.named_modules():
            for name, value in vars(module).items():
                some = value if isinstance(value, dict) and name[:1] != "_" else {"": value}
                for key, one in some.items():
                    if isinstance(one, torch.Tensor):
                        found[".".join((path, inner, name, str(key)))] = one
    return found


def _check_fixed(kind: str, fixed: Mapping[str, torch.Tensor], again: Mapping[str, torch.Tensor]) -> None:
    """Raise ConfigError unless what no graft would have is the same whenever it is made."""
    for name, value in fixed.items():
        if name not in again or not torch.equal(value, again[name]):
            raise ConfigError(
                f"peft: {kind} draws {name} anew each time, and no saved graft would have it. Give its "
                "configuration a seed, if it takes one."
            )


def _adapter(layer: nn.Module) -> list[nn.Parameter]:
    """A layer's parameters but for those of the module that it wraps."""
    return [value for name, value in layer.named_parameters() if not name.startswith(f"{BASE}.")]


def _examples(places: Mapping[str, Site]) -> str:
    return ", ".join(path for path, (block, _) in places.items() if block == 0)
