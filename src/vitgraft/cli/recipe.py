"""Python that makes a backbone's plain model without vitgraft, for people to copy."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitgraft.models.model import Model


def made(model: "Model", kind: type, pretrained: bool = False) -> tuple[str, str]:
    """The import, and the expression that makes the plain model, which is of a `kind`, with its classes.

    With `pretrained` it has the library's own weights.
    """
    from vitgraft.backbones import hf
    from vitgraft.backbones.catalogue import BUILT_INS
    from vitgraft.backbones.create import FOLDER
    from vitgraft.backbones.sizes import for_timm

    source = dict(model.backbone.config["source"])
    arguments = {"img_size": for_timm(source["image_size"]), "global_pool": source["global_pool"]}
    chosen: dict[str, object] = {key: value for key, value in arguments.items() if value is not None}
    chosen |= {"num_classes": len(model.class_names)}
    if source["name"] in BUILT_INS:
        card = json.loads((FOLDER / f"{source['name']}.json").read_text())
        expression = f"VisionTransformer({_call({**card['architecture'], **chosen})})"
        return "from timm.models.vision_transformer import VisionTransformer", expression
    if hf.is_hf(source["name"]):
        where = source["checkpoint"] or source["name"][len(hf.PREFIX) :]
        arguments_there = f"from_pretrained({where!r}, num_labels={len(model.class_names)})"
        if pretrained:
            return "import transformers", f"transformers.{kind.__name__}.{arguments_there}"
        return "import transformers", f"transformers.{kind.__name__}(transformers.AutoConfig.{arguments_there})"
    chosen |= {"pretrained": True} if pretrained else {}
    return "import timm", f"timm.create_model({source['name']!r}, {_call(chosen)})"


def _call(arguments: dict[str, object]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())
