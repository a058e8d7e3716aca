"""Folders as a hub has them: config.json and weights, in one file or in parts that an index lists."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.test_cli import call, home
from tests.test_layouts import CLIP, CLOSE, SIZES, ours, pictures, their_tokens, theirs
from tests.vit_files import refused, same, tensors_of, tiny, torch_file
from vitgraft.backbones.checkpoints import load_weights
from vitgraft.backbones.loading import load_backbone

__all__ = ["home"]


def in_parts(folder: Path, tensors: dict[str, torch.Tensor], suffix: str = "safetensors") -> Path:
    """A model in two parts with an index, as the hub has large ones."""
    folder.mkdir(exist_ok=True)
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    names = [f"{stem}-0000{number}-of-00002.{suffix}" for number in (1, 2)]
    order = sorted(tensors)
    halves = [{name: tensors[name] for name in order[::2]}, {name: tensors[name] for name in order[1::2]}]
    for name, half in zip(names, halves, strict=True):
        save_file(half, folder / name) if suffix == "safetensors" else torch_file(folder / name, half)
    index = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def test_folder__of_transformers(tmp_path: Path) -> None:
    source, model = theirs("dinov2"), ours("dinov2")
    source.save_pretrained(tmp_path / "dinov2-tiny")
    report = load_weights(model, tmp_path / "dinov2-tiny")
    with torch.no_grad():
        assert (their_tokens(source, pictures()) - model.forward_features(pictures())).abs().max() < CLOSE
    assert report.path == tmp_path / "dinov2-tiny"
    assert report.summary().startswith("dinov2-tiny (transformers DINOv2): ")


def test_folder__in_parts_as_transformers_writes_them(tmp_path: Path) -> None:
    source, model = theirs("vit"), ours("vit")
    source.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    load_weights(model, tmp_path)
    with torch.no_grad():
        assert (their_tokens(source, pictures()) - model.forward_features(pictures())).abs().max() < CLOSE


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_parts__folder_or_index(tmp_path: Path, suffix: str) -> None:
    source = tiny(1)
    in_parts(tmp_path, tensors_of(source), suffix)
    for path in (tmp_path, next(tmp_path.glob("*.index.json"))):
        model = tiny(2)
        load_weights(model, path)
        assert same(tensors_of(model), tensors_of(source))


def test_parts__one_alone_is_refused(tmp_path: Path) -> None:
    in_parts(tmp_path, tensors_of(tiny(1)))
    path = tmp_path / "model-00001-of-00002.safetensors"
    refused(tiny(2), path, "is one of 2 parts of a model", "model.safetensors.index.json, which lists them")


def test_parts__that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    in_parts(tmp_path, tensors_of(tiny(1)))
    part = tmp_path / "model-00002-of-00002.safetensors"
    named = tensors_of(tiny(1))
    save_file({name: named[name] for name in sorted(named)[3::2]}, part)
    refused(tiny(2), tmp_path, "parts do not hold what its index lists; 1 tensors")
    save_file({name: named[name] for name in sorted(named)}, part)
    refused(tiny(2), tmp_path, "parts do not hold what its index lists")
    part.unlink()
    refused(tiny(2), tmp_path, "lists 2 parts, of which 1 lack: model-00002-of-00002.safetensors")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no JSON"),
        ("[]", "holds no table"),
        ("{}", "lists no parts"),
        ('{"weight_map": {"a": 3}}', "lists no parts"),
        ('{"weight_map": {"a": "../../secret.safetensors"}}', "names files outside of its folder"),
    ],
)
def test_parts__damaged_index(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    refused(tiny(), tmp_path, told)


def test_folder__of_the_hubs_cache(tmp_path: Path) -> None:
    source, model = tiny(1), tiny(2)
    repository = tmp_path / "models--timm--tiny"
    for commit, seed in (("abc", 1), ("old", 3)):
        (repository / "snapshots" / commit).mkdir(parents=True)
        save_file(tensors_of(tiny(seed)), repository / "snapshots" / commit / "model.safetensors")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    load_weights(model, repository)
    assert same(tensors_of(model), tensors_of(source))


# --- what config.json says ------------------------------------------------------------------------------------


def configured(folder: Path, case: str, **changes: Any) -> Path:
    theirs(case).save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def test_config__another_number_of_heads_is_refused(tmp_path: Path) -> None:
    configured(tmp_path, "vit")
    refused(tiny(2, num_heads=2), tmp_path, "trained with 4 attention heads; the model has 2")
    refused(tiny(2, num_heads=2), tmp_path / "model.safetensors", "trained with 4 attention heads")


def test_config__another_activation_is_refused(tmp_path: Path) -> None:
    configured(tmp_path, "clip")
    gelu = tiny(2, pre_norm=True)
    refused(
        gelu, tmp_path, "trained with quick_gelu", "the model computes gelu", "those with quickgelu in their name"
    )
    load_weights(tiny(2, **CLIP), tmp_path)


def test_config__of_the_image_tower_is_meant(tmp_path: Path) -> None:
    configured(tmp_path, "clip-both")
    load_weights(tiny(2, **CLIP), tmp_path)
    assert SIZES["num_attention_heads"] != 2  # the text tower's
    refused(tiny(2, pre_norm=True), tmp_path, "trained with quick_gelu")


def test_config__an_approximation_is_told(tmp_path: Path) -> None:
    configured(tmp_path, "siglip")
    model = tiny(2, class_token=False, global_pool="map")
    report = load_weights(model, tmp_path)
    assert "computed otherwise: gelu, where its config.json says gelu_pytorch_tanh" in report.notes()
    assert load_weights(ours("siglip"), tmp_path).computes == ""


def test_config__damaged(tmp_path: Path) -> None:
    save_file(tensors_of(tiny(1)), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{")
    refused(tiny(2), tmp_path, "config.json is no JSON")


def test_config__of_something_else_is_not_read(tmp_path: Path) -> None:
    """Only files that a hub calls so belong to a config.json beside them."""
    save_file(tensors_of(tiny(1)), tmp_path / "mine.safetensors")
    (tmp_path / "config.json").write_text("{")
    load_weights(tiny(2), tmp_path / "mine.safetensors")


def test_card__names_what_the_user_named(tmp_path: Path) -> None:
    """The hub's cache holds links to files that are named by their digest."""
    (tmp_path / "blobs").mkdir()
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "blobs" / "1a2b")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blobs" / "1a2b")
    backbone = load_backbone("test_vit", checkpoint=tmp_path / "model.safetensors")
    assert backbone.config["source"]["checkpoint"] == str(tmp_path / "model.safetensors")


def test_folder__from_the_command_line(home: Path, tmp_path: Path) -> None:
    """A run on a copy of a hub's repository, which is found again beside the run when it has moved."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 192}
    torch.manual_seed(0)
    source = transformers.ViTModel(transformers.ViTConfig(**sizes, image_size=160, patch_size=16))
    source.save_pretrained(tmp_path / "vit-tiny")
    out = tmp_path / "run"
    options = ("--backbone", "test_vit", "--image-size", 32, "--method", "linear", "--epochs", 1, "--out", out)
    result = call("fit", home / "photos", "--checkpoint", tmp_path / "vit-tiny", *options)
    assert result.exit_code == 0, result.output
    assert "vit-tiny (transformers ViT): resampled pos_embed (10 x 10 to 2 x 2); left out pooler" in result.stderr
    (tmp_path / "vit-tiny").rename(out / "vit-tiny")
    result = call("eval", out)
    assert result.exit_code == 0, result.output
