"""A backbone in another floating-point type, for those who ask: the shared one stays as it is.

All grafts that are moved to one type share one twin of their backbone, as they shared that.
"""

import copy
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

import torch
from torch import nn

from vitgraft.core.backbone import Backbone

_TWINS: WeakKeyDictionary[Backbone, WeakValueDictionary[torch.dtype, Backbone]] = WeakKeyDictionary()
_ORIGINS: WeakKeyDictionary[Backbone, ref[Backbone]] = WeakKeyDictionary()


def in_type(backbone: Backbone, dtype: torch.dtype) -> Backbone:
    """`backbone`, computing in `dtype`: itself if it does, else a twin, which answers to the same fingerprint.

    A twin's own original comes back where it is still in use, so that `half()` and `float()` lose nothing then. A
    twin that is widened without it has rounded weights, and a fingerprint of its own.
    """
    if backbone.dtype is dtype:
        return backbone
    known = _ORIGINS.get(backbone)
    origin = None if known is None else known()
    if origin is not None and origin.device == backbone.device:
        if origin.dtype is dtype:
            return origin
        backbone = origin
    twins = _TWINS.setdefault(backbone, WeakValueDictionary())
    twin = twins.get(dtype)
    if twin is None or twin.device != backbone.device:
        twin = _converted(backbone, dtype)
        rounded = known is not None and origin is None
        twin.known_as = None if rounded else backbone.fingerprint()
        twins[dtype] = twin
        _ORIGINS[twin] = ref(backbone)
    return twin


def _converted(backbone: Backbone, dtype: torch.dtype) -> Backbone:
    """A copy whose values are converted one by one, so that no second copy of the old ones is made."""
    memo: dict[int, object] = {}
    for value in backbone.parameters():
        memo[id(value)] = nn.Parameter(value.detach().to(dtype), requires_grad=False)
    for buffer in backbone.buffers():
        memo[id(buffer)] = buffer.detach().to(dtype) if buffer.is_floating_point() else buffer.detach().clone()
    return copy.deepcopy(backbone, memo)
