"""Backbones of other channels than red, green and blue: tensors run, pictures are refused, grafts come back."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import adapt_input_conv

import vitgraft
from tests import toy
from tests.tiny import VARIANTS, images
from tests.tiny_hf import VARIANTS as HF
from vitgraft.backbones.checkpoints import load_weights
from vitgraft.errors import BackboneError, ConfigError, Told

REFUSED = r"reads 5 channels, and pictures are prepared here as red, green and blue.*\(B, 5, height, width\)"


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_file__of_three_channels_fills_a_model_of_others(channels: int, tmp_path: Path) -> None:
    source, model = VARIANTS["plain"](), VARIANTS["plain"](seed=1, in_chans=channels)  # type: ignore[call-arg]
    save_file(source.state_dict(), tmp_path / "three.safetensors")
    report = load_weights(model, tmp_path / "three.safetensors")
    expected = adapt_input_conv(channels, source.get_parameter("patch_embed.proj.weight").detach())
    assert torch.equal(model.get_parameter("patch_embed.proj.weight"), expected)
    assert f"reads {channels} channels" in report.notes()


def test_file__of_three_channels_in_a_model_of_three_is_no_news(tmp_path: Path) -> None:
    save_file(VARIANTS["plain"]().state_dict(), tmp_path / "three.safetensors")
    assert load_weights(VARIANTS["plain"](), tmp_path / "three.safetensors").notes() == ""


@pytest.mark.parametrize("build", [VARIANTS["eva02"], VARIANTS["beit"], VARIANTS["swin"]])
def test_graft__on_an_object_of_five_channels_takes_tensors(build) -> None:
    model = vitgraft.graft(build(in_chans=5), "lora:rank=2", classes=3)
    assert model(images(model.backbone)[:, :1].repeat(1, 5, 1, 1)).shape == (4, 3)
    for refused in (
        lambda: model.predict(toy.split(4).images[0]),
        lambda: model.evaluate(toy.split(4)),
        lambda: vitgraft.fit(model, toy.split(8), epochs=1),
    ):
        with pytest.raises(ConfigError, match=REFUSED):
            refused()


def test_load_backbone__of_five_channels_is_made_again_for_its_graft(tmp_path: Path) -> None:
    plain = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0)
    save_file(plain.state_dict(), tmp_path / "weights.safetensors")
    with pytest.warns(Told, match="the patch embedding reads 5 channels"):
        frozen = vitgraft.load_backbone(
            "vit_tiny_patch16_224", checkpoint=tmp_path / "weights.safetensors", image_size=32, in_chans=5
        )
    model = vitgraft.graft(frozen, "lora:rank=2", classes=3)
    model.save(tmp_path / "graft")
    with pytest.warns(Told):
        again = vitgraft.load(tmp_path / "graft")
    bands = torch.randn(2, 5, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(bands), model.tuned.eval()(bands))


def test_load_backbone__transformers_channels_are_its_configs(tmp_path: Path) -> None:
    HF["hf_vit"](num_channels=5).save_pretrained(tmp_path)
    assert vitgraft.load_backbone(f"hf:{tmp_path}").view.channels == 5
    with pytest.raises(BackboneError, match=r"its config.json says \(num_channels\)"):
        vitgraft.load_backbone(f"hf:{tmp_path}", in_chans=4)
