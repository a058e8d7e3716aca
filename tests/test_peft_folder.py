"""Adapters exchanged with PEFT itself: what is written, it loads; what it has written is read."""

import copy
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

import vitgraft
from tests import toy
from tests.runs import done, refused
from tests.test_export import NAMES, model, saved
from tests.tiny import SMALL, backbone, images, vit
from vitgraft.backbones.called import never_called
from vitgraft.backbones.families import wrap
from vitgraft.core.backbone import Backbone
from vitgraft.errors import ArtefactError, Told
from vitgraft.models.adapters.read import read
from vitgraft.models.adapters.write import write

CLASSES = len(NAMES)


def plain(frozen: Backbone) -> nn.Module:
    """The library's model with a classifier that is still to be given values."""
    twin: Any = copy.deepcopy(frozen.model)
    twin.reset_classifier(CLASSES)
    return twin.eval()


def adapted(base: nn.Module, folder: Path) -> nn.Module:
    """By stock PEFT."""
    return peft.PeftModel.from_pretrained(base, str(folder)).eval()


@pytest.mark.parametrize(
    "spec",
    [
        "lora",
        "lora:rank=2,alpha=5.0,places=all",
        "lora:rank=2,places=qkv,share_a=true",
        "lora:last=1,places=v+fc2",
    ],
)
@pytest.mark.parametrize("variant", ["plain", "distilled"])
def test_write__peft_gives_the_same_logits(spec: str, variant: str, tmp_path: Path) -> None:
    frozen = backbone(variant)
    one = model(spec, frozen)
    written = write(one, tmp_path)
    loaded, pictures = adapted(plain(frozen), tmp_path), images(frozen)
    with torch.no_grad():
        assert (loaded(pictures) - one(pictures)).abs().max() < 1e-4
    layers = [layer for layer in loaded.modules() if isinstance(layer, peft.tuners.lora.LoraLayer)]
    assert len(layers) == written.modules


def test_write__what_spt_changes_besides_is_in_the_base(tmp_path: Path) -> None:
    one = model("spt-lora")
    with pytest.raises(ArtefactError, match=r"SparseDelta.*cls_token.*--base base\.safetensors"):
        write(one, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
    write(one, tmp_path / "adapter", tmp_path / "base.safetensors")
    base, pictures = plain(one.backbone), images(one.backbone)
    base.load_state_dict(load_file(tmp_path / "base.safetensors"))
    with torch.no_grad():
        assert (adapted(base, tmp_path / "adapter")(pictures) - one(pictures)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("bias", "it trains .* of the backbone's own tensors, .* and nothing that is low-rank"),
        ("vpt-deep", "3 grafts of the kind Prompt, and nothing that is low-rank"),
        ("linear", "it trains a classifier alone"),
        ("synqt", "its side reads features"),
    ],
)
def test_write__refuses_what_the_format_cannot_say(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=rf"{name} cannot be said in PEFT's format.*{why}"):
        write(model(name), tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def transformers_model() -> ViTForImageClassification:
    config = ViTConfig(
        hidden_size=SMALL["embed_dim"],
        num_hidden_layers=SMALL["depth"],
        num_attention_heads=SMALL["num_heads"],
        intermediate_size=4 * SMALL["embed_dim"],
        image_size=SMALL["img_size"],
        patch_size=SMALL["patch_size"],
        num_labels=CLASSES,
    )
    torch.manual_seed(3)
    made = ViTForImageClassification(config)
    with torch.no_grad():
        for value in made.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    return made.eval()


def timm_copy(theirs: ViTForImageClassification, folder: Path) -> Backbone:
    """The same weights as timm's model, through the file that transformers saves."""
    theirs.save_pretrained(folder)
    from functools import partial

    from timm.layers import LayerNorm

    from vitgraft.backbones.checkpoints import load_weights

    ours = vit(norm_layer=partial(LayerNorm, eps=theirs.config.layer_norm_eps))
    load_weights(ours, folder / "model.safetensors")
    return wrap(ours, "converted")


@pytest.mark.parametrize("spec", ["lora:rank=3,places=all", "lora:rank=2,places=qkv,share_a=true"])
def test_write__converted_to_transformers_names(spec: str, tmp_path: Path) -> None:
    theirs = transformers_model()
    one = model(spec, timm_copy(theirs, tmp_path / "theirs"))
    write(one, tmp_path / "adapter", onto=theirs)
    pictures = images(one.backbone)
    loaded = adapted(theirs, tmp_path / "adapter")
    with torch.no_grad():
        assert (loaded(pictures).logits - one(pictures)).abs().max() < 1e-4


def saved_by_peft(base: nn.Module, folder: Path, seed: int = 5, **config: Any) -> nn.Module:
    """An adapter with values of every kind, saved by PEFT."""
    torch.manual_seed(seed)
    made = peft.get_peft_model(base, peft.LoraConfig(**config))
    with torch.no_grad():
        for value in made.parameters():
            if value.requires_grad:
                value.add_(torch.randn_like(value) * 0.1)
    made.save_pretrained(folder)
    return made.eval()


@pytest.mark.parametrize(
    "config",
    [
        {"r": 4, "target_modules": ["attn.qkv", "fc1"], "lora_alpha": 7},
        {"r": 4, "target_modules": "all-linear", "use_rslora": True, "exclude_modules": ["head"]},
        {"r": 2, "target_modules": ["proj"], "layers_to_transform": [1, 2], "layers_pattern": "blocks"},
    ],
)
def test_read__what_peft_saved(config: dict[str, Any], tmp_path: Path) -> None:
    frozen, pictures = backbone(), images(backbone())
    if config["target_modules"] == ["proj"]:
        config = {**config, "target_modules": ["attn.proj"]}
    theirs = saved_by_peft(plain(frozen), tmp_path, modules_to_save=["head"], **config)
    one = read(tmp_path, frozen, NAMES)
    assert one.class_names == NAMES
    with torch.no_grad():
        assert (one(pictures) - theirs(pictures)).abs().max() < 1e-4
    one.save(tmp_path / "graft")
    again = vitgraft.load(tmp_path / "graft", backbone=frozen)
    with torch.no_grad():
        assert torch.equal(again(pictures), one(pictures))


def test_read__several_ranks_are_filled_up_and_told(tmp_path: Path) -> None:
    frozen, pictures = backbone(), images(backbone())
    theirs = saved_by_peft(
        plain(frozen),
        tmp_path,
        r=2,
        target_modules=["qkv"],
        rank_pattern={"blocks.1.attn.qkv": 5},
        alpha_pattern={"blocks.2.attn.qkv": 3},
        modules_to_save=["head"],
    )
    with pytest.warns(Told, match="filled up with zeros to lora's rank 5"):
        one = read(tmp_path, frozen)
    assert one.class_names == tuple(map(str, range(CLASSES)))
    with torch.no_grad():
        assert (one(pictures) - theirs(pictures)).abs().max() < 1e-4


def test_read__transformers_names_on_the_timm_model(tmp_path: Path) -> None:
    theirs = transformers_model()
    ours = timm_copy(theirs, tmp_path / "theirs")
    tuned = saved_by_peft(
        theirs, tmp_path / "adapter", r=3, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"]
    )
    one, pictures = read(tmp_path / "adapter", ours, NAMES), images(ours)
    assert vitgraft.methods.spec_of(one.method) == "lora:rank=3,alpha=8.0,places=q+v"
    with torch.no_grad():
        assert (one(pictures) - tuned(pictures).logits).abs().max() < 1e-4


def test_read__back_what_was_written(tmp_path: Path) -> None:
    one = model("lora:rank=2,places=all")
    write(one, tmp_path)
    again, pictures = read(tmp_path, one.backbone), images(one.backbone)
    assert again.class_names == NAMES
    assert again.preprocessing == one.preprocessing
    with torch.no_grad():
        assert (again(pictures) - one(pictures)).abs().max() < 1e-5
    other = wrap(vit(seed=9), "other")
    with pytest.raises(ArtefactError, match=r"was trained on weights .*Load the same weights"):
        read(tmp_path, other)


def test_read__back_labels_of_other_kinds(tmp_path: Path) -> None:
    one = vitgraft.graft(backbone(), "lora", ["height"], kind="number", preprocessing=toy.PREPROCESSING)
    write(one, tmp_path)
    again = read(tmp_path, one.backbone)
    assert (again.target, again.class_names) == (one.target, ("height",))


def test_read__without_a_classifier(tmp_path: Path) -> None:
    frozen = backbone()
    saved_by_peft(plain(frozen), tmp_path, r=2, target_modules=["qkv"])
    with pytest.raises(ArtefactError, match="holds no classifier"):
        read(tmp_path, frozen)
    with pytest.warns(Told, match="the one of 3 classes is new"):
        assert len(read(tmp_path, frozen, ["a", "b", "c"]).class_names) == 3


def test_read__refuses_in_a_sentence(tmp_path: Path) -> None:
    frozen = backbone()
    with pytest.raises(ArtefactError, match="holds no adapter_config"):
        read(tmp_path, frozen)
    saved_by_peft(plain(frozen), tmp_path / "dora", r=2, target_modules=["qkv"], use_dora=True)
    with pytest.raises(ArtefactError, match="LoRA with use_dora, which is another function"):
        read(tmp_path / "dora", frozen, NAMES)
    saved_by_peft(plain(frozen), tmp_path / "bias", r=2, target_modules=["qkv"], bias="lora_only")
    with pytest.raises(ArtefactError, match=r"also holds blocks\.0\.attn\.qkv.*vitgraft's lora cannot say"):
        read(tmp_path / "bias", frozen, NAMES)
    saved_by_peft(plain(frozen), tmp_path / "patch", r=2, target_modules=["patch_embed.proj"])
    with pytest.raises(ArtefactError, match=r"adapts patch_embed\.proj, which is no linear map of a block"):
        read(tmp_path / "patch", frozen, NAMES)
    config = json.loads((tmp_path / "dora" / "adapter_config.json").read_text())
    (tmp_path / "dora" / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "LOHA"}))
    with pytest.raises(ArtefactError, match="of the kind 'LOHA'"):
        read(tmp_path / "dora", frozen, NAMES)
    (tmp_path / "bias" / "adapter_model.safetensors").write_bytes(b"no")
    with pytest.raises(ArtefactError, match="cannot be read"):
        read(tmp_path / "bias", frozen, NAMES)


@pytest.mark.parametrize("variant", ["hf_vit", "hf_dinov2"])
def test_write__of_a_transformers_backbone(variant: str, tmp_path: Path) -> None:
    one = model("lora:rank=2,places=all", backbone(variant))
    write(one, tmp_path)
    loaded, pictures = adapted(one.merge(), tmp_path), images(one.backbone)
    base = adapted(model("linear", one.backbone).merge(), tmp_path)
    with torch.no_grad():
        assert (base(pictures).logits - one(pictures)).abs().max() < 1e-4
        assert (loaded(pictures).logits - one(pictures)).abs().max() > 1e-4, "it is for the plain model"


@pytest.mark.parametrize("variant", ["beit", "eva02"])
def test_write__a_module_whose_weight_is_read_directly_is_refused(variant: str, tmp_path: Path) -> None:
    """PEFT loads such an adapter, and the library never calls it: its places elsewhere are written."""
    frozen = backbone(variant)
    assert never_called(frozen, ["blocks.0.attn.qkv", "blocks.0.attn.proj"]) == ["blocks.0.attn.qkv"]
    with pytest.raises(
        ArtefactError, match=r"Attention computes with the weight of blocks\.0\.attn\.qkv and never"
    ):
        write(model("lora", frozen), tmp_path / "adapter")
    one = model("lora:places=proj", frozen)
    write(one, tmp_path / "adapter")
    loaded, pictures = adapted(plain(frozen), tmp_path / "adapter"), images(frozen)
    with torch.no_grad():
        assert (loaded(pictures) - one(pictures)).abs().max() < 1e-4


def test_commands__there_and_back(tmp_path: Path) -> None:
    file = saved(tmp_path)
    whole = ("export", tmp_path / "run", "--to", "peft", "--out", tmp_path / "adapter")
    told = done(*whole, "--base", tmp_path / "base.safetensors").stdout
    assert "LoRA of rank 4 on 6 linear maps" in told
    assert "Loaded by PEFT, its logits differ by at most" in told
    names: dict[str, Any] = {}
    exec(told.partition("Load it with:")[2], names)
    one = vitgraft.load(tmp_path / "run")
    pictures = images(one.backbone)
    with torch.no_grad():
        assert (names["model"](pictures) - one(pictures)).abs().max() < 1e-4
    assert "is there already" in refused(*whole)
    assert "are for adapters" in refused(
        "export", tmp_path / "run", "--out", tmp_path / "model.pt", "--base", tmp_path / "base.safetensors"
    )
    frozen = ("--backbone", "test_vit", "--checkpoint", file, "--image-size", 32, "--out", tmp_path / "again")
    assert "lora:rank=4,places=q+k+v,share_a=true" in done("import", tmp_path / "adapter", *frozen).stdout
    again = vitgraft.load(tmp_path / "again")
    assert again.class_names == one.class_names
    with torch.no_grad():
        assert (again(pictures) - one(pictures)).abs().max() < 1e-4
