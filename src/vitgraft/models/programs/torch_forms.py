"""Programs that torch itself loads: TorchScript, also from C++, and torch.export's."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vitgraft.models.programs.served import INPUT, Served

FACTS = "vitgraft.json"
"""The file within a torch file that tells what it is."""


def write_script(program: Served, images: Tensor, facts: Mapping[str, str], path: Path) -> None:
    """A TorchScript file: `torch.jit.load(path)`; the facts by its `_extra_files`."""
    with torch.no_grad():
        traced = torch.jit.trace(program, images, check_trace=False)
    torch.jit.save(traced, path, _extra_files={FACTS: _joined(facts)})


def run_script(path: Path, images: Tensor) -> Tensor:
    logits: Tensor = torch.jit.load(path)(images)[0]
    return logits


def write_program(program: Served, images: Tensor, facts: Mapping[str, str], path: Path) -> None:
    """A torch.export file: `torch.export.load(path).module()`; the facts by its `extra_files`."""
    torch.export.save(exported(program, images), path, extra_files={FACTS: _joined(facts)})


def run_program(path: Path, images: Tensor) -> Tensor:
    logits: Tensor = torch.export.load(path).module()(images)[0]
    return logits


def exported(program: Served, images: Tensor) -> torch.export.ExportedProgram:
    """The graph of a program, for any number of images."""
    shapes = {INPUT: {0: torch.export.Dim("batch", min=1)}}
    with torch.no_grad():
        graph = torch.export.export(program, (images,), dynamic_shapes=shapes, strict=False)
    for node in graph.graph.nodes:  # where the code lay that made a node says nothing elsewhere
        node.meta.pop("stack_trace", None)
    return graph


def _joined(facts: Mapping[str, str]) -> str:
    return json.dumps({name: json.loads(text) for name, text in facts.items()}, indent=1)
