"""ONNX programs: written by torch, run and rounded to int8 by onnxruntime."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from vitgraft.errors import ConfigError
from vitgraft.models.programs.served import INPUT, Served
from vitgraft.models.programs.torch_forms import exported

TRACE = "pkg.torch.onnx.stack_trace"
BLOCK = 128
"""Inputs of a linear map whose int8 weights share one scale: what onnxruntime's kernels are made for."""


def check(int8: bool) -> None:
    """Raise ConfigError unless the packages that write ONNX are there."""
    wanted = ("onnx", "onnxscript", *(("onnxruntime",) if int8 else ()))
    missing = [name for name in wanted if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"Writing ONNX takes the packages {', '.join(missing)}, which are not installed: "
            "pip install 'vitgraft[onnx]'."
        )


def write(program: Served, images: Tensor, facts: Mapping[str, str], path: Path) -> None:
    """An ONNX file with the facts as its metadata; weights of more than 2 GB lie beside it, in `path`.data."""
    graph = exported(program, images)
    made = torch.onnx.export(
        graph, (images,), input_names=[INPUT], output_names=list(program.outputs), dynamo=True, verbose=False
    )
    assert made is not None, "torch gives a program where none is to be written"
    made.model.metadata_props.update(facts)
    for node in made.model.graph:  # where the code lay that made a node says nothing elsewhere
        node.metadata_props.pop(TRACE, None)
    made.save(str(path), external_data=None)


def run(path: Path, images: Tensor) -> Tensor | None:
    """The logits of a file; None if onnxruntime is not installed."""
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run([session.get_outputs()[0].name], {INPUT: images.numpy()})[0])


def write_int8(program: Served, images: Tensor, facts: Mapping[str, str], path: Path) -> None:
    """As `write`, with the weights of linear maps in 8 bits, a scale for every `BLOCK` inputs of an output."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    whole = path.with_name(f"fp32-{path.name}")
    write(program, images, facts, whole)
    rounded = MatMulNBitsQuantizer(onnx.load(str(whole)), bits=8, block_size=BLOCK, is_symmetric=True)
    rounded.process()
    rounded.model.save_model_to_file(str(path), use_external_data_format=False)
    whole.unlink()
