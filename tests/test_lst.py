"""LST: gates, counts, and side blocks that are submatrices of the frozen ones."""

import pytest
import timm
import torch

from tests import toy
from tests.tiny import backbone, images, vit
from vitgraft import methods
from vitgraft.backbones.families import wrap
from vitgraft.core.tuned import Tuned
from vitgraft.data.transforms import evaluation
from vitgraft.errors import ConfigError
from vitgraft.heads.ladder import LadderHead, SideBlock
from vitgraft.heads.pruning import fisher, kept_rows, prune_into
from vitgraft.train.calibrate import Calibrator
from vitgraft.train.settings import Training


@pytest.mark.parametrize(("reduction", "count"), [(4, 7_406_412), (8, 2_376_492), (16, 856_860)])
def test_count__on_vit_b16(reduction: int, count: int) -> None:
    with torch.device("meta"):
        frozen = wrap(timm.create_model("vit_base_patch16_224", num_classes=0), "ViT-B/16")
        plan = methods.parse(f"lst:reduction={reduction},start=random").plan(frozen, 10)
        assert Tuned(frozen, plan).trained_values().method == count


def ladder(spec: str = "lst:reduction=4", variant: str = "plain") -> LadderHead:
    frozen, method = backbone(variant), methods.parse(spec)
    head = method.plan(frozen, 4, toy.findings(frozen, method, 4)).head
    assert isinstance(head, LadderHead)
    return head


def test_gates__are_a_half_at_first() -> None:
    head = ladder()
    assert torch.equal(torch.sigmoid(head.gates / 0.1), torch.full((3,), 0.5))


def position(part: torch.Tensor, whole: torch.Tensor) -> tuple[list[int], list[int]] | None:
    """Rows and columns at which `part` stands in `whole` exactly, if it does; values are all different."""
    rows, columns = [], []
    for value in part[:, 0]:
        found = (whole == value).nonzero()
        if len(found) != 1:
            return None
        rows.append(int(found[0, 0]))
    for value in part[0]:
        found = (whole == value).nonzero()
        if len(found) != 1:
            return None
        columns.append(int(found[0, 1]))
    return (rows, columns) if torch.equal(part, whole[rows][:, columns]) else None


@pytest.mark.parametrize("start", ["l1", "fisher"])
def test_pruning__side_weights_are_exact_submatrices(start: str) -> None:
    frozen = backbone()
    head = ladder(f"lst:reduction=4,start={start}")
    for block, side in enumerate(head.blocks):
        assert isinstance(side, SideBlock)
        for place in ("q", "k", "v", "proj", "fc1", "fc2"):
            (rows,) = frozen.view.blocks[block].rows(place)
            whole = rows.module.get_parameter("weight")[rows.start : rows.stop]
            found = position(getattr(side, place).weight.detach(), whole)
            assert found is not None, f"block {block}, {place}"
            bias = rows.module.get_parameter("bias")[rows.start : rows.stop]
            assert torch.equal(getattr(side, place).bias, bias[found[0]])


def test_pruning__keeps_the_rows_of_highest_importance() -> None:
    frozen = backbone()
    head = ladder()
    first = head.blocks[0]
    assert isinstance(first, SideBlock)
    weight = frozen.model.get_parameter("patch_embed.proj.weight").flatten(1)
    kept = weight.abs().sum(1).topk(6).indices.sort().values
    assert torch.equal(first.norm1.weight, frozen.model.get_parameter("blocks.0.norm1.weight")[kept])
    parts = frozen.model.get_parameter("blocks.0.attn.qkv.weight").chunk(3)
    product = torch.stack([part[:, kept].abs().sum(1) for part in parts]).prod(0)
    inner = product.topk(6).indices.sort().values
    assert torch.equal(first.v.weight, parts[2][inner][:, kept])


def test_pruning__importance_can_be_fishers() -> None:
    """With all importance on the last entries, the last rows are kept."""
    frozen = backbone()
    head = ladder()
    scores = {}
    for name, value in frozen.model.named_parameters():
        scores[name] = torch.arange(len(value)).float().view(-1, *[1] * (value.dim() - 1)).expand_as(value)
    prune_into(head, frozen, kept_rows(frozen, head.width, fisher(scores)))
    first = head.blocks[0]
    assert isinstance(first, SideBlock)
    assert torch.equal(first.fc2.weight, frozen.model.get_parameter("blocks.0.mlp.fc2.weight")[-6:, -24:])


def test_fisher__is_the_sum_of_single_images_squared_gradients() -> None:
    """Against plain autograd through timm's own forward pass; fewer images give no larger sums."""
    frozen = backbone()
    probe = toy.model("linear", frozen)
    split = toy.split(10)
    calibrator = Calibrator(
        methods.parse("lst:start=fisher"), frozen, 3, split, toy.PREPROCESSING, Training(device="cpu")
    )
    found = calibrator.squared_gradients(probe, 1_024)
    plain = vit()
    classifier = probe.head.classifier
    expected = {name: torch.zeros_like(value) for name, value in plain.named_parameters()}
    for index in range(10):
        image, label = split[index]
        tensor = evaluation(toy.PREPROCESSING)(image).unsqueeze(0)
        features = plain.forward_head(plain.forward_features(tensor), pre_logits=True)
        loss = torch.nn.functional.cross_entropy(classifier(features), torch.tensor([label]))
        grads = torch.autograd.grad(loss, list(plain.parameters()))
        for total, grad in zip(expected.values(), grads, strict=True):
            total += grad.square()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-7)
    fewer = calibrator.squared_gradients(probe, 4)
    assert all((fewer[name] <= found[name] + 1e-6).all() for name in found)
    assert not any(value.requires_grad for value in frozen.parameters())


def test_fisher__keeps_the_rows_of_highest_importance() -> None:
    frozen = backbone()
    method = methods.parse("lst:reduction=4,start=fisher")
    rows = toy.findings(frozen, method, 4)
    assert all(value.dtype is torch.int64 for value in rows.values())
    head = ladder("lst:reduction=4,start=fisher")
    plain = ladder("lst:reduction=4,start=l1")
    first, other = head.blocks[0], plain.blocks[0]
    assert isinstance(first, SideBlock)
    assert isinstance(other, SideBlock)
    weight = frozen.model.get_parameter("blocks.0.mlp.fc1.weight")
    assert torch.equal(first.fc1.weight, weight[rows["0:fc1"]][:, rows["0:proj"]])
    assert not torch.equal(first.fc1.weight, other.fc1.weight), "Fisher's rows are those of l1"


def test_start__backbones_with_gated_mlps_are_told() -> None:
    with pytest.raises(ConfigError, match="Use start=random"):
        ladder(variant="swiglu_packed")
    assert ladder("lst:reduction=4,start=random", "swiglu_packed").width == 6


def test_reduction__must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="does not divide the backbone's width 24"):
        ladder("lst:reduction=7")


def test_stream__carries_no_graph() -> None:
    frozen = backbone()
    model = Tuned(frozen, methods.parse("lst").plan(frozen, 4)).train()
    assert not any(value.requires_grad for value in model.features(images(frozen)).taps.values())


@pytest.mark.parametrize(
    ("variant", "first"), [("plain", None), ("average_norm_first", 0), ("registers_averaged", 2)]
)
def test_pooling__is_the_class_token_or_the_average_without_registers(variant: str, first: int | None) -> None:
    frozen = backbone(variant)
    method = methods.parse("lst:reduction=4")
    model = Tuned(frozen, method.plan(frozen, 4, toy.findings(frozen, method, 4))).eval()
    head = model.head
    assert isinstance(head, LadderHead)
    seen: list[torch.Tensor] = []
    head.blocks[-1].register_forward_hook(lambda _, __, out: seen.append(out))
    head.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(images(frozen))
    side, pooled = seen
    assert torch.equal(pooled, side[:, 0] if first is None else side[:, first:].mean(dim=1))
