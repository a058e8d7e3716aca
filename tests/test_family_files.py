"""Files of EVA, DINOv3 and BEiT: timm's own, their authors', and those of another image size."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.tiny import VARIANTS, images, vit
from vitgraft.backbones.checkpoints import load_weights
from vitgraft.backbones.families import wrap
from vitgraft.errors import CheckpointError


def fresh(variant: str, **others: object) -> nn.Module:
    """The same architecture with other values."""
    return VARIANTS[variant](seed=1, **others)  # type: ignore[call-arg]


def outputs(model: nn.Module) -> Tensor:
    frozen = wrap(model, "this one")
    with torch.no_grad():
        return frozen(images(frozen)).pooled


def written(tensors: dict[str, Tensor], folder: Path) -> Path:
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "weights.safetensors")
    return folder / "weights.safetensors"


@pytest.mark.parametrize(
    "variant", ["eva02", "eva02_unfused", "dinov3", "perception_encoder", "rope_mixed", "beit", "swin"]
)
def test_load__timms_own_file(variant: str, tmp_path: Path) -> None:
    source, model = VARIANTS[variant](), fresh(variant)
    report = load_weights(model, written(source.state_dict(), tmp_path))
    assert torch.equal(outputs(model), outputs(source))
    assert (report.missing, report.unexpected, report.dropped, report.resampled) == ((), (), (), ())


def test_load__dinov3_as_meta_names_it(tmp_path: Path) -> None:
    """Registers and layer scales by other names, one bias for q, k and v, and rotations that follow from sizes."""
    source = fresh("dinov3", qkv_bias=True)
    found = {f"teacher.{name}": value for name, value in source.state_dict().items()}
    found["teacher.storage_tokens"] = found.pop("teacher.reg_token")
    found["teacher.mask_token"] = torch.zeros(1, 24)
    found["teacher.rope_embed.periods"] = torch.ones(2)
    for block in range(3):
        start = f"teacher.blocks.{block}"
        for number in (1, 2):
            found[f"{start}.ls{number}.gamma"] = found.pop(f"{start}.gamma_{number}")
        q, v = (found.pop(f"{start}.attn.{one}_bias") for one in "qv")
        found[f"{start}.attn.qkv.bias"] = torch.cat((q, torch.full_like(q, torch.nan), v))
        found[f"{start}.attn.qkv.bias_mask"] = torch.ones(72)
    model = VARIANTS["dinov3"](qkv_bias=True)
    report = load_weights(model, written(found, tmp_path))
    assert torch.equal(outputs(model), outputs(source))
    assert report.prefix == "teacher."
    assert {"mask_token", "rope_embed.periods"} <= set(report.dropped)


@pytest.mark.parametrize("variant", ["eva02", "beit", "beit_shared"])
def test_load__another_size_moves_positions_and_says_so(variant: str, tmp_path: Path) -> None:
    model = fresh(variant, img_size=24)
    before = outputs(model)
    report = load_weights(model, written(VARIANTS[variant]().state_dict(), tmp_path))
    assert report.resampled
    assert "resampled" in report.summary()
    assert not torch.allclose(outputs(model), before)


@pytest.mark.parametrize(("variant", "other"), [("eva02", "dinov3"), ("beit", "plain"), ("dinov3", "beit")])
def test_load__a_file_of_another_family_is_refused(variant: str, other: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"does not fit the model.*Choose the backbone"):
        load_weights(fresh(variant), written(VARIANTS[other]().state_dict(), tmp_path))


def test_load__a_classifier_of_other_classes_is_left_out(tmp_path: Path) -> None:
    source = vit(kind=type(fresh("beit")), use_rel_pos_bias=True, num_classes=7)
    model = vit(kind=type(source), use_rel_pos_bias=True, seed=1)
    report = load_weights(model, written(source.state_dict(), tmp_path))
    assert set(report.dropped) == {"head.weight", "head.bias"}
