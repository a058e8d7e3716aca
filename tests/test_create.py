"""Backbones by name: built, filled and refused in a sentence; the catalogue against the installed timm."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer

import vitgraft
from vitgraft.backbones import catalogue, create, hub
from vitgraft.backbones.create import create_model
from vitgraft.backbones.sizes import canonical_size
from vitgraft.errors import BackboneError, CheckpointError
from vitgraft.runs.config import RunConfig, read_toml
from vitgraft.runs.run import backbone_of

SMALL = "test_vit"
CARD: dict[str, Any] = {
    "architecture": {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3},
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.2, 0.1],
    "size": 16,
}


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache, and a hub at which nobody listens."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    )
    return tmp_path / "hub"


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A small built-in backbone of the test's own."""
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "figures.json").write_text(json.dumps(CARD))
    model = VisionTransformer(**CARD["architecture"], num_classes=0)
    save_file(model.state_dict(), folder / "figures.safetensors")
    monkeypatch.setattr(create, "FOLDER", folder)
    return folder


def test_random__follows_the_seed_and_leaves_the_global_state() -> None:
    state = torch.get_rng_state()
    one, report = create_model(SMALL, pretrained=False, seed=1)
    two, _ = create_model(SMALL, pretrained=False, seed=1)
    other, _ = create_model(SMALL, pretrained=False, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert report is None
    assert not one.training
    assert isinstance(one.head, torch.nn.Identity)
    assert torch.equal(one.blocks[0].attn.qkv.weight, two.blocks[0].attn.qkv.weight)
    assert not torch.equal(one.blocks[0].attn.qkv.weight, other.blocks[0].attn.qkv.weight)
    assert one.blocks[0].attn.qkv.weight.std() > 0


def test_checkpoint__other_size_and_pooling(tmp_path: Path) -> None:
    source, _ = create_model(SMALL, pretrained=False)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    state = torch.get_rng_state()
    model, report = create_model(SMALL, checkpoint=tmp_path / "w.safetensors", image_size=96, global_pool="avg")
    assert torch.equal(torch.get_rng_state(), state)
    assert report is not None
    assert not model.training
    assert report.resampled == ("pos_embed",)
    assert set(report.missing) == {"fc_norm.weight", "fc_norm.bias"}
    assert model.patch_embed.img_size == (96, 96)
    assert torch.equal(model.fc_norm.weight, torch.ones_like(model.fc_norm.weight))
    assert torch.equal(model.fc_norm.bias, torch.zeros_like(model.fc_norm.bias))
    assert model(torch.zeros(1, 3, 96, 96)).isfinite().all()


def test_checkpoint__is_taken_where_published_weights_are_not_wanted(tmp_path: Path) -> None:
    source, _ = create_model(SMALL, pretrained=False, seed=1)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    model, report = create_model(SMALL, checkpoint=tmp_path / "w.safetensors", pretrained=False, seed=2)
    assert report is not None
    assert torch.equal(model.cls_token, source.cls_token)


def test_checkpoint__no_value_is_left_uninitialised(tmp_path: Path) -> None:
    for name in (SMALL, "test_vit2", "test_vit3", "test_vit4", "deit_tiny_distilled_patch16_224"):
        source, _ = create_model(name, pretrained=False, image_size=32)
        save_file(source.state_dict(), tmp_path / "w.safetensors")
        model, report = create_model(name, checkpoint=tmp_path / "w.safetensors", image_size=32)
        assert report is not None
        assert report.missing == ()
        assert all(torch.equal(value, source.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("vit_tiny_patch16_24", {}, "Did you mean vit_tiny_patch16_224"),
        ("vit_bas_patch16_224.mae", {}, "Did you mean vit_base_patch16_224.mae"),
        ("figure", {}, "Did you mean figures"),
        ("hf-hub:", {}, "names nothing"),
        ("timm/some", {}, "A repository of the hub is named hf-hub:timm/some, a folder local-dir:timm/some."),
        ("hf_hub", {}, "no backbone 'hf_hub'"),
        ("https://timm/some", {}, "no backbone 'https://timm/some'"),
        ("", {}, "no backbone ''"),
        ("vit_base_patch16_224.mea", {}, "Did you mean 'mae'"),
        ("resnet18", {}, "is a ResNet of timm, which vitgraft has no view of"),
        ("resnet18", {"image_size": 64}, "cannot build resnet18 with img_size 64"),
        (SMALL, {"image_size": 100}, "patches of 16 pixels. Take 96 or 112"),
        (SMALL, {"image_size": 7}, "Take 16"),
        (SMALL, {"image_size": 0}, "An image size of 0: give pixels a side"),
        (SMALL, {"image_size": -16}, "An image size of -16: give pixels"),
        (SMALL, {"global_pool": "mean"}, "Known: avg, avgmax, map, max, prr, token"),
        ("deit_tiny_distilled_patch16_224", {"global_pool": "avg"}, "with global_pool avg"),
    ],
)
def test_refused__in_a_sentence(name: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(BackboneError) as caught:
        create_model(name, **options)
    assert told in str(caught.value)


def test_hub__unreachable_is_told_fast(no_hub: Path) -> None:
    start = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        create_model("vit_base_patch16_224.augreg_in21k")
    assert time.monotonic() - start < 15
    told = str(caught.value)
    assert "'model.safetensors' of the hub repository 'timm/vit_base_patch16_224.augreg_in21k'" in told
    assert "--checkpoint FILE on the command line, checkpoint=FILE in Python" in told


def test_hub__offline_mode_is_told(no_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="--checkpoint FILE on the command line"):
        create_model(SMALL)


def test_hub__cache_needs_no_network(no_hub: Path) -> None:
    source, _ = create_model(SMALL, pretrained=False, seed=5)
    repository = no_hub / "models--timm--test_vit.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    save_file(
        source.state_dict() | {"head.weight": torch.zeros(10, 64), "head.bias": torch.zeros(10)},
        repository / "snapshots" / "abc" / "model.safetensors",
    )
    model, report = create_model(SMALL)
    assert report is not None
    assert set(report.dropped) == {"head.weight", "head.bias"}
    assert torch.equal(model.cls_token, source.cls_token)


def test_hub__second_file_name_is_tried(no_hub: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def metadata(url: str, timeout: float) -> None:
        asked.append(url.rpartition("/")[2])
        if len(asked) == 1:
            raise hub.EntryNotFoundError("404")

    monkeypatch.setattr(hub, "get_hf_file_metadata", metadata)
    monkeypatch.setattr(hub, "hf_hub_download", lambda repository, file, **_: str(tmp_path / file))
    assert hub.fetch("any", {"hf_hub_id": "timm/any@v2"}) == tmp_path / "pytorch_model.bin"
    assert asked == list(hub.FILES)


def test_hub__models_without_published_weights() -> None:
    with pytest.raises(CheckpointError, match=r"no weights of it\. None are published"):
        create_model("vit_base_patch32_plus_256")
    with pytest.raises(CheckpointError, match=r"not on the hub\. Fetch http"):
        create_model("vit_huge_patch14_gap_224.in1k_ijepa")


def test_built_in__is_loaded_with_its_card(figures: Path) -> None:
    model, report = create_model("figures")
    assert report is not None
    assert (report.missing, report.unexpected) == ((), ())
    assert model.pretrained_cfg["mean"] == (0.5, 0.4, 0.3)
    assert model.pretrained_cfg["input_size"] == (3, 16, 16)
    larger, report = create_model("figures", image_size=32, global_pool="avg")
    assert report is not None
    assert report.resampled == ("pos_embed",)
    assert larger.patch_embed.img_size == (32, 32)
    other, none = create_model("figures", pretrained=False)
    assert none is None
    assert not torch.equal(other.cls_token, model.cls_token)


@pytest.mark.parametrize(
    ("text", "told"),
    [(None, "lacks the built-in"), ("{", "is damaged"), ('{"mean": []}', "lacks architecture, std, size")],
)
def test_built_in__incomplete_installation(figures: Path, text: str | None, told: str) -> None:
    card = figures / "figures.json"
    card.unlink() if text is None else card.write_text(text)
    with pytest.raises(CheckpointError, match=told):
        create_model("figures")


def test_built_in__weights_are_missing(figures: Path) -> None:
    (figures / "figures.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"figures\.safetensors does not exist"):
        create_model("figures")


@pytest.mark.parametrize(("number", "name"), list(enumerate(catalogue.BUILT_INS)))
def test_catalogue__lists_the_built_in_backbones_that_are_shipped(number: int, name: str) -> None:
    row = catalogue.available()[number]
    model, report = create_model(name)
    assert report is not None
    assert (report.missing, report.unexpected, report.dropped) == ((), (), ())
    assert row.name == name
    assert sum(value.numel() for value in model.parameters()) == row.parameters
    assert (row.image_size, row.pooling) == (model.patch_embed.img_size[0], model.global_pool)


@pytest.mark.parametrize("name", catalogue.BUILT_INS)
def test_built_in__weights_are_those_of_the_card(name: str) -> None:
    card = json.loads((create.FOLDER / f"{name}.json").read_text())
    assert hashlib.sha256((create.FOLDER / f"{name}.safetensors").read_bytes()).hexdigest() == card["sha256"]


@pytest.mark.parametrize("said", ["48x96", (48, 96), [48, 96], " 48 X 96 "])
def test_rectangle__however_it_is_said(said: Any) -> None:
    model, _ = create_model(SMALL, pretrained=False, image_size=said)
    assert model.patch_embed.img_size == (48, 96)
    assert model.patch_embed.grid_size == (3, 6)
    assert canonical_size(said) == "48x96"
    assert model(torch.zeros(1, 3, 48, 96)).isfinite().all()


def test_rectangle__a_square_is_a_number() -> None:
    assert [canonical_size(one) for one in (224, "224", "224x224", (224, 224), None)] == [224] * 4 + [None]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("48x90", r"no multiple of .*16 pixels\. Take 48x80 or 48x96\."),
        ((50, 90), "Take 48x80 or 48x96 or 64x80 or 64x96"),
        ("8x96", "Take 16x96"),
        ("x96", "An image size of 'x96': give pixels a side, such as 224, or height x width, such as 192x256"),
        ("0x96", "An image size of '0x96'"),
        ((1, 2, 3), r"An image size of \(1, 2, 3\)"),
        (float("nan"), "An image size of nan"),
    ],
)
def test_rectangle__refused(said: Any, told: str) -> None:
    with pytest.raises(BackboneError, match=told):
        create_model(SMALL, pretrained=False, image_size=said)


def test_rectangle__of_a_run(tmp_path: Path) -> None:
    """From the configuration to the graft that is loaded again: one size, in one spelling."""
    config = RunConfig.of({"data": "digits", "method": "linear", "image_size": "16 X 64", "out": str(tmp_path)})
    assert config.image_size == "16x64"
    assert RunConfig.of(read_toml(_kept(tmp_path, config))).image_size == "16x64"
    frozen = backbone_of(config)
    assert frozen.view.image_size == (16, 64)
    square, _ = create_model("figures")
    stored = square.pos_embed.half()  # what the file holds
    wanted = resample_abs_pos_embed(stored, [4, 16], [8, 8], num_prefix_tokens=1)
    assert torch.equal(frozen.model.pos_embed, wanted.float())
    model = vitgraft.graft(frozen, "lora", 10)
    assert model.preprocessing.size == (16, 64)
    model.save(tmp_path / "graft")
    again = vitgraft.load(tmp_path / "graft")
    assert again.backbone.view.image_size == (16, 64)
    picture = Image.new("RGB", (64, 16), "red")
    assert torch.equal(again.predict(picture), model.predict(picture))


def _kept(folder: Path, config: RunConfig) -> Path:
    path = folder / "run.toml"
    path.write_text(config.toml())
    return path
