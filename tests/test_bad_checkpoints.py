"""Files that are no weights, or another model's: a sentence with the way out, and no value changed."""

import argparse
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.vit_files import WIDTH, jax_arrays, npz, refused, same, tensors_of, tiny, torch_file
from vitgraft.backbones.checkpoints import load_weights

Change = Callable[[dict[str, Tensor]], object]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w.pop("blocks.2.norm1.bias"), ["Missing in the file (1): blocks.2.norm1.bias."]),
        (lambda w: w.update({"blocks.3.norm1.bias": torch.ones(WIDTH)}), ["Unknown to the model (1)", "4 blocks"]),
        (lambda w: w.update({"norm.bias": torch.ones(2)}), ["Of another shape (1): norm.bias (2,) for (48,)"]),
        (lambda w: w.update({"pos_embed": torch.ones(1, 16, WIDTH)}), ["pos_embed (1, 16, 48) for (1, 17, 48)"]),
        (lambda w: w["norm.bias"].fill_(torch.nan), ["not finite in 1 tensors: norm.bias"]),
        (lambda w: w.update({"header.weight": torch.ones(1)}), ["Unknown to the model (1): header.weight"]),
        (lambda w: w.update({"fc_norm.bias": w.pop("norm.bias")}), ["(1): norm.bias", "(1): fc_norm.bias"]),
        (lambda w: w.update({"blocks.0.attn.q.bias": w.pop("blocks.0.attn.qkv.bias")[:WIDTH]}), ["attn.q.bias"]),
    ],
)
def test_misfit__changes_nothing(tmp_path: Path, change: Change, told: list[str]) -> None:
    tensors = tensors_of(tiny(1))
    change(tensors)
    refused(tiny(2), torch_file(tmp_path / "w.pth", tensors), *told)


def test_misfit__another_architecture(tmp_path: Path) -> None:
    path = torch_file(tmp_path / "small.pth", tensors_of(tiny(1, embed_dim=24)))
    refused(
        tiny(2),
        path,
        f"Of another shape ({len(tensors_of(tiny()))}): cls_token (1, 1, 24) for (1, 1, 48)",
        "and 34 more",
        "seems to hold a transformer of width 24, 3 blocks, 4 x 4 patches, 17 positions",
        "the model is a transformer of width 48",
    )


def test_misfit__no_transformer(tmp_path: Path) -> None:
    path = torch_file(tmp_path / "resnet.pth", {"conv1.weight": torch.ones(1), "layer1.0.bn1.bias": torch.ones(1)})
    refused(tiny(), path, "no vision transformer: its names begin with conv1.weight, layer1.0.bn1.bias", "(2)")


def test_misfit__jax_file_of_strange_shapes(tmp_path: Path) -> None:
    arrays = {name: np.ones(1, dtype=np.float32) for name in jax_arrays(tiny(1))}
    refused(tiny(), npz(tmp_path / "w.npz", arrays), "Of another shape")


# --- what is no weight file -----------------------------------------------------------------------------------


class Evil:
    """A pickle that would create a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Not found</html>", "is a web page"),
        (b"\n <?xml version='1.0'?><Error/>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3", "git lfs pull"),
        (b"\x1f\x8b\x08 gzip", "is no weight file"),
        (b"hello", "is no weight file"),
        (b"\x00" * 2000, "is no weight file"),
        (b"\x80\x02garbage", "cut off or damaged"),
        (b"PK\x03\x04garbage", "cut off or damaged"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{", "cut off or damaged"),
    ],
)
def test_no_weights__by_content(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    refused(tiny(), path, told)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "legacy.pth", "w.npz"])
@pytest.mark.parametrize("kept", [0.999, 0.5, 0.1])
def test_no_weights__cut_off(tmp_path: Path, name: str, kept: float) -> None:
    path, tensors = tmp_path / name, tensors_of(tiny(1))
    if name.endswith("safetensors"):
        save_file(tensors, path)
    elif name.endswith("npz"):
        npz(path, jax_arrays(tiny(1)))
    else:
        torch_file(path, tensors, _use_new_zipfile_serialization=not name.startswith("legacy"))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    refused(tiny(), path, "cut off or damaged", "bytes")


def test_no_weights__code_is_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    content = {"model": tensors_of(tiny(1)), "extra": Evil(mark)}
    model = tiny(2)
    load_weights(model, torch_file(tmp_path / "w.pth", content))
    assert same(tensors_of(model), tensors_of(tiny(1)))
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content, protocol=2))
    refused(tiny(), tmp_path / "w.pkl", "is a plain pickle (of pickle.dump, not of torch.save)", "save_file")
    refused(tiny(), npz(tmp_path / "w.npz", {"cls": np.array([Evil(mark)], dtype=object)}), "never unpickles")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (torch.ones(3), "holds a single tensor"),
        ([torch.ones(3)], "holds an object of type list"),
        ({}, "no named tensors"),
        ({"epoch": 3, "net": {"w": 1.0}}, "Its keys are epoch, net"),
        ({"epoch": 3, "net": {"w": torch.ones(1)}}, "no vision transformer: its names begin with w"),
        (torch.nn.Linear(2, 2), "is a whole pickled model, a torch.nn.modules.linear.Linear"),
        ({"epoch": 3, "model": torch.nn.Linear(2, 2)}, "holds a whole pickled model, a torch.nn.modules.linear"),
        (argparse.Namespace(lr=1), "holds an object of type argparse.Namespace, not a dictionary"),
        ({"state_dict": {}}, "no named tensors"),
    ],
)
def test_no_weights__other_contents(tmp_path: Path, content: object, told: str) -> None:
    refused(tiny(), torch_file(tmp_path / "w.pth", content), told)


def test_no_weights__arrays_of_text(tmp_path: Path) -> None:
    refused(tiny(), npz(tmp_path / "w.npz", {"words": np.array(["a", "b"])}), "no weight, 'words'")


def test_no_weights__a_torchscript_program(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "ViT-B-16.pt", "w") as archive:
        archive.writestr("ViT-B-16/constants.pkl", b"")
    refused(tiny(), tmp_path / "ViT-B-16.pt", "is a TorchScript program")


def test_no_weights__a_zip_archive_of_other_things(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "weights.pth", "w") as archive:
        archive.writestr("run/weights.safetensors", b"")
    refused(tiny(), tmp_path / "weights.pth", "is a zip archive of run/weights.safetensors", "Unpack it")


def test_no_file__near_names_are_told(tmp_path: Path) -> None:
    torch_file(tmp_path / "mae_pretrain_vit_base.pth", {})
    (tmp_path / "notes.txt").touch()
    refused(tiny(), tmp_path / "mae_pretrain_vit_bas.pth", "Did you mean mae_pretrain_vit_base.pth?")
    refused(tiny(), tmp_path / "zzz.npz", "Weight files there: mae_pretrain_vit_base.pth.")
    refused(tiny(), tmp_path / "nowhere" / "w.npz", "nor does the folder")
    refused(tiny(), tmp_path, "is a folder. It holds mae_pretrain_vit_base.pth")
