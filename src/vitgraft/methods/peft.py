"""Any method of PEFT that can be injected into a model, by its own configuration (Hugging Face PEFT)."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vitgraft.errors import ConfigError
from vitgraft.methods.base import Findings, Method

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape

EQUIVALENT = {
    **dict.fromkeys(("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "CPT"), "vpt-shallow"),
    **dict.fromkeys(("PREFIX_TUNING", "ADAPTION_PROMPT", "CARTRIDGE"), "vpt-deep"),
}
"""PEFT's kinds that learn tokens of language models, and what does that here."""

ELSEWHERE = ("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type")
"""Keys of a configuration that say where an adapter was made, and nothing of what it computes."""


@dataclass(frozen=True)
class Peft(Method):
    """What PEFT injects by a configuration: `peft:loha.json`, or in Python a PeftConfig (peft.LoHaConfig(...)).

    The file is PEFT's adapter_config.json, or as little as {"peft_type": "LOHA", "r": 8}; its content is kept with
    the graft and in the run's record. `target_modules` are the library's names, such as ["attn.qkv", "fc1"];
    without any, the projections to q, k and v are adapted (of LN_TUNING, the normalisations of blocks). The walk
    runs every layer, and a probe finds those that the library's own code would never call: they are refused. Kinds
    that learn prompts are refused, too: vpt-shallow and vpt-deep do that here. Biases train where a configuration
    says so.

    Deviations: the classifier is ours, and PEFT's `modules_to_save` is left out, which must name nothing else.
    What a kind does beside its layers (AdaLoRA's schedule of ranks, a penalty) is not done.
    """

    name: ClassVar[str] = "peft"
    whole: ClassVar[str | None] = "config"
    trains: ClassVar[str] = "what PEFT injects"
    where: ClassVar[str] = "as its configuration says"
    source: ClassVar[str] = "PEFT"
    merges: ClassVar[bool] = True

    config: str

    def __post_init__(self) -> None:
        super().__post_init__()
        text = self.config.strip()
        values = _parsed(text if text.startswith("{") else _read(text), text)
        object.__setattr__(self, "config", _spelled(values))
        kind = values["peft_type"]
        if kind in EQUIVALENT:
            raise ConfigError(
                f"peft: {kind} learns prompts for language models, and PEFT cannot inject it into a vision "
                f"transformer. Use {EQUIVALENT[kind]}, which learns tokens here."
            )

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.backbones.injected import inject
        from vitgraft.core.plan import Plan
        from vitgraft.grafts.adapted import Adapted
        from vitgraft.heads.linear import LinearHead

        found = inject(backbone, json.loads(self.config))
        grafts = {site: (Adapted(layer, base),) for site, (layer, base) in found.layers.items()}
        return Plan(LinearHead(backbone.width, classes), grafts, unfreeze=found.unfreeze)

    def formula(self, shape: "Shape") -> int:
        from vitgraft.backbones.injected import counted

        return counted(shape, json.loads(self.config))


def config_of(values: Mapping[str, Any]) -> str:
    """The text of a PeftConfig's fields."""
    return _spelled(_parsed(json.dumps(values, default=_plain), "the PeftConfig"))


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


def _read(text: str) -> str:
    path = Path(os.path.expanduser(text))
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"peft: the configuration '{text}' cannot be read ({error}). Name a JSON file of PEFT: peft:FILE."
        ) from None


def _parsed(text: str, said: str) -> dict[str, Any]:
    """The table in a text. Raises ConfigError."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"peft: {said[:80]} is no JSON: {error}.") from None
    if not isinstance(found, dict) or not isinstance(found.get("peft_type"), str):
        raise ConfigError(
            f"peft: {said[:80]} names no peft_type. Write PEFT's own JSON, such as "
            '{"peft_type": "LOHA", "r": 8}.'
        )
    return {**found, "peft_type": found["peft_type"].rpartition(".")[2].upper()}


def _spelled(values: Mapping[str, Any]) -> str:
    """The text in which equal configurations are equal: what says nothing is left out."""
    told = {key: value for key, value in values.items() if key not in ELSEWHERE and value not in (None, {})}
    return json.dumps(told, sort_keys=True, separators=(",", ":"))
