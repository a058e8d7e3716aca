"""Views: the walk is the library's own forward pass, and what has no view is refused."""

import pytest
import timm
import torch
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import DiffAttention, ParallelScalingBlock, ParallelThingsBlock, ResPostBlock
from torch import nn

from tests.tiny import SMALL, SWIN, VARIANTS, backbone, images, vit
from vitgraft.backbones.families import wrap
from vitgraft.core.backbone import Backbone, Edits
from vitgraft.core.graft import Graft
from vitgraft.core.plan import Plan
from vitgraft.core.sites import PLACES, Tap
from vitgraft.core.tuned import Tuned, perturbed
from vitgraft.errors import BackboneError, ConfigError
from vitgraft.grafts.prompt import Prompt
from vitgraft.heads.linear import LinearHead


@pytest.mark.parametrize("variant", VARIANTS)
def test_walk__is_the_librarys_forward_pass(variant: str) -> None:
    model = VARIANTS[variant]()
    frozen = wrap(model, variant)
    pictures = images(frozen)
    with torch.no_grad():
        features = frozen(pictures)
        tokens = model.forward_features(pictures)
        pooled = model.forward_head(tokens, pre_logits=True)
    assert torch.equal(features.pooled, pooled) or torch.allclose(features.pooled, pooled, atol=1e-5)
    assert torch.allclose(features.tokens, tokens.flatten(1, -2), atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",
        "test_vit",
        "test_vit2",
        "test_vit3",
        "test_vit4",
        "eva02_tiny_patch14_224",
        "vit_tiny_patch16_dinov3_qkvb",
        "vit_pe_core_tiny_patch16_384",
    ],
)
def test_walk__timms_own_models(name: str) -> None:
    frozen = wrap(timm.create_model(name, num_classes=0), name)
    assert frozen.depth == len(frozen.model.blocks)


def test_walk__other_image_size() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=96, num_classes=0)
    assert wrap(model, "96 px").view.image_size == (96, 96)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: vit(block_fn=ResPostBlock), "ResPostBlock"),
        (lambda: vit(block_fn=ParallelScalingBlock), "ParallelScalingBlock"),
        (lambda: vit(block_fn=ParallelThingsBlock), "ParallelThingsBlock"),
        (lambda: vit(attn_layer=DiffAttention, num_heads=2, embed_dim=32), "DiffAttention"),
        (lambda: vit(kind=Eva, use_post_norm=True), "EvaBlockPostNorm"),
        (lambda: vit(kind=Eva, attn_type="rope", qkv_fused=False, num_kv_heads=1), "Eva with grouped-query"),
        (lambda: vit(kind=Beit, global_pool=""), "Beit model without pooling"),
        (lambda: vit(kind=SwinTransformer, **{**SWIN, "img_size": 24}), "whose 6 x 6 tokens are no whole windows"),
        (lambda: timm.create_model("test_convnext"), "ConvNeXt"),
        (lambda: nn.Linear(3, 3), "Linear"),
    ],
)
def test_wrap__refuses_what_has_no_view(build, named: str) -> None:
    with torch.device("meta"):
        model = build()
    with pytest.raises(BackboneError, match=f"{named}.*no view of"):
        wrap(model, "this one")


def test_wrap__notices_a_walk_that_differs() -> None:
    class Shifted(nn.Identity):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flip(-1)

    model = vit()
    model.patch_drop = Shifted()  # a step that the walk does not know of
    with pytest.raises(BackboneError, match="differs from VisionTransformer's own forward pass"):
        wrap(model, "shifted")


def test_wrap__leaves_the_users_model_alone() -> None:
    model = vit().train()
    wrap(model, "mine")
    assert model.training
    assert all(value.requires_grad for value in model.parameters())


def test_wrap__shares_the_weights() -> None:
    model = vit()
    frozen = wrap(model, "mine")
    ours, theirs = frozen.model.get_parameter("norm.weight"), model.get_parameter("norm.weight")
    assert ours.data_ptr() == theirs.data_ptr()


def test_backbone__stays_in_eval_mode_and_frozen() -> None:
    frozen = backbone()
    frozen.train()
    assert not any(module.training for module in frozen.modules())
    assert not any(value.requires_grad for value in frozen.parameters())


def test_parameters__classifier_is_no_part_of_the_backbone() -> None:
    with_head, without = backbone("with_classifier"), backbone("plain")
    assert with_head.parameter_names() == without.parameter_names()
    assert "head.weight" in dict(with_head.model.named_parameters())


def test_parameters__every_one_is_found() -> None:
    for variant in VARIANTS:
        frozen = backbone(variant)
        expected = {name for name, _ in frozen.model.named_parameters()} - frozen.view.head_names()
        assert set(frozen.parameter_names()) == expected, variant


def test_fingerprint__tells_weights_apart() -> None:
    frozen = backbone()
    before = frozen.fingerprint()
    assert before == backbone().fingerprint()
    with torch.no_grad():
        frozen.model.get_parameter("blocks.1.norm1.bias")[0] += 1e-6
    assert frozen.fingerprint() != before


@pytest.mark.parametrize("variant", VARIANTS)
def test_edit__at_every_site_changes_the_output(variant: str) -> None:
    """What a library reads of a module's weight, past the module, no edit can miss."""
    frozen = backbone(variant)
    pictures = images(frozen, count=1)
    with torch.no_grad():
        before = frozen(pictures).pooled
        unheard = [
            site
            for site in frozen.sites()
            if torch.equal(frozen(pictures, Edits({site: (Louder(),)})).pooled, before)
        ]
    assert not unheard


class Louder(Graft):
    """Adds a part of every value to it, more to later ones: so that no norm or softmax takes it away."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return y * torch.linspace(1, 2, y.shape[-1])


@pytest.mark.parametrize("variant", ["plain", "siglip_attention_pool", "dinov2_registers", "dinov3", "beit"])
def test_start__resumes_a_walk_in_the_middle(variant: str) -> None:
    frozen = backbone(variant)
    pictures = images(frozen)
    tap = Tap(2, "in")
    with torch.no_grad():
        whole = frozen(pictures, taps=[tap])
        rest = frozen(None, start=(2, whole.taps[tap]))
    assert torch.equal(rest.pooled, whole.pooled)


def test_taps__read_every_site() -> None:
    frozen = backbone()
    taps = [Tap(1, place) for place in PLACES] + [Tap(-1, "patch"), Tap(3, "norm"), Tap(3, "pooled")]
    features = frozen(images(frozen), taps=taps)
    assert set(features.taps) == set(taps)
    width, tokens = SMALL["embed_dim"], 17
    assert features.taps[Tap(1, "act")].shape == (4, tokens, 4 * width)
    assert features.taps[Tap(1, "q")].shape == (4, tokens, width)
    parts = [features.taps[Tap(1, place)] for place in ("q", "k", "v")]
    assert torch.equal(features.taps[Tap(1, "qkv")], torch.cat(parts, dim=-1))
    assert torch.equal(features.taps[Tap(3, "pooled")], features.pooled)


def test_taps__reduce_at_once() -> None:
    frozen = backbone()
    everything, first, mean = Tap(1, "out"), Tap(1, "out", "cls"), Tap(1, "out", "mean")
    found = frozen(images(frozen), taps=[everything, first, mean]).taps
    assert torch.equal(found[first], found[everything][:, 0])
    assert torch.allclose(found[mean], found[everything].mean(1))


def test_taps__unknown_site_is_told() -> None:
    frozen = backbone()
    with pytest.raises(ConfigError, match="block 7, place 'qkv': there is no such site"):
        frozen(images(frozen), taps=[Tap(7, "qkv")])


def test_state_dict__holds_the_library_model_and_nothing_else() -> None:
    frozen = backbone()
    assert isinstance(frozen, Backbone)
    assert set(frozen.state_dict()) == {f"model.{name}" for name in frozen.model.state_dict()}


@pytest.mark.parametrize("variant", ["plain", "mae_average", "registers_averaged"])
def test_prompts__that_begin_behind_a_cached_prefix_are_no_tokens(variant: str) -> None:
    """Whether the walk begins at the image or at the block that adds them."""
    frozen = backbone(variant)
    prompt = Prompt(3, frozen.width, frozen.view.patch_values, 0, 0.0)
    model = Tuned(frozen, Plan(LinearHead(frozen.width, 4), {(1, "in"): (prompt,)})).eval()
    pictures = images(frozen)
    assert model.prefix is not None
    with perturbed(model, 0.5), torch.no_grad():
        assert torch.allclose(model(frozen.read(pictures, model.prefix.taps)), model(pictures), atol=1e-5)


def test_prompts__are_dropped_image_by_image() -> None:
    prompt = Prompt(4, 8, 8, 0, 0.5).train()
    found = prompt(torch.zeros(6, 3, 8), torch.zeros(6, 3, 8))[:, 3:]
    assert not torch.equal(found[0], found[1])
    assert torch.equal(prompt.eval()(torch.zeros(2, 3, 8), torch.zeros(2, 3, 8))[0, 3:], prompt.tokens)
