"""Torch files that hold more than tensors: weights are read, nothing is run, and what was taken is told."""

import argparse
import collections
import datetime
import enum
import functools
import os
import pickle
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import Tensor
from typer.testing import CliRunner

from tests import toy
from tests.vit_files import npz, refused, same, tensors_of, tiny, torch_file
from vitgraft.backbones import inert
from vitgraft.backbones.checkpoints import LoadReport, load_weights
from vitgraft.backbones.create import FOLDER
from vitgraft.backbones.loading import load_backbone
from vitgraft.cli import app
from vitgraft.errors import CheckpointError, Told


class Colour(enum.Enum):
    RED = 1


class Easy(dict):  # type: ignore[type-arg]
    """A dictionary whose keys are attributes, as configuration libraries have it."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.__dict__ = self


class Listed(list):  # type: ignore[type-arg]
    pass


class Calls:
    """Pickled as a call."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


EXTRAS: dict[str, Any] = {
    "args": argparse.Namespace(lr=1, out=Path("x")),
    "namespace": types.SimpleNamespace(a=1),
    "scalar": np.float64(3.0),
    "array": np.ones(3),
    "defaults": collections.defaultdict(list, {1: [2]}),
    "counter": collections.Counter("aab"),
    "config": Easy(a=1, b=Easy(c=2)),
    "list": Listed([1, 2]),
    "enum": {Colour.RED: Path("q")},
    "time": datetime.datetime(2026, 1, 1),
    "partial": functools.partial(print, 1),
    "plain": [{1, 2}, frozenset([1]), 1j, 2**80, b"abc", slice(1, 2), torch.float16, torch.device("cpu"), None],
    "class": Easy,
    "random": torch.random.get_rng_state(),
    "module": torch.nn.Linear(2, 2),
}
"""What training scripts keep beside the weights."""


def values() -> dict[str, Tensor]:
    """Tensors of every kind that a file can describe in its own way."""
    flat = torch.arange(20.0)
    return {
        "plain": torch.randn(3, 4),
        "transposed": torch.nn.Parameter(torch.randn(4, 2).t()),
        "part": flat[3:7],
        "other": flat[10:].view(2, 5),
        "scalar": torch.tensor(2.0),
        "empty": torch.zeros(0, 3),
        "half": torch.randn(2).half(),
        "brain": torch.randn(3).bfloat16(),
        "bool": torch.tensor([True, False]),
        "long": torch.arange(5),
    }


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_contents__are_the_tensors_whatever_else_there_is(tmp_path: Path, protocol: int, zipped: bool) -> None:
    known = values()
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    path = torch_file(tmp_path / "w.pth", {"model": known, **EXTRAS}, **options)
    found = inert.contents(path)
    read = found.read(found.content["model"])
    assert read.keys() == known.keys()
    for name, value in known.items():
        assert (read[name].dtype, read[name].shape) == (value.dtype, value.shape)
        assert torch.equal(read[name], value), name
    assert type(found.content["args"]).origin == "argparse.Namespace"


@pytest.mark.parametrize("call", [os.system, os.mkdir, eval, exec, Path.touch, __import__, getattr, print])
def test_calls__of_a_file_are_never_made(tmp_path: Path, call: Any) -> None:
    source, model, mark = tiny(1), tiny(2), tmp_path / "mark"
    arguments = {
        os.system: (f"touch {mark}",),
        os.mkdir: (str(mark),),
        eval: (f"open({str(mark)!r}, 'w')",),
        exec: (f"open({str(mark)!r}, 'w')",),
        Path.touch: (mark,),
        getattr: (os, "system"),
    }.get(call, ("antigravity",))
    if call is getattr:
        arguments = ("text", "upper")
    for zipped in (True, False):
        content = {"first": Calls(call, *arguments), "model": tensors_of(source), "args": argparse.Namespace()}
        load_weights(model, torch_file(tmp_path / "w.pth", content, _use_new_zipfile_serialization=zipped))
        assert same(tensors_of(model), tensors_of(source))
    assert not mark.exists()


def test_calls__chained_ones_stay_inert(tmp_path: Path) -> None:
    """A pickle written by hand: getattr(__import__('os'), 'system')('touch ...'), and a change of a function."""
    mark = tmp_path / "mark"
    chained = b"c__builtin__\ngetattr\n(c__builtin__\n__import__\n(S'os'\ntRS'system'\ntR(S'touch %b'\ntR."
    found = inert.Reader(_stream(chained % bytes(mark))).load()
    assert isinstance(found, inert.StandIn)
    changing = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}(X\x01\x00\x00\x00aK\x01ub."
    with pytest.raises(pickle.UnpicklingError, match="attributes of its own"):
        inert.Reader(_stream(changing)).load()
    assert not mark.exists()


def _stream(content: bytes) -> Any:
    from io import BytesIO

    return BytesIO(content)


@settings(max_examples=60, deadline=None)
@given(places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_damage__is_a_sentence_or_right_names(places: list[tuple[int, int]]) -> None:
    """Any bytes of a file of either format changed: a CheckpointError, or a dictionary of tensors."""
    from vitgraft.backbones.weight_files import read_weights

    for name, content in MUTATED.items():
        changed = bytearray(content)
        for place, value in places:
            changed[place % len(changed)] = value
        path = Path(os.environ.get("TMPDIR", "/tmp")) / f"vitgraft-mutated-{os.getpid()}-{name}"
        path.write_bytes(bytes(changed))
        try:
            assert all(isinstance(one, Tensor) for one in read_weights(path).tensors.values())
        except CheckpointError:
            pass
        finally:
            path.unlink()


def _mutated() -> dict[str, bytes]:
    from io import BytesIO

    found = {}
    for name, zipped in (("zip", True), ("legacy", False)):
        stream = BytesIO()
        content = {"model": {"a": torch.ones(2), "b": torch.ones(3)}, "args": argparse.Namespace(lr=1)}
        torch.save(content, stream, _use_new_zipfile_serialization=zipped)
        found[name] = stream.getvalue()
    stream = BytesIO()
    np.savez(stream, a=np.ones(2), b=np.ones((3, 1)))
    return found | {"npz": stream.getvalue(), "safetensors": save({"a": torch.ones(2), "b": torch.ones(3)})}


MUTATED = _mutated()


# --- which weights were taken, and that it is told -------------------------------------------------------------


def dino(source: dict[str, Tensor], student: dict[str, Tensor]) -> dict[str, Any]:
    """A checkpoint of DINO's training, written down from its conventions."""
    head = {"head.mlp.0.weight": torch.ones(2), "head.last_layer.weight": torch.ones(2)}
    teacher = {f"backbone.{name}": value for name, value in source.items()} | head
    other = {f"module.backbone.{name}": value for name, value in student.items()}
    other |= {f"module.{name}": value for name, value in head.items()}
    optimizer = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": np.float64(0.1)}]}
    args = argparse.Namespace(arch="vit_small", out=Path("x"))
    loss = {"center": torch.zeros(1, 4)}
    rest = {"optimizer": optimizer, "epoch": 800, "args": args, "dino_loss": loss}
    return {"student": other, "teacher": teacher, **rest}


@pytest.mark.parametrize("zipped", [True, False])
def test_dino__gives_the_teachers_backbone(tmp_path: Path, zipped: bool) -> None:
    source, model = tiny(1), tiny(3)
    content = dino(tensors_of(source), tensors_of(tiny(2)))
    path = torch_file(tmp_path / "dino.pth", content, _use_new_zipfile_serialization=zipped)
    report = load_weights(model, path)
    assert same(tensors_of(model), tensors_of(source))
    assert report.summary() == (
        "dino.pth (timm): taken from teacher; not taken, though there: student; taken off names: backbone.; "
        "left out head.mlp.0.weight, head.last_layer.weight."
    )


def test_averaged__weights_are_taken_beside_an_argparse_namespace(tmp_path: Path) -> None:
    """timm's own checkpoints: what the printed one-liner of earlier versions got wrong."""
    plain, averaged, model = tiny(1), tiny(2), tiny(3)
    content = {
        "epoch": 3,
        "arch": "vit",
        "state_dict": tensors_of(plain),
        "state_dict_ema": tensors_of(averaged),
        "args": argparse.Namespace(model="vit"),
        "metric": np.float64(71.2),
    }
    report = load_weights(model, torch_file(tmp_path / "last.pth.tar", content))
    assert same(tensors_of(model), tensors_of(averaged))
    assert (report.container, report.others) == ("state_dict_ema", ("state_dict",))


@pytest.mark.parametrize("keys", ["model_ema.module", "teacher", "net", "params", "backbone", "ema", "mine"])
def test_containers__of_many_names_are_told(tmp_path: Path, keys: str) -> None:
    source, model = tiny(1), tiny(2)
    content: Any = tensors_of(source)
    for key in reversed(keys.split(".")):
        content = {key: content, "epoch": 3}
    report = load_weights(model, torch_file(tmp_path / "w.pth", content))
    assert same(tensors_of(model), tensors_of(source))
    assert report.container == keys
    assert f"taken from {keys}" in report.notes()


PREFIXED = (
    "module.", "_orig_mod.", "backbone.", "model.", "encoder.", "base_model.", "module.backbone.",
    "backbone.module.", "_orig_mod.module.", "model._orig_mod.backbone.", "image_encoder.trunk.",
)  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXED)
@pytest.mark.parametrize("kind", ["safetensors", "npz", "pth"])
@pytest.mark.parametrize("alone", [True, False])
def test_prefixes__of_any_kind_of_file_are_taken_off_and_told(
    tmp_path: Path, prefix: str, kind: str, alone: bool
) -> None:
    source, model, path = tiny(1), tiny(2), tmp_path / f"w.{kind}"
    named = {prefix + name: value for name, value in tensors_of(source).items()}
    if not alone:
        named |= {"decoder.weight": torch.ones(2)}
    if kind == "safetensors":
        save_file(named, path)
    elif kind == "npz":
        npz(path, {name: value.numpy() for name, value in named.items()})
    else:
        torch_file(path, named)
    report = load_weights(model, path)
    assert same(tensors_of(model), tensors_of(source))
    taken = set("".join((*report.wrappers, report.prefix)).split("."))
    assert taken == set(prefix.split("."))
    assert report.dropped == (() if alone else ("decoder.weight",))
    assert "taken off names:" in report.notes()


def test_prefixes__within_names_are_taken_out(tmp_path: Path) -> None:
    source, model = tensors_of(tiny(1)), tiny(2)
    named = {name.replace("blocks.1.", "blocks.1._orig_mod."): value for name, value in source.items()}
    report = load_weights(model, torch_file(tmp_path / "w.pth", named))
    assert same(tensors_of(model), source)
    assert report.wrappers == ("_orig_mod.",)
    refused(tiny(2), torch_file(tmp_path / "w.pth", named | source), "holds some tensors twice")


PAIRS = [
    ("teacher.", "student."),
    ("model_ema.", "model."),
    ("vit.", "student."),
    ("encoder.", "momentum_encoder."),
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_several__the_better_one_is_taken_and_told(tmp_path: Path, first: str, second: str) -> None:
    best, other, model = tiny(1), tiny(2), tiny(3)
    named = {f"{second}backbone.{name}": value for name, value in tensors_of(other).items()}
    named |= {f"{first}backbone.{name}": value for name, value in tensors_of(best).items()}
    report = load_weights(model, torch_file(tmp_path / "w.ckpt", {"state_dict": named, "callbacks": {}}))
    assert same(tensors_of(model), tensors_of(best))
    assert f"not taken, though there: {second}backbone." in report.notes()


def test_several__of_which_none_is_better_are_refused(tmp_path: Path) -> None:
    one, other = tensors_of(tiny(1)), tensors_of(tiny(2))
    named = {f"left.{name}": value for name, value in one.items()}
    named |= {f"right.{name}": value for name, value in other.items()}
    told = ("holds several vision transformers, whose names begin with left. and right.", "Save the one")
    refused(tiny(3), torch_file(tmp_path / "w.pth", named), *told)
    content = {"left": one, "right": other, "args": argparse.Namespace()}
    refused(
        tiny(3), torch_file(tmp_path / "w.pth", content), "holds several sets of weights, under left and right"
    )


def test_plain_files__have_nothing_to_tell(tmp_path: Path) -> None:
    source = tensors_of(tiny(1, num_classes=7))
    report = load_weights(tiny(2), torch_file(tmp_path / "w.pth", source))
    assert (report.notes(), report.dropped) == ("", ("head.weight", "head.bias"))
    entries = load_weights(tiny(2), torch_file(tmp_path / "w.pth", source | {"epoch": 3}))
    assert "left out epoch" in entries.notes()


def test_told__in_python_and_on_the_command_line(tmp_path: Path) -> None:
    """The built-in backbone's weights in DINO's form: the same backbone, and a sentence."""
    from safetensors.torch import load_file

    own = load_file(FOLDER / "figures.safetensors")
    path = torch_file(tmp_path / "dino.pth", dino(own, {name: value + 1 for name, value in own.items()}))
    with pytest.warns(Told, match=r"dino\.pth \(timm\): taken from teacher; not taken, though there: student"):
        frozen = load_backbone("figures", checkpoint=path)
    assert isinstance(frozen.config["report"], LoadReport)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert frozen.fingerprint() == load_backbone("figures").fingerprint()
    photos, out = toy.some_digits(tmp_path / "digits", 40), tmp_path / "run"
    arguments = ["fit", str(photos), "--method", "linear", "--epochs", "1", "--checkpoint", str(path)]
    found = CliRunner().invoke(app, [*arguments, "--out", str(out), "--device", "cpu"])
    assert found.exit_code == 0, found.output
    assert "Note: dino.pth (timm): taken from teacher; not taken, though there: student" in found.output
