"""Files of EVA, DINOv3, BEiT and Swin in timm's names: by the filters that timm has for its families.

timm's filter of a family knows its publishers' layouts, splits and joins tensors, and fits positions to a grid.
"""

import contextlib
import io
from collections.abc import Callable, Mapping
from typing import Any

from timm.models import beit, eva, swin_transformer
from torch import Tensor, nn

from vitgraft.backbones.layouts import TIMM, Named, own_part
from vitgraft.backbones.weight_files import WeightFile
from vitgraft.errors import CheckpointError

FILTERS: dict[type[nn.Module], Callable[..., Mapping[str, Tensor]]] = {
    eva.Eva: eva.checkpoint_filter_fn,
    beit.Beit: beit.checkpoint_filter_fn,
    swin_transformer.SwinTransformer: swin_transformer.checkpoint_filter_fn,
}
"""timm's filter functions, by the class of model that they serve."""


def filtered(model: nn.Module, file: WeightFile) -> tuple[Named, tuple[str, ...]]:
    """The file's tensors by the model's names, and the names of those that were fitted to its size.

    Raises:
        CheckpointError: tensors that timm's filter cannot make sense of.
    """
    prefix, others, own = own_part(file)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what is no news
            found = dict(FILTERS[type(model)](dict(own), model))
    except (KeyError, ValueError, IndexError, RuntimeError, AttributeError, AssertionError) as error:
        raise CheckpointError(
            f"{file.path} does not fit the model: timm's reading of files for a {type(model).__name__} ends with "
            f"{type(error).__name__}: {error}. Choose the backbone that belongs to the file."
        ) from error
    kept = {_storage(value) for value in found.values()}
    fitted = tuple(name for name in found if name in own and own[name].shape != found[name].shape)
    dropped = [name for name, value in own.items() if name not in found and _storage(value) not in kept]
    foreign = [name for name in file.tensors if not name.startswith(prefix)]
    return Named(TIMM, found, (*file.ignored, *foreign, *dropped), prefix=prefix, others=others), fitted


def _storage(value: Any) -> int:
    return int(value.untyped_storage().data_ptr())
