"""A method in one block alone: of its plan, what edits or trains there, with the head that reads the model."""

from dataclasses import replace

from vitgraft.core.backbone import Backbone
from vitgraft.core.plan import Plan
from vitgraft.errors import ConfigError
from vitgraft.methods import Method, spec_of


def in_one_block(method: Method, backbone: Backbone, classes: int, block: int) -> Plan:
    """The plan of `method`, less everything that stands in another stage than `block`.

    Raises:
        ConfigError: a method that looks at data first, trains nothing in that block, or adds tokens.
    """
    name = spec_of(method)
    if method.looks():
        raise ConfigError(f"{name} looks at data before there is a plan, so nothing can be measured without.")
    plan = method.plan(backbone, classes)
    grafts = {site: edits for site, edits in plan.grafts.items() if site[0] == block}
    if any(place == "in" for _, place in grafts):
        raise ConfigError(
            f"{name} adds tokens, which every later block attends to: it does not stand in one block. "
            "Use a method that edits or trains blocks, such as lora."
        )
    own = plan.unfreeze & set(backbone.parameter_names(block))
    if not grafts and not own:
        raise ConfigError(
            f"{name} trains nothing in block {block} of {backbone.depth}, so there is no curve over blocks. "
            "Use a method that edits or trains every block, such as lora, adapter, ssf, bias or full."
        )
    return replace(plan, grafts=grafts, unfreeze=own, draw=None)
