"""Methods of PEFT as methods here: by a file, a PeftConfig, in runs, on disk; and what is refused."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

import vitgraft
from tests import toy
from tests.runs import arguments, done, measured, photos, refused, weights
from tests.tiny import backbone, images
from vitgraft import methods
from vitgraft.core.shape import measure
from vitgraft.core.tuned import Tuned, perturbed
from vitgraft.errors import ConfigError, NotFoldable
from vitgraft.results import store

KINDS: dict[str, dict[str, Any]] = {
    "IA3": {},
    "LN_TUNING": {},
    "LOKR": {"r": 2},
    "HRA": {"r": 2},
    "OFT": {"oft_block_size": 4, "r": 0},
    "RANDLORA": {"r": 4},
    "FOURIERFT": {"n_frequency": 20},
    "BOFT": {"boft_block_size": 4},
}
"""Kinds that keep values in their several ways: factors, vectors, norms of their own, seeded bases, indices."""


def spec(kind: str, **fields: Any) -> str:
    return "peft:" + json.dumps({"peft_type": kind, **fields})


def tuned(text: str, variant: str = "plain", classes: int = 5, seed: int = 0) -> Tuned:
    frozen = backbone(variant)
    torch.manual_seed(seed)
    return Tuned(frozen, methods.parse(text).plan(frozen, classes))


@pytest.mark.parametrize("kind", KINDS)
def test_kinds__train_merge_and_load(kind: str, tmp_path: Path) -> None:
    """A loaded one, whose initial values were drawn otherwise, answers alike."""
    frozen, pictures = backbone(), images(backbone(), 6)
    one = vitgraft.graft(frozen, spec(kind, **KINDS[kind]), 5, preprocessing=toy.PREPROCESSING, seed=3)
    with perturbed(one.tuned, 0.05):
        one.tuned.train()(pictures).square().mean().backward()
        assert not [
            name for name, value in one.tuned.named_parameters() if value.grad is None or not value.grad.any()
        ]
        one.tuned.eval()
        assert one.tuned.trained_values().method == one.method.formula(measure(frozen))
        one.save(tmp_path)
        again = vitgraft.load(tmp_path, backbone=frozen)
        with torch.no_grad():
            wanted = one(pictures)
            assert torch.equal(again(pictures), wanted)
            assert (one.merge()(pictures) - wanted).abs().max() < 1e-4
    assert (frozen(pictures).pooled - backbone()(pictures).pooled).abs().max() == 0


def test_layer__is_what_peft_itself_computes() -> None:
    """On timm's model, wrapped by get_peft_model, with the same values."""
    frozen, pictures = backbone(), images(backbone())
    config = peft.LoraConfig(r=3, use_dora=True, target_modules=["qkv", "fc2"], lora_alpha=5)
    torch.manual_seed(0)
    model = Tuned(frozen, methods.parse(config).plan(frozen, 5))
    with perturbed(model, 0.1), torch.no_grad():
        theirs: Any = peft.get_peft_model(backbone().model, config).eval()
        ours = {
            f"base_model.model.blocks.{site.replace(':', '.attn.' if 'qkv' in site else '.mlp.')}.{name}": value
            for site, grafts in model.grafts.items()
            for name, value in grafts[0].layer.state_dict().items()
        }
        missing = theirs.load_state_dict(ours, strict=False)
        assert not missing.unexpected_keys
        assert len(ours) == 2 * frozen.depth * 3
        assert (theirs(pictures) - model.eval().features(pictures).pooled).abs().max() < 1e-4


def test_parse__file_config_and_text_are_one(tmp_path: Path) -> None:
    config = peft.LoHaConfig(r=2, target_modules=["qkv"])
    peft.LoHaConfig(r=2, target_modules=["qkv"]).save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"
    method = methods.parse(f"peft:{file}")
    assert method == methods.parse(config) == methods.parse(methods.spec_of(method))
    assert methods.parse(json.loads(json.dumps(methods.describe(method)))) == method
    file.unlink()
    assert '"r":2' in methods.spec_of(method), "the file is not needed any more"
    model = vitgraft.graft(backbone(), config, 3, preprocessing=toy.PREPROCESSING)
    vitgraft.fit(model, toy.split(12), epochs=1, device="cpu")
    assert "peft" not in methods.names()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (spec("PROMPT_TUNING"), "learns prompts for language models.*Use vpt-shallow"),
        (spec("PREFIX_TUNING", num_virtual_tokens=4), "Use vpt-deep"),
        ("peft:nowhere.json", "'nowhere.json' cannot be read"),
        ('peft:{"r": 2}', "names no peft_type"),
        ("peft:{", "is no JSON"),
        ("peft", "is nothing without its config"),
    ],
)
def test_parse__refuses_in_a_sentence(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        methods.parse(text)


@pytest.mark.parametrize(
    ("text", "variant", "why"),
    [
        (
            spec("LORA", target_modules=["qkv"]),
            "beit",
            r"Attention of beit computes with the weight of .*\.attn\.qkv and",
        ),
        (spec("LORA", target_modules=["qkv"]), "eva02", r"EvaAttention of eva02 computes with the weight"),
        (
            spec("LORA", target_modules=["patch_embed.proj"]),
            "plain",
            "adapts patch_embed.proj of plain, which is no",
        ),
        (spec("LORA", target_modules=["nothing"]), "plain", "cannot inject LORA here"),
        (spec("LOHA", rank=3), "plain", "refuses this configuration of LOHA: .*'rank'"),
        (spec("LOHAA"), "plain", "has no peft_type 'LOHAA'. Known: "),
        (spec("LORA", modules_to_save=["norm"]), "plain", "modules_to_save names norm"),
        (spec("VERA"), "plain", "cannot inject VERA here: .*shared state"),
        (spec("POLY"), "plain", "POLY cannot run on the input of blocks.0.attn.qkv alone"),
    ],
)
def test_plan__refuses_in_a_sentence(text: str, variant: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        tuned(text, variant)


def test_plan__biases_that_it_trains_are_unfrozen() -> None:
    model = tuned(spec("LORA", target_modules=["attn.proj"], bias="lora_only"))
    assert sorted(model.edits().values) == [f"blocks.{block}.attn.proj.bias" for block in range(3)]
    with perturbed(model, 0.1), torch.no_grad():
        pictures = images(model.backbone)
        assert (model.eval().merge()(pictures) - model(pictures)).abs().max() < 1e-4


def test_merge__of_a_kind_that_cannot_says_so() -> None:
    with pytest.raises(NotFoldable, match="PEFT's Linear does not merge there"):
        tuned(spec("LILY")).merge()


def test_plan__on_a_transformers_model_with_its_own_names() -> None:
    model = tuned(spec("LORA", r=2, target_modules=["q_proj", "v_proj"]), "hf_vit")
    assert sorted(model.grafts) == [f"{block}:{place}" for block in range(3) for place in "qv"]
    with perturbed(model, 0.1), torch.no_grad():
        pictures = images(model.backbone)
        assert (model.eval().merge()(pictures).logits - model(pictures)).abs().max() < 1e-4


def test_types__a_twin_has_layers_of_its_own() -> None:
    model, pictures = tuned(spec("LOHA", r=2)), images(backbone())
    with perturbed(model, 0.1), torch.no_grad():
        wanted = model.eval()(pictures)
        assert (model.double()(pictures) - wanted).abs().max() < 1e-4
        assert torch.equal(model.float()(pictures), wanted)


def test_run__by_a_file_as_any_other(tmp_path: Path) -> None:
    """Trained, recorded, measured; the record has the configuration, and the file may go."""
    file = tmp_path / "loha.json"
    file.write_text(json.dumps({"peft_type": "LOHA", "r": 2}))
    whole = arguments(weights(tmp_path / "weights.safetensors"), method=f"peft:{file}", epochs=1)
    told = done("fit", photos(tmp_path / "photos"), *whole, "--out", tmp_path / "run").stdout
    file.unlink()
    record = store.read(tmp_path / "run" / store.FILE)
    assert json.loads(record.method.fields["config"]) == {"peft_type": "LOHA", "r": 2}
    assert "test accuracy" in told
    assert measured(tmp_path / "run")["n"] > 0
    assert "cannot be said in PEFT's format" in refused(
        "export", tmp_path / "run", "--to", "peft", "--out", tmp_path / "adapter"
    )
