"""Files that transformers writes, and other publishers' names: features are those of their own forward pass."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.layers import GELUTanh, QuickGELU, SwiGLUPacked
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tests.vit_files import DEPTH, WIDTH, refused, same, tensors_of, tiny, torch_file
from vitgraft.backbones.checkpoints import load_weights

HIDDEN = 4 * WIDTH
CLOSE = 1e-4

# --- transformers ---------------------------------------------------------------------------------------------

SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 4,
    "layer_norm_eps": 1e-6,
}
WITH_HIDDEN = {**SIZES, "intermediate_size": HIDDEN}
TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 20,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SIGLIP = {"class_token": False, "global_pool": "map", "act_layer": GELUTanh}
CLIP = {"pre_norm": True, "act_layer": QuickGELU}

CASES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any], str]] = {
    # the model and its configuration's class, arguments of theirs and of timm's, and what the layout is called
    "vit": ("ViTModel", "ViTConfig", WITH_HIDDEN, {}, "transformers ViT"),
    "vit-classifier": ("ViTForImageClassification", "ViTConfig", WITH_HIDDEN, {}, "transformers ViT"),
    "deit": ("DeiTModel", "DeiTConfig", WITH_HIDDEN, {"kind": VisionTransformerDistilled}, "transformers DeiT"),
    "deit-distilled": (
        "DeiTForImageClassificationWithTeacher",
        "DeiTConfig",
        WITH_HIDDEN,
        {"kind": VisionTransformerDistilled},
        "transformers DeiT",
    ),
    "mae": ("ViTMAEModel", "ViTMAEConfig", {**WITH_HIDDEN, "mask_ratio": 0.0}, {}, "transformers ViT"),
    "mae-decoder": (
        "ViTMAEForPreTraining",
        "ViTMAEConfig",
        {
            **WITH_HIDDEN,
            "mask_ratio": 0.0,
            "decoder_hidden_size": 16,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 16,
        },
        {},
        "transformers ViT",
    ),
    "dinov2": ("Dinov2Model", "Dinov2Config", SIZES, {"init_values": 1.0}, "transformers DINOv2"),
    "dinov2-classifier": (
        "Dinov2ForImageClassification",
        "Dinov2Config",
        SIZES,
        {"init_values": 1.0},
        "transformers DINOv2",
    ),
    "dinov2-swiglu": (
        "Dinov2Model",
        "Dinov2Config",
        {**SIZES, "use_swiglu_ffn": True},
        {"init_values": 1.0, "mlp_layer": SwiGLUPacked, "mlp_ratio": 256 / WIDTH, "act_layer": nn.SiLU},
        "transformers DINOv2",
    ),
    "dinov2-registers": (
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        {**SIZES, "num_register_tokens": 3},
        {"init_values": 1.0, "reg_tokens": 3, "no_embed_class": True},
        "transformers DINOv2",
    ),
    "clip": ("CLIPVisionModel", "CLIPVisionConfig", WITH_HIDDEN, CLIP, "transformers CLIP"),
    "clip-projected": (
        "CLIPVisionModelWithProjection",
        "CLIPVisionConfig",
        WITH_HIDDEN,
        CLIP,
        "transformers CLIP",
    ),
    "clip-both": (
        "CLIPModel",
        "CLIPConfig",
        {"vision_config": WITH_HIDDEN, "text_config": TEXT},
        CLIP,
        "transformers CLIP",
    ),
    "siglip": ("SiglipVisionModel", "SiglipVisionConfig", WITH_HIDDEN, SIGLIP, "transformers SigLIP"),
    "siglip-both": (
        "SiglipModel",
        "SiglipConfig",
        {"vision_config": WITH_HIDDEN, "text_config": TEXT},
        SIGLIP,
        "transformers SigLIP",
    ),
}


def theirs(case: str) -> Any:
    """transformers' model of a case; every value is random, norms and biases too."""
    transformers = pytest.importorskip("transformers")
    name, config, arguments, *_ = CASES[case]
    torch.manual_seed(1)
    model = getattr(transformers, name)(getattr(transformers, config)(**arguments))
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    return model.eval()


def their_tokens(model: Any, images: Tensor) -> Tensor:
    """All tokens (B, N, D) behind the last norm, of transformers' own forward pass."""
    base = next((getattr(model, one) for one in ("vit", "deit", "dinov2") if hasattr(model, one)), model)
    base = getattr(base, "vision_model", base)
    more = {"noise": torch.arange(16.0).expand(len(images), -1)} if type(base).__name__ == "ViTMAEModel" else {}
    tokens = base(images, **more).last_hidden_state
    return base.post_layernorm(tokens) if type(base).__name__.startswith("CLIP") else tokens


def ours(case: str) -> VisionTransformer:
    return tiny(2, **CASES[case][3])


def pictures() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("spelling", ["file", "model"])
@pytest.mark.parametrize("case", CASES)
def test_transformers__features_are_its_own(tmp_path: Path, case: str, spelling: str) -> None:
    """`file` is what save_pretrained writes, `model` what the model calls its tensors today."""
    source, model = theirs(case), ours(case)
    if spelling == "file":
        source.save_pretrained(tmp_path)
    else:
        save_file(
            {name: value.clone() for name, value in source.state_dict().items()}, tmp_path / "model.safetensors"
        )
    report = load_weights(model, tmp_path / "model.safetensors")
    with torch.no_grad():
        wanted, found = their_tokens(source, pictures()), model.forward_features(pictures())
    assert report.layout == CASES[case][4]
    assert (report.missing, report.unexpected) == ((), ())
    assert wanted.shape == found.shape
    assert wanted.std() > 0.3
    assert (wanted - found).abs().max() < CLOSE
    beside = {name.partition(".")[0] for name in report.dropped}
    allowed = {"pooler", "mask_token", "classifier", "cls_classifier", "distillation_classifier", "decoder"}
    text = {"text_model", "text_projection", "visual_projection", "logit_scale", "logit_bias"}
    assert beside <= allowed | text
    assert ("text_model" in beside) == case.endswith("-both")


def test_transformers__siglips_pooling_is_its_own(tmp_path: Path) -> None:
    source, model = theirs("siglip"), ours("siglip")
    source.save_pretrained(tmp_path)
    load_weights(model, tmp_path / "model.safetensors")
    with torch.no_grad():
        wanted, found = source(pictures()).pooler_output, model(pictures())
    assert (wanted - found).abs().max() < CLOSE


def test_transformers__what_was_left_out_of_two_towers_is_told(tmp_path: Path) -> None:
    theirs("clip-both").save_pretrained(tmp_path)
    report = load_weights(ours("clip"), tmp_path / "model.safetensors")
    assert report.notes().startswith(
        "model.safetensors (transformers CLIP): taken off names: vision_model.; left out"
    )
    assert "text_model.embeddings.token_embedding.weight" in report.dropped


def test_transformers__another_model_is_refused(tmp_path: Path) -> None:
    theirs("dinov2").save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    refused(tiny(2), path, "transformers DINOv2 layout", "blocks.0.ls1.gamma", "Unknown to the model (6)")
    theirs("clip").save_pretrained(tmp_path)
    refused(tiny(2), path, "Missing in the file (1): patch_embed.proj.bias", "norm_pre.weight")


# --- DINOv2's authors -----------------------------------------------------------------------------------------


def authors_names(state: dict[str, Tensor], registers: Tensor, class_position: Tensor) -> dict[str, Tensor]:
    """A timm DINOv2 with registers as its authors store it: the class token has a position, registers none."""
    named = {name: value for name, value in state.items() if name != "reg_token"}
    named["cls_token"] = state["cls_token"] - class_position
    named["pos_embed"] = torch.cat([class_position, state["pos_embed"]], dim=1)
    return named | {"register_tokens": registers, "mask_token": torch.zeros(1, WIDTH)}


@pytest.fixture
def with_registers() -> VisionTransformer:
    return tiny(1, init_values=1.0, reg_tokens=3, no_embed_class=True)


def test_dinov2__the_authors_registers(tmp_path: Path, with_registers: VisionTransformer) -> None:
    state = tensors_of(with_registers)
    named = authors_names(state, state["reg_token"], torch.randn(1, 1, WIDTH))
    model = tiny(2, init_values=1.0, reg_tokens=3, no_embed_class=True)
    report = load_weights(model, torch_file(tmp_path / "dinov2_vits14_reg4_pretrain.pth", named))
    assert (report.layout, report.missing, report.unexpected, report.dropped) == (
        "DINOv2",
        (),
        (),
        ("mask_token",),
    )
    found = tensors_of(model)
    assert torch.allclose(found.pop("cls_token"), state.pop("cls_token"), atol=1e-6)
    assert same(found, state)
    refused(
        tiny(2, init_values=1.0),
        tmp_path / "dinov2_vits14_reg4_pretrain.pth",
        "Unknown to the model (1): reg_token",
    )


@pytest.mark.parametrize("chunks", [False, True])
def test_dinov2__teacher_checkpoint(tmp_path: Path, chunks: bool) -> None:
    """What its training writes: the backbone beside the heads, blocks perhaps in chunks whose numbers go on."""
    source, model = tiny(1, init_values=1.0), tiny(2, init_values=1.0)
    named = {}
    for name, value in tensors_of(source).items():
        if chunks and name.startswith("blocks."):
            index = int(name.split(".")[1])
            name = name.replace(f"blocks.{index}.", f"blocks.{index // 2}.{index}.")
        named[f"backbone.{name}"] = value
    heads = {"dino_head.mlp.0.weight": torch.ones(2, 2), "ibot_head.mlp.0.weight": torch.ones(2, 2)}
    extra = {"backbone.mask_token": torch.zeros(1, WIDTH)}
    path = torch_file(tmp_path / "teacher_checkpoint.pth", {"teacher": named | heads | extra})
    report = load_weights(model, path)
    assert same(tensors_of(model), tensors_of(source))
    assert report.layout == "DINOv2"
    assert set(report.dropped) == {*heads, "mask_token"}
    assert "taken from teacher" in report.summary()


def test_dinov2__swiglu(tmp_path: Path) -> None:
    arguments = {"init_values": 1.0, "mlp_layer": SwiGLUPacked, "mlp_ratio": 2.0, "act_layer": nn.SiLU}
    source, model = tiny(1, **arguments), tiny(2, **arguments)
    named = {
        name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): value
        for name, value in tensors_of(source).items()
    }
    load_weights(model, torch_file(tmp_path / "dinov2_vitg14_pretrain.pth", named | {"mask_token": torch.ones(1)}))
    assert same(tensors_of(model), tensors_of(source))


# --- open_clip ------------------------------------------------------------------------------------------------

TEXT_TOWER = {
    "positional_embedding": torch.ones(7, 16),
    "text_projection": torch.ones(16, 8),
    "logit_scale": torch.ones(()),
    "token_embedding.weight": torch.ones(20, 16),
    "transformer.resblocks.0.ln_1.weight": torch.ones(16),
    "transformer.resblocks.0.attn.in_proj_weight": torch.ones(48, 16),
    "ln_final.weight": torch.ones(16),
}
CLIP_NAMES = {
    "patch_embed.proj": "conv1",
    "norm_pre": "ln_pre",
    "norm": "ln_post",
    "norm1": "ln_1",
    "norm2": "ln_2",
    "attn.proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def clip_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A timm CLIP tower as OpenAI's and open_clip's own class stores it."""
    named = {"class_embedding": state["cls_token"][0, 0], "positional_embedding": state["pos_embed"][0]}
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        before, number, part = module.split(".", 2) if name.startswith("blocks.") else ("", "", module)
        where = f"transformer.resblocks.{number}." if before else ""
        if part == "attn.qkv":
            named[f"{where}attn.in_proj_{leaf}"] = value
        elif module:
            named[f"{where}{CLIP_NAMES[part]}.{leaf}"] = value
    return {f"visual.{name}": value for name, value in named.items()}


@pytest.mark.parametrize("wrapper", ["", "module."])
def test_open_clip__its_own_tower(tmp_path: Path, wrapper: str) -> None:
    source, model = tiny(1, **CLIP), tiny(2, **CLIP)
    named = clip_names(tensors_of(source)) | {"visual.proj": torch.ones(WIDTH, 8)} | TEXT_TOWER
    content = {"epoch": 3, "state_dict": {wrapper + name: value for name, value in named.items()}}
    report = load_weights(model, torch_file(tmp_path / "open_clip_pytorch_model.bin", content))
    assert same(tensors_of(model), tensors_of(source))
    assert (report.layout, report.prefix) == ("open_clip", "visual.")
    assert set(report.dropped) == {"proj", *TEXT_TOWER}


def test_open_clip__a_tower_of_timm(tmp_path: Path) -> None:
    source, model = tiny(1, **SIGLIP), tiny(2, **SIGLIP)
    named = {f"visual.trunk.{name}": value for name, value in tensors_of(source).items()}
    head = {"visual.head.proj.weight": torch.ones(8, WIDTH)}
    save_file(named | head | TEXT_TOWER, tmp_path / "open_clip_model.safetensors")
    report = load_weights(model, tmp_path / "open_clip_model.safetensors")
    assert same(tensors_of(model), tensors_of(source))
    assert (report.layout, report.prefix) == ("open_clip", "visual.trunk.")
    assert set(report.dropped) == {*head, *TEXT_TOWER}


def test_names__in_two_spellings_are_refused(tmp_path: Path) -> None:
    named = {
        "embeddings.patch_embeddings.projection.weight": torch.ones(WIDTH, 3, 4, 4),
        "encoder.layer.0.layernorm_before.weight": torch.ones(WIDTH),
        "layers.0.layernorm_before.weight": torch.zeros(WIDTH),
    }
    save_file(named, tmp_path / "w.safetensors")
    refused(tiny(1), tmp_path / "w.safetensors", "twice, in two spellings")


def test_transformers__clip_as_older_releases_wrote_it(tmp_path: Path) -> None:
    """With the tower's prefix, and the numbers of its positions among the weights."""
    source, model = theirs("clip"), ours("clip")
    named = {f"vision_model.{name}": value.clone() for name, value in source.state_dict().items()}
    numbers = {"vision_model.embeddings.position_ids": torch.arange(17).expand(1, -1).clone()}
    report = load_weights(model, torch_file(tmp_path / "pytorch_model.bin", named | numbers))
    with torch.no_grad():
        assert (their_tokens(source, pictures()) - model.forward_features(pictures())).abs().max() < CLOSE
    assert report.dropped == ("position_ids",)


def test_transformers__without_a_class_token(tmp_path: Path) -> None:
    """As I-JEPA's: all tokens are patches."""
    pooled = {"class_token": False, "global_pool": "avg", "fc_norm": False}
    source, model = theirs("vit"), tiny(2, **pooled)
    named = {name: value.clone() for name, value in source.state_dict().items() if not name.endswith("cls_token")}
    named["embeddings.position_embeddings"] = named["embeddings.position_embeddings"][:, 1:].clone()
    report = load_weights(model, torch_file(tmp_path / "pytorch_model.bin", named))
    assert (report.missing, report.unexpected) == ((), ())
    assert torch.equal(model.pos_embed, named["embeddings.position_embeddings"])
