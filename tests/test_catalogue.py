"""The catalogue against the installed timm, short names everywhere, and what is said of the built-in backbone."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

import vitgraft
from tests.test_cli import call, home
from vitgraft.backbones import catalogue, checkpoints, families, hub, loading
from vitgraft.backbones.create import create_model
from vitgraft.errors import BackboneError, Told
from vitgraft.runs import run as running
from vitgraft.runs.config import RunConfig, read_toml
from vitgraft.selection import auto as searching

__all__ = ["home"]

DINOV2_S = "vit_small_patch14_dinov2.lvd142m"
TOLD = (
    f"dinov2-s is {DINOV2_S} at 224 px, not 518: 257 tokens instead of 1,370; --image-size 518 (image_size=518) "
    "for more."
)


@pytest.mark.parametrize("row", catalogue.TIMM, ids=lambda row: row.name)
def test_catalogue__agrees_with_timm(row: catalogue.Listed) -> None:
    with torch.device("meta"):
        model = timm.create_model(row.name, num_classes=0)
        published = timm.create_model(row.name)
    config = model.pretrained_cfg
    assert families.viewed(model)
    assert sum(value.numel() for value in model.parameters()) == row.parameters
    assert sum(value.numel() for value in published.parameters()) * 4 / 1e6 == pytest.approx(
        row.download, abs=0.06
    )
    assert config["input_size"] == (3, row.own_size, row.own_size)
    assert (model.embed_dim, len(model.blocks), model.num_prefix_tokens) == (row.width, row.depth, row.prefix)
    assert model.patch_embed.patch_size == (row.patch, row.patch)
    assert model.patch_embed.num_patches + model.num_prefix_tokens == row.tokens(row.own_size)
    assert model.global_pool == row.pooling
    if "." in row.name:  # MoCo-v3's are not timm's
        assert row.file == f"{config['hf_hub_id']} model.safetensors"
        assert config["license"] == row.licence


@pytest.mark.parametrize(
    "short",
    ["vit-ti16", "dinov2-s-reg", "siglip-b16", "deit-b-distilled", "dinov3-s", "eva02-s", "beit-b", "pe-b16"],
)
def test_catalogue__counts_the_flops_of_a_pass(short: str) -> None:
    row = next(row for row in catalogue.TIMM if row.short == short)
    with torch.device("meta"):
        model = timm.create_model(row.name, num_classes=0, img_size=row.image_size).eval()
        for block in model.blocks:
            block.attn.fused_attn = False
        if row.pooling == "map":
            model.attn_pool.fused_attn = False
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, row.image_size, row.image_size))
    assert row.flops() == counter.get_total_flops()


def test_catalogue__needs_no_torch() -> None:
    code = (
        "import sys; from vitgraft.backbones.catalogue import available; "
        "assert len({row.name for row in available()}) == len(available()) > 10; "
        "assert not {'torch', 'timm', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_short_names__are_one_each_and_no_name_of_timm() -> None:
    shorts = catalogue.short_names()
    assert {"vit-b16", "dinov2-s", "dinov2-b-reg", "mae-b", "clip-b16", "siglip-b16", "deit-s"} <= set(shorts)
    assert len(set(shorts)) == len(shorts)
    assert not any(timm.is_model(short) for short in shorts)
    assert all(row.image_size <= 224 for row in catalogue.TIMM if row.short)


def test_short_names__dinov2_is_at_224_px_and_that_is_told() -> None:
    with pytest.warns(Told) as told:
        config = RunConfig(data="digits", backbone="dinov2-s")
    assert [str(one.message) for one in told] == [TOLD]
    assert (config.backbone, config.image_size) == (DINOV2_S, 224)


def test_short_names__a_size_that_is_given_stays() -> None:
    with pytest.warns(Told, match=f"^dinov2-s is {DINOV2_S}\\.$"):
        config = RunConfig.of({"data": "digits", "backbone": "dinov2-s", "image_size": 518})
    assert config.image_size == 518
    with pytest.warns(Told, match=f"^dinov2-s is {DINOV2_S}\\.$"):
        own = RunConfig.of({"data": "digits", "backbone": "dinov2-s", "image_size": "none"})
    assert own.image_size == 518


def test_short_names__one_of_the_models_own_size_is_the_full_name() -> None:
    with pytest.warns(Told, match=r"^vit-b16 is vit_base_patch16_224\.augreg_in21k\.$"):
        short = RunConfig(data="digits", backbone="vit-b16")
    assert short == RunConfig(data="digits", backbone="vit_base_patch16_224.augreg_in21k")


def test_short_names__the_full_name_keeps_its_own_size() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert RunConfig(data="digits", backbone=DINOV2_S).image_size is None


def test_short_names__a_file_says_what_was_meant(tmp_path: Path) -> None:
    result = call("fit", "digits", "--backbone", "dinov2-s", "--print-config")
    assert result.stderr == f"Note: {TOLD}\n"
    (tmp_path / "run.toml").write_text(result.stdout)
    values = read_toml(tmp_path / "run.toml")
    assert (values["backbone"], values["image_size"]) == (DINOV2_S, 224)


def test_short_names__are_what_a_graft_stands_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    row = catalogue.Listed(
        "test_vit", "toy", 0, 160, 16, 64, 6, 1, "token", 0.0, "", "", "timm/x model.safetensors"
    )
    monkeypatch.setattr(catalogue, "TIMM", (row,))
    monkeypatch.setattr(catalogue, "USUAL", 32)
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "w.safetensors")
    backbone = loading.load_backbone("toy", checkpoint=tmp_path / "w.safetensors")
    told = [str(one.message) for one in recwarn if one.category is Told and str(one.message).startswith("toy")]
    assert told == [
        "toy is test_vit at 32 px, not 160: 5 tokens instead of 101; --image-size 160 (image_size=160) for more."
    ]
    assert (backbone.name, backbone.view.image_size) == ("test_vit", (32, 32))
    vitgraft.graft(backbone, "linear", 2).save(tmp_path / "graft")
    kept = json.loads((tmp_path / "graft" / "graft.json").read_text())["backbone"]
    assert (kept["name"], kept["image_size"]) == ("test_vit", 32)


@pytest.mark.parametrize(
    ("name", "near"), [("DINOv2-S", "dinov2-s"), ("vit_b16", "vit-b16"), ("clip-b-16", "clip-b16")]
)
def test_short_names__are_suggested(name: str, near: str) -> None:
    with pytest.raises(BackboneError, match=f"Did you mean {near}"):
        create_model(name)


def test_backbones__lists_what_a_picture_costs() -> None:
    rows = {row["name"]: row for row in json.loads(call("backbones", "--json").stdout)}
    assert rows[DINOV2_S]["short"] == "dinov2-s"
    assert (rows[DINOV2_S]["tokens"], rows[DINOV2_S]["image_size"]) == (257, 224)
    assert rows[DINOV2_S]["flops"] == pytest.approx(12.2e9, rel=0.01)
    assert rows["vit_base_patch16_224.mae"]["licence"] == "cc-by-nc-4.0"
    assert rows["figures"]["tokens"] == 65
    line = next(line for line in call("backbones").stdout.splitlines() if DINOV2_S in line)
    assert line.split()[:8] == [DINOV2_S, "dinov2-s", "224", "257", "12.2", "88", "MB", "apache-2.0"]


# --- no toy by accident ---------------------------------------------------------------------------------------


def told_of_the_toy(*arguments: object) -> list[str]:
    return [line for line in call("fit", *arguments).stderr.splitlines() if "built-in" in line]


def test_toy__is_told_with_the_command_to_type(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "on_disk", lambda listed: True)
    photos, out = home / "photos", tmp_path / "my run"
    assert told_of_the_toy(photos, "--out", out, "--epochs", 1, "--method", "linear", "--skip-unreadable") == [
        "Note: the built-in backbone, which is taken where none is named, was trained on drawings of 32 px: a toy "
        f"for photographs. Instead: vitgraft fit {photos} --skip-unreadable --method linear --out "
        f"'{out}-dinov2-s' --epochs 1 --backbone dinov2-s (its weights are on this disk)."
    ]
    record = json.loads((out / "record.json").read_text())
    assert record["backbone"]["name"] == "figures"  # never switched


def test_toy__is_told_where_it_belongs(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object, **more: object) -> None:
        raise BackboneError("here a run begins")

    monkeypatch.setattr(hub, "on_disk", lambda listed: False)
    monkeypatch.setattr(running, "run", stop)
    photos, config = home / "photos", tmp_path / "photos.toml"
    config.write_text(f'data = "{photos}"\n')
    for arguments in ((photos,), ("--config", config), ("vtab1k:pets",), ("--config", config, "--epochs", 2)):
        (line,) = told_of_the_toy(*arguments)
        words = " ".join(map(str, arguments))
        assert line.endswith(f"Instead: vitgraft fit {words} --backbone dinov2-s (a download of 88 MB).")
    (line,) = told_of_the_toy(photos, "--image-size", 64, "--global-pool", "avg", "--force")
    assert f"vitgraft fit {photos} --backbone dinov2-s (" in line
    monkeypatch.setattr(searching, "select", stop)
    assert len(told_of_the_toy(photos, "--method", "auto")) == 1
    assert told_of_the_toy(photos, "--backbone", "figures") == []
    assert told_of_the_toy(photos, "--backbone", "vit-b16") == []
    assert told_of_the_toy("digits") == []
    assert told_of_the_toy("no-such-folder") == []
    assert told_of_the_toy(photos, "--print-config") == []
    assert told_of_the_toy(photos, "--resume") == []


def test_on_disk__is_what_the_hub_cache_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert not hub.on_disk("timm/some model.safetensors")
    repository = tmp_path / "models--timm--some"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "snapshots" / "abc" / "model.safetensors").write_bytes(b"x")
    assert hub.on_disk("timm/some model.safetensors")


@pytest.mark.parametrize("row", [row for row in catalogue.TIMM if row.short], ids=lambda row: row.short)
def test_misfit__names_the_backbone_that_the_file_is_of(row: catalogue.Listed) -> None:
    """From timm's own model: sizes, tokens and parts tell its family, or one that is built alike."""
    with torch.device("meta"):
        model = timm.create_model(row.name, num_classes=0)
    told = checkpoints._called(dict(model.state_dict()))
    alike = {"vit-s16", "deit-s", "dino-s"}, {"vit-b16", "deit-b", "dino-b", "mae-b"}, {"vit-l16", "mae-l"}
    alike += {"clip-b16", "openclip-b16"}, {"siglip-b16", "siglip2-b16"}, {"dinov3-l", "dinov3-l-sat"}
    alike += {"beit-b", "beitv2-b"}, {"beit-l", "beitv2-l"}
    same = next((group for group in alike if row.short in group), {row.short})
    assert set(told.removeprefix(" (as ").rpartition(" ")[0].split(", ")) == same
