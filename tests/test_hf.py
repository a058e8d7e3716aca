"""transformers' models as backbones: the walk is their own forward pass, and grafts move between libraries."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import LayerNorm
from timm.models.deit import VisionTransformerDistilled
from torch import nn

import vitgraft
from tests.test_backbones import Louder
from tests.tiny import images, vit
from tests.tiny_hf import SIZES, VARIANTS, WIDE, hf
from vitgraft.backbones.checkpoints import load_weights
from vitgraft.backbones.families import wrap
from vitgraft.core.backbone import Edits
from vitgraft.core.likeness import likeness
from vitgraft.core.tuned import perturbed
from vitgraft.errors import ArtefactError, BackboneError, CheckpointError, NotFoldable


def of(model: nn.Module) -> nn.Module:
    """The base model of one with a classifier."""
    return model.base_model if "classifier" in dict(model.named_children()) else model


@pytest.mark.parametrize("variant", VARIANTS)
def test_walk__is_the_librarys_forward_pass(variant: str) -> None:
    model = VARIANTS[variant]()
    frozen = wrap(model, variant)
    pictures = images(frozen)
    with torch.no_grad():
        pooled = frozen(pictures).pooled
        if variant == "hf_mae":
            expected = frozen.view.library_pass(pictures)
        elif variant == "hf_deit":
            expected = model(pictures).last_hidden_state[:, :2].mean(dim=1)
        elif variant in ("hf_clip", "hf_siglip"):
            expected = model(pictures).pooler_output
        else:
            expected = of(model)(pictures).last_hidden_state[:, 0]
    assert torch.allclose(pooled, expected, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_edit__at_every_site_changes_the_output(variant: str) -> None:
    frozen = wrap(VARIANTS[variant](), variant)
    pictures = images(frozen, count=1)
    with torch.no_grad():
        before = frozen(pictures).pooled
        found = {site: frozen(pictures, Edits({site: (Louder(),)})).pooled for site in frozen.sites()}
    assert not [site for site, pooled in found.items() if torch.equal(pooled, before)]


@pytest.mark.parametrize("variant", ["hf_vit", "hf_dinov2", "hf_registers", "hf_clip", "hf_siglip", "hf_dinov3"])
def test_size__another_one_is_what_the_library_makes_of_it(variant: str) -> None:
    frozen = wrap(VARIANTS[variant](), variant, image_size=(24, 24))
    assert frozen.view.image_size == (24, 24)
    assert frozen.depth == 3


@pytest.mark.parametrize("variant", ["hf_vit", "hf_registers", "hf_siglip"])
def test_pooling__by_average(variant: str) -> None:
    model = VARIANTS[variant]()
    frozen = wrap(model, variant, global_pool="avg")
    pictures = images(frozen)
    with torch.no_grad():
        hidden = model(pictures).last_hidden_state[:, frozen.view.prefix_tokens :]
        assert torch.allclose(frozen(pictures).pooled, hidden.mean(dim=1), atol=1e-5)


def test_pooling__an_unknown_one_is_told() -> None:
    with pytest.raises(BackboneError, match="A ViTModel of transformers is pooled by token or avg"):
        wrap(VARIANTS["hf_vit"](), "this one", global_pool="map")


def test_wrap__leaves_the_users_model_alone() -> None:
    model = VARIANTS["hf_vit_classifier"]().train()
    frozen = wrap(model, "mine")
    assert model.training
    assert all(value.requires_grad for value in model.parameters())
    assert model.classifier.weight.data_ptr() == frozen.model.classifier.weight.data_ptr()
    assert not any("classifier" in name for name in frozen.parameter_names())


def test_wrap__refuses_another_model_of_transformers() -> None:
    model = hf("BeitModel", "BeitConfig", intermediate_size=96)
    with pytest.raises(BackboneError, match=r"BeitModel model, which vitgraft has no view of.*SiglipVisionModel"):
        wrap(model, "this one")


TWINS: dict[str, dict[str, Any]] = {
    "hf_vit": {},
    "hf_deit": {"kind": VisionTransformerDistilled},
    "hf_mae": {},
    "hf_dinov2": {"init_values": 0.3},
    "hf_registers": {"init_values": 0.3, "reg_tokens": 2, "no_embed_class": True},
    "hf_clip": {"pre_norm": True, "norm_layer": partial(LayerNorm, eps=1e-5), "act_layer": "quick_gelu"},
    "hf_siglip": {"global_pool": "map", "class_token": False, "act_layer": "gelu_tanh"},
}
"""timm's model of the same weights."""

EPS = {"layer_norm_eps": 1e-6}
"""timm's, which transformers' ViTs differ from."""


def twins(variant: str, folder: Path) -> tuple[nn.Module, nn.Module]:
    """A model of transformers, and timm's with its weights, read from its file."""
    theirs = VARIANTS[variant](**({} if variant == "hf_clip" else EPS))
    theirs.save_pretrained(folder)
    ours = vit(seed=5, **TWINS[variant])
    load_weights(ours, folder)
    return theirs, ours


@pytest.mark.parametrize("variant", TWINS)
def test_graft__of_transformers_loads_on_timms_twin_and_back(variant: str, tmp_path: Path) -> None:
    theirs, ours = twins(variant, tmp_path / "weights")
    for number, (first, second) in enumerate([(theirs, ours), (ours, theirs)]):
        model = vitgraft.graft(first, "lora:rank=2,places=all", classes=4)
        pictures = images(model.backbone)
        with perturbed(model.tuned, 0.1), torch.no_grad():
            model.save(tmp_path / f"graft{number}")
            expected = model.tuned.eval()(pictures)
        moved = vitgraft.load(tmp_path / f"graft{number}", backbone=second)
        with torch.no_grad():
            assert torch.allclose(moved.tuned(pictures), expected, atol=1e-4)


def test_graft__is_refused_on_other_weights(tmp_path: Path) -> None:
    theirs, ours = twins("hf_dinov2", tmp_path / "weights")
    vitgraft.graft(theirs, "lora:rank=2", classes=4).save(tmp_path / "graft")
    with torch.no_grad():
        ours.get_parameter("blocks.1.ls2.gamma")[3] += 1e-3
    with pytest.raises(ArtefactError, match="was trained on Dinov2Model with weights"):
        vitgraft.load(tmp_path / "graft", backbone=ours)


def test_likeness__knows_pooling_from_weights() -> None:
    model = VARIANTS["hf_vit"]()
    assert likeness(wrap(model, "one")) == likeness(wrap(model, "the same"))
    assert likeness(wrap(model, "one")) != likeness(wrap(model, "another", global_pool="avg"))


@pytest.mark.parametrize("variant", ["hf_vit", "hf_vit_classifier", "hf_deit", "hf_dinov2", "hf_registers"])
@pytest.mark.parametrize("method", ["lora", "bias", "ssf"])
def test_merge__is_transformers_own_classifier(variant: str, method: str) -> None:
    model = vitgraft.graft(wrap(VARIANTS[variant](), variant), method, classes=4).tuned.eval()
    pictures = images(model.backbone)
    with perturbed(model, 0.05), torch.no_grad():
        plain = model.merge()
        assert torch.allclose(plain(pictures).logits, model(pictures), atol=2e-5)
    assert type(plain).__name__.endswith(("ForImageClassification", "ForImageClassificationWithTeacher"))


def test_merge__says_where_transformers_has_no_such_classifier() -> None:
    model = vitgraft.graft(VARIANTS["hf_clip"](), "lora", classes=4)
    with pytest.raises(NotFoldable, match="no classifier that reads a CLIPVisionModel pooled by token"):
        model.merge()


def test_hf__a_folder_is_a_backbone_from_the_command_line_on(tmp_path: Path) -> None:
    home = tmp_path / "weights"
    VARIANTS["hf_vit_classifier"]().save_pretrained(home)
    (home / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4] * 3, "resample": 3, "size": {"height": 16}})
    )
    frozen = vitgraft.load_backbone(f"hf:{home}")
    assert type(frozen.model).__name__ == "ViTModel"
    model = vitgraft.graft(frozen, "lora:rank=2", classes=3)
    assert model.preprocessing.mean == (0.1, 0.2, 0.3)
    assert (model.preprocessing.mode, model.preprocessing.size) == ("stretch", (16, 16))
    model.save(tmp_path / "graft")
    assert vitgraft.load(tmp_path / "graft").backbone.name == f"hf:{home}"
    assert vitgraft.load_backbone(f"hf:{home}", image_size=24).view.image_size == (24, 24)
    home.rename(tmp_path / "moved")
    assert vitgraft.load(tmp_path / "graft", checkpoint=tmp_path / "moved").backbone.depth == 3


def test_hf__what_does_not_fit_is_told(tmp_path: Path) -> None:
    hf("BeitModel", "BeitConfig", intermediate_size=96).save_pretrained(tmp_path / "beit")
    with pytest.raises(BackboneError, match="is a beit, which vitgraft has no view of"):
        vitgraft.load_backbone(f"hf:{tmp_path / 'beit'}")
    VARIANTS["hf_dinov2"]().save_pretrained(tmp_path / "short")
    with pytest.raises(BackboneError, match=r"no multiple of .* patches of 4 pixels"):
        vitgraft.load_backbone(f"hf:{tmp_path / 'short'}", image_size=18)
    config = json.loads((tmp_path / "short" / "config.json").read_text())
    (tmp_path / "short" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))
    with pytest.raises(CheckpointError, match="does not fill a Dinov2Model: 36 tensors are missing"):
        vitgraft.load_backbone(f"hf:{tmp_path / 'short'}")


@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_hf__of_images_and_text_the_tower_of_images_is_taken(kind: str, tmp_path: Path) -> None:
    import transformers

    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    sizes = {**SIZES, **WIDE}
    config = getattr(transformers, f"{kind}Config")(vision_config=sizes, text_config={**text, "vocab_size": 50})
    whole = getattr(transformers, f"{kind}Model")(config)
    whole.save_pretrained(tmp_path)
    frozen = vitgraft.load_backbone(f"hf:{tmp_path}")
    assert type(frozen.model).__name__ == f"{kind}VisionModel"
    pictures = images(frozen)
    with torch.no_grad():
        assert torch.allclose(frozen(pictures).pooled, wrap(whole, "whole")(pictures).pooled, atol=1e-6)
