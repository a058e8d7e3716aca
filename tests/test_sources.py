"""Models that a repository or a folder describes: `hf-hub:` and `local-dir:`, as timm spells and builds them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from timm.models import create_model as of_timm
from timm.models import save_for_hf

import vitgraft
from tests.test_cli import call, home
from vitgraft.backbones.create import create_model
from vitgraft.backbones.loading import load_backbone
from vitgraft.errors import BackboneError, CheckpointError
from vitgraft.results import store

__all__ = ["home"]

ARGUMENTS: dict[str, Any] = {"embed_dim": 48, "num_heads": 2, "depth": 3, "img_size": 32}
MEAN = (0.1, 0.2, 0.3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with arguments and means of its own, saved as timm saves for the hub."""
    torch.manual_seed(0)
    model = of_timm("test_vit", num_classes=5, **ARGUMENTS)
    save_for_hf(
        model,
        tmp_path / "mine",
        model_args=ARGUMENTS,
        model_config={"pretrained_cfg": {"mean": MEAN}},
        safe_serialization=True,
    )
    return tmp_path / "mine"


def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_local_dir__is_what_timm_builds(folder: Path) -> None:
    model, report = create_model(f"local-dir:{folder}")
    theirs = of_timm(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    assert report is not None
    assert (set(report.dropped), report.missing) == ({"head.weight", "head.bias"}, ())
    assert len(model.blocks) == 3
    assert tuple(model.pretrained_cfg["mean"]) == MEAN
    with torch.no_grad():
        assert torch.equal(model(images()), theirs(images()))


def test_local_dir__of_an_older_timm(folder: Path) -> None:
    """There pretrained_cfg stood at the top, and the architecture's own arguments were all."""
    model = of_timm("test_vit", num_classes=0)
    save_file(model.state_dict(), folder / "model.safetensors")
    old = {
        "architecture": "test_vit",
        "num_classes": 0,
        "num_features": 64,
        "mean": MEAN,
        "license": "mit",
        "x": 1,
    }
    (folder / "config.json").write_text(json.dumps(old))
    loaded, _ = create_model(f"local-dir:{folder}")
    assert torch.equal(loaded.cls_token, model.cls_token)
    assert tuple(loaded.pretrained_cfg["mean"]) == MEAN


@pytest.mark.parametrize("name", ["hf-hub:me/mine", "hf_hub:me/mine", "hf-hub:me/mine@abc", "HF-Hub:me/mine"])
def test_hub__a_repository_in_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--me--mine"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    shutil.copytree(folder, repository / "snapshots" / "abc")
    model, _ = create_model(name)
    same, _ = create_model(f"local-dir:{folder}")
    with torch.no_grad():
        assert torch.equal(model(images()), same(images()))


def test_hub__unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        CheckpointError, match=r"its config\.json is not in the local cache.*--checkpoint FOLDER on"
    ):
        create_model("hf-hub:me/mine")


def test_hub__a_folder_that_was_fetched_serves_where_the_hub_does_not(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    frozen = load_backbone("hf-hub:me/mine", checkpoint=folder)
    assert frozen.fingerprint() == load_backbone(f"local-dir:{folder}").fingerprint()
    vitgraft.graft(frozen, "linear", 2).save(tmp_path / "run")
    card = json.loads((tmp_path / "run" / "graft.json").read_text())
    card["backbone"]["checkpoint"] = None  # as of a run that had the hub
    (tmp_path / "run" / "graft.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match=r"checkpoint=FOLDER in Python"):
        vitgraft.load(tmp_path / "run")
    assert vitgraft.load(tmp_path / "run", checkpoint=folder).backbone.fingerprint() == frozen.fingerprint()


def test_local_dir__a_graft_finds_it_again_where_it_moved(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = vitgraft.graft(load_backbone("local-dir:mine"), "lora", 2)
    model.save("runs/a")
    card = json.loads(Path("runs/a/graft.json").read_text())["backbone"]
    assert (card["name"], card["checkpoint"]) == (f"local-dir:{folder}", str(folder))
    assert vitgraft.load("runs/a").backbone.fingerprint() == model.backbone.fingerprint()
    shutil.move(folder, tmp_path / "runs" / "mine")
    assert vitgraft.load("runs/a").backbone.fingerprint() == model.backbone.fingerprint()
    shutil.move(tmp_path / "runs" / "mine", tmp_path / "other")
    loaded = vitgraft.load("runs/a", checkpoint=tmp_path / "other")
    assert loaded.backbone.fingerprint() == model.backbone.fingerprint()


def test_local_dir__from_the_command_line(folder: Path, home: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = call(
        "fit",
        home / "photos",
        "--backbone",
        f"local-dir:{folder}",
        "--epochs",
        1,
        "--out",
        out,
        "--method",
        "linear",
    )
    assert result.exit_code == 0, result.output
    record = store.read(out / "record.json")
    assert record.backbone.name == f"local-dir:{folder}"
    assert store.meant(record.config)["backbone"] == "local-dir:mine"  # wherever it lies
    assert call("eval", out).exit_code == 0


def test_names__of_runs_and_records_are_short() -> None:
    config = vitgraft.runs.config.RunConfig(data="digits", backbone="local-dir:/a/b/mine", method="linear")
    assert config.folder == Path("runs/digits-linear-mine")
    assert store.file_name(config.table()).startswith("digits-linear-mine-s0")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"architecture": "resnet18"}, "is a ResNet of timm, which vitgraft has no view of"),
        ({"architecture": "no_such_vit"}, f"a no_such_vit, which timm {timm.__version__} does not have"),
        ({"architecture": "test_vit", "model_args": {"checkpoint_path": "x"}}, "sets checkpoint_path, which"),
        ({"architecture": "test_vit", "model_args": {"no_such": 1}}, "timm cannot build local-dir:"),
        ({"architecture": "test_vit", "model_args": 3}, "not as timm writes it"),
        ({}, "names no architecture"),
        ({"model_type": "bert"}, "is a bert of transformers"),
    ],
)
def test_local_dir__refused_in_a_sentence(tmp_path: Path, config: dict[str, Any], told: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError) as caught:
        create_model(f"local-dir:{tmp_path}")
    assert told in str(caught.value)


def test_local_dir__without_a_description(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(
            BackboneError, match=r"there is no config\.json in .*--backbone NAME --checkpoint FILE"
        ):
            create_model(f"local-dir:{place}")


@pytest.mark.parametrize(
    ("name", "config", "short"),
    [
        ("Dinov2Config", {"hidden_size": 384, "num_attention_heads": 6, "patch_size": 14}, "dinov2-s "),
        ("Dinov2WithRegistersConfig", {"patch_size": 14}, "dinov2-b-reg "),
        ("ViTConfig", {}, "vit-b16 "),
        ("ViTMAEConfig", {}, "mae-b "),
        ("CLIPConfig", {"vision_config": {"patch_size": 16}}, "clip-b16 "),
        ("SiglipVisionConfig", {}, "siglip-b16 "),
        ("DeiTConfig", {"hidden_size": 384}, "deit-s "),
    ],
)
def test_local_dir__of_transformers_says_what_to_type(
    tmp_path: Path, name: str, config: dict[str, Any], short: str
) -> None:
    transformers = pytest.importorskip("transformers")
    getattr(transformers, name)(**config).save_pretrained(tmp_path)
    with pytest.raises(BackboneError) as caught:
        create_model(f"local-dir:{tmp_path}")
    assert f"--backbone {short}" in str(caught.value)
    assert f"--checkpoint {tmp_path}" in str(caught.value)
