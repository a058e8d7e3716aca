"""An adapter folder loaded by PEFT itself, and compared with the graft that it was written from."""

import copy
import warnings
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from vitgraft.core.backbone import Edits
from vitgraft.core.merge import merged
from vitgraft.grafts.low_rank import LowRank
from vitgraft.models.adapters.write import Adapter
from vitgraft.models.model import Model


def gap(model: Model, adapter: Adapter, onto: nn.Module | None = None) -> float | None:
    """The largest difference of logits, on two images of noise; None if PEFT is not installed."""
    if find_spec("peft") is None:
        return None
    from peft import PeftModel

    edits = model.tuned.edits()
    others = {
        site: [graft for graft in grafts if not isinstance(graft, LowRank)]
        for site, grafts in edits.grafts.items()
    }
    rest = Edits({site: grafts for site, grafts in others.items() if grafts}, edits.values)
    base = merged(model.backbone, rest, model.tuned.head) if onto is None else copy.deepcopy(onto)
    generator = torch.Generator().manual_seed(0)
    shape = (2, model.backbone.view.channels, *model.preprocessing.size)
    probe = torch.randn(shape, generator=generator).to(model.backbone.device)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded: Any = PeftModel.from_pretrained(base.to(probe.device), str(adapter.folder)).eval()
        found = loaded(probe)
        return float((getattr(found, "logits", found) - model.tuned.eval()(probe)).abs().max())
