"""The weights in an ONNX export of a model of one of the known layouts, by the names that the model gave them.

torch's exporters keep a parameter's name where a node takes it as it is. The matrix of a linear map is stored
transposed and without its name: the bias that is added next tells it, or else the part of the model that the node
says it comes from. Positions that exporting computed with are left as a class token's row and the patches' rows.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitgraft.errors import CheckpointError

PRODUCTS = ("MatMul", "Gemm")
QUANTISED = ("DequantizeLinear", "MatMulInteger", "QLinearMatMul", "DynamicQuantizeLinear", "MatMulNBits")

POSITIONS = {
    "patch_embed.proj.weight": ("pos_embed", "cls_token"),
    "embeddings.patch_embeddings.projection.weight": ("embeddings.position_embeddings", "embeddings.cls_token"),
    "embeddings.patch_embedding.weight": ("embeddings.position_embedding.weight", "embeddings.class_embedding"),
}
"""The names of the positions and of the class token, by that of the patch embedding."""

TOKEN_AXES = 3  # of (1, N, D)

_ANONYMOUS = re.compile(r"onnx::.*|/.*|val_\d+|expand(_\d+)?|_?[Cc]onstant.*|\d+")
_SCOPES = "pkg.torch.onnx.name_scopes"


def read_onnx(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Named tensors, and the names of those that no name could be found for.

    Raises:
        CheckpointError: the package onnx is not installed, a damaged or quantised file, or external data that
            are not there.
    """
    graph = _graph(path)
    if found := sorted({node.op_type for node in graph.node} & set(QUANTISED)):
        raise CheckpointError(
            f"{path} is quantised ({', '.join(found)}): its weights are rounded to few bits, and are no longer "
            "those of the model. Take the model's own file, or an export of it that is not quantised."
        )
    stored = dict(_stored(graph))
    unnamed = {name for name in stored if _ANONYMOUS.fullmatch(name)}
    named = {name: value for name, value in stored.items() if name not in unnamed}
    for node in graph.node:
        if node.op_type in PRODUCTS and len(node.input) > 1 and node.input[1] in unnamed:
            module = _bias_of(graph, node, named) or _scope(node)
            if module and f"{module}.weight" not in named:
                turned = node.op_type == "Gemm" and _attribute(node, "transB")
                named[f"{module}.weight"] = stored[node.input[1]] if turned else stored[node.input[1]].T
                unnamed.discard(node.input[1])
    rest = {name: stored[name] for name in sorted(unnamed)}
    named |= _tokens(named, rest)
    floats = tuple(name for name, value in rest.items() if value.is_floating_point() and value.numel() > 1)
    return named, floats


def _graph(path: Path) -> Any:
    try:
        import onnx
    except ImportError:
        raise CheckpointError(
            f"{path} is an ONNX program, and reading its weights takes the package onnx, which is not installed: "
            "pip install 'vitgraft[onnx]'."
        ) from None
    try:
        return onnx.load(str(path)).graph
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} keeps its weights in another file, which is not there: {error}.") from None
    except Exception as error:  # whatever a damaged file leads to
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path} cannot be read as ONNX ({reason}). Fetch it again.") from None


def _stored(graph: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor that is written into the program, by the name that nodes call it."""
    for one in graph.initializer:
        yield one.name, _tensor(one)
    for node in graph.node:
        if node.op_type == "Constant" and len(node.output) == 1:
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], _tensor(attribute.t)


def _tensor(stored: Any) -> Tensor:
    from onnx import numpy_helper

    array = numpy_helper.to_array(stored)
    if array.dtype.name == "bfloat16":
        array = array.astype("float32")
    return torch.from_numpy(array.copy()) if array.dtype.kind in "fiub" else torch.empty(0)


def _bias_of(graph: Any, node: Any, named: Mapping[str, Tensor]) -> str:
    """The module whose bias is added to a product, empty if there is none."""
    inputs = list(node.input[2:])
    if node.op_type == "MatMul":
        users = [one for one in graph.node if node.output[0] in one.input]
        inputs = [name for one in users for name in one.input] if [one.op_type for one in users] == ["Add"] else []
    found = [name for name in inputs if name in named and name.endswith(".bias")]
    return found[0].removesuffix(".bias") if len(found) == 1 else ""


def _scope(node: Any) -> str:
    """The module that a node comes from, as its exporter says it: in metadata, or in the node's name."""
    for one in node.metadata_props:
        if one.key == _SCOPES:
            scopes = ast.literal_eval(one.value)
            return str(scopes[-2]) if len(scopes) > 1 else ""
    parts = node.name.strip("/").split("/")[:-1]
    return ".".join(
        part  # `blocks` stands before `blocks.0` once more
        for index, part in enumerate(parts)
        if not "".join(parts[index + 1 : index + 2]).startswith(f"{part}.")
    )


def _attribute(node: Any, name: str) -> int:
    return next((int(one.i) for one in node.attribute if one.name == name), 0)


def _tokens(named: Mapping[str, Tensor], rest: dict[str, Tensor]) -> dict[str, Tensor]:
    """Positions and class token, where exporting left them without their names and only one reading is possible.

    What is taken is removed from `rest`.
    """
    found: dict[str, Tensor] = {}
    patches = [name for name in named if name.endswith(tuple(POSITIONS))]
    if len(patches) != 1:
        return found
    ending = next(ending for ending in POSITIONS if patches[0].endswith(ending))
    prefix, width = patches[0].removesuffix(ending), named[patches[0]].shape[0]
    positions, token = (f"{prefix}{name}" for name in POSITIONS[ending])
    rows = {name: value for name, value in rest.items() if value.ndim == TOKEN_AXES and value.shape[2] == width}
    single = [name for name, value in rows.items() if value.shape[:2] == (1, 1)]
    many = [name for name, value in rows.items() if value.shape[0] == 1 and value.shape[1] > 1]
    if positions not in named and token in named and len(many) == 1 and len(single) < 2:
        found[positions] = torch.cat([rest.pop(name) for name in (*single, *many)], dim=1)
    repeated = [name for name, value in rows.items() if name in rest and value.shape[1] == 1 and _alike(value)]
    if token not in named and positions in named and len(repeated) == 1:
        found[token] = rest.pop(repeated[0])[:1]
    return found


def _alike(rows: Tensor) -> bool:
    """Whether a token (B, 1, D) was repeated for each image of a batch."""
    return bool((rows == rows[:1]).all())
