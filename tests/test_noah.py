"""NOAH: one supernet of shared values, live counts, a search that goes on, architectures as files."""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import vitgraft
from tests import toy
from tests.tiny import backbone, images, vit
from vitgraft import methods
from vitgraft.backbones.families import wrap
from vitgraft.core.plan import Plan
from vitgraft.core.shape import measure
from vitgraft.core.tuned import Tuned, perturbed
from vitgraft.errors import ConfigError
from vitgraft.grafts.elastic import Elastic, Supernet
from vitgraft.heads.linear import LinearHead
from vitgraft.methods.noah import FILE, Noah
from vitgraft.runs.config import RunConfig
from vitgraft.runs.run import run
from vitgraft.search.evolution import Candidate
from vitgraft.train import calibrate
from vitgraft.train.settings import Training

QUICK = "noah:supernet=1,population=6,generations=2,parents=2"
SETTINGS = Training(epochs=1, batch_size=10, device="cpu")
SOME: Candidate = ((5, 1, 0), (1, 10, 5), (10, 0, 0))


def graft(spec: str = QUICK, **more: Any) -> vitgraft.Model:
    given = {"data": toy.split(20), "val": toy.split(12, seed=1), "preprocessing": toy.PREPROCESSING, **more}
    return vitgraft.graft(vit(), spec, toy.CLASSES, settings=SETTINGS, **given)


def supernet(method: Noah | None = None) -> tuple[Supernet, Tuned]:
    frozen, method = backbone(), method or Noah(dropout=0.0)
    dials = method._dials(frozen.depth)
    torch.manual_seed(0)
    net = Supernet(dials, method._parts(frozen, ((10, 10, 10),) * 3))
    return net, Tuned(frozen, Plan(LinearHead(frozen.width, toy.CLASSES), net.grafts, draw=net.draw))


def findings(candidate: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    return {
        kind: torch.tensor(sizes) for kind, sizes in zip(("prompt", "lora", "adapter"), candidate, strict=True)
    }


def test_cut__shares_storage_with_the_supernet() -> None:
    net, _ = supernet()
    net.choose(SOME)
    for kind in net.parts:
        for at in kind:
            for elastic in at.values():
                assert isinstance(elastic, Elastic)
                own = {value.untyped_storage().data_ptr() for value in elastic.graft.parameters()}
                assert {value.untyped_storage().data_ptr() for value in elastic.values().values()} == own


def test_cut__equals_a_plan_of_that_size_with_the_same_values() -> None:
    """Logits of a chosen architecture are those of the architecture built alone, prompts that stay included."""
    net, model = supernet()
    frozen, method = model.backbone, Noah(dropout=0.0)
    with perturbed(model, 0.1):
        net.choose(SOME)
        alone = Tuned(frozen, method.plan(frozen, toy.CLASSES, findings(SOME)))
        with torch.no_grad():
            for site, grafts in alone.plan.grafts.items():
                (elastic,) = model.plan.grafts[site]
                assert isinstance(elastic, Elastic)
                for name, value in grafts[0].named_parameters():
                    value.copy_(elastic.values()[name])
            alone.head.load_state_dict(model.head.state_dict())
            pictures = images(frozen)
            torch.testing.assert_close(alone.eval()(pictures), model.eval()(pictures))
            net.choose(((10, 10, 10),) * 3)
            assert not torch.allclose(alone(pictures), model(pictures), atol=1e-4)


def test_cut__gradients_stay_within_it() -> None:
    net, model = supernet()
    net.choose(((1, 0, 0), (5, 0, 0), (0, 0, 0)))
    with perturbed(model):
        model(images(model.backbone)).sum().backward()
    (low,) = model.plan.grafts[0, "qkv"]
    down = low.get_parameter("graft.down").grad
    assert down is not None
    assert down[:5].any(1).all()
    assert not down[5:].any()
    (late,) = model.plan.grafts[1, "qkv"]
    assert late.get_parameter("graft.down").grad is None


def test_count__is_of_what_is_trained() -> None:
    net, model = supernet()
    frozen = model.backbone
    for seed in range(20):
        net.draw(seed)
        candidate = tuple(
            tuple(next(iter(at.values())).size for at in kind)  # type: ignore[attr-defined]
            for kind in net.parts
        )
        alone = Tuned(frozen, Noah().plan(frozen, toy.CLASSES, findings(candidate)))
        assert net.count(candidate) == alone.trained_values().method


def test_count__is_the_papers_on_its_own_backbone() -> None:
    """3,072 Σ r + Σ (1,537 h + 768 where h > 0) + 768 Σ p on ViT-B/16, without the published dead prompts."""
    with torch.device("meta"):
        frozen = wrap(timm.create_model("vit_base_patch16_224", num_classes=0), "vit_base_patch16_224")
    method = Noah()
    dials = method._dials(frozen.depth)
    assert [dial.depths for dial in dials] == [(3, 6, 9, 12)] * 3
    net = Supernet(dials, method._parts(frozen, ((10,) * 12,) * 3))
    counts = []
    for seed in range(200):
        net.draw(seed)
        prompt, lora, adapter = (
            tuple(next(iter(at.values())).size for at in kind)  # type: ignore[attr-defined]
            for kind in net.parts
        )
        count = net.count((prompt, lora, adapter))
        counts.append(count)
        assert count == 3072 * sum(lora) + sum(1537 * one + 768 for one in adapter if one) + 768 * sum(prompt)
    assert min(counts) < 287_000  # the published architectures have 287 to 432 thousand
    assert 432_000 < max(counts) <= method.formula(measure(frozen)) == 640_000


def test_search__stays_within_the_limit_and_is_kept(tmp_path: Path) -> None:
    model = graft(f"{QUICK},limit=2k")
    count = model.tuned.trained_values().method
    assert 0 < count <= 2_000
    lines = model.method.told(model.backbone, model.findings)
    assert [line.split()[0] for line in lines[:4]] == ["block", "prompt", "lora", "adapter"]
    assert lines[4] == f"{count:,} values; at most 2,000 were asked for."
    path = tmp_path / FILE
    path.write_text(model.method.files(model.backbone, model.findings)[FILE])
    again = graft(f"noah:architecture={path}", data=toy.split(20), val=None)
    assert all(torch.equal(value, again.findings[kind]) for kind, value in model.findings.items())
    model.save(tmp_path)
    loaded = vitgraft.load(tmp_path, backbone=vit())
    pictures = images(model.backbone)
    with torch.no_grad():
        assert torch.equal(loaded.tuned.eval()(pictures), model.tuned.eval()(pictures))


def test_search__without_validation_or_room_is_told() -> None:
    with pytest.raises(ConfigError, match=r"chooses by validation accuracy, and there are no validation images"):
        graft(val=None)
    with pytest.raises(ConfigError, match=r"limit=50 is below 1\d\d, the fewest values of these sizes"):
        graft(f"{QUICK},limit=50")
    with pytest.raises(ConfigError, match=r"sizes='0\+3' are no sizes"):
        graft(f"{QUICK},sizes=0+3")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lora = [1, 2]", r"lora = \[1, 2\] must be 3 sizes, one for each block"),
        ("lora = [1, 2, -1]", "must be 3 sizes"),
        ("lora = [0, 0, 0]", "has no size above 0; method linear"),
        ("laro = [1, 1, 1]", "'laro'.*lora"),
        ("lora = [1,", "is no architecture that can be read"),
    ],
)
def test_architecture__that_does_not_fit_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / FILE
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        graft(f"noah:architecture={path}")


def test_architecture__may_leave_kinds_out(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text("adapter = [0, 4, 4]")
    model = graft(f"noah:architecture={path}")
    assert set(model.tuned.plan.grafts) == {(1, "mlp"), (2, "mlp")}


class Killed(BaseException):
    """Ends a session where it stands."""


@pytest.mark.slow
def test_run__that_was_killed_in_the_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "data": str(toy.some_digits(tmp_path / "digits")),
        "method": QUICK.replace("generations=2", "generations=3"),
        "epochs": 1,
        "batch_size": 64,
        "device": "cpu",
    }
    whole = run(RunConfig.of({**given, "out": str(tmp_path / "whole")}), test=False, tell=lambda line: None)
    config = RunConfig.of({**given, "out": str(tmp_path / "killed")})
    plain, done = calibrate.measure, 0

    def measured(*arguments: Any, **options: Any) -> Any:
        nonlocal done
        done += 1
        if done == 9:
            raise Killed
        return plain(*arguments, **options)

    monkeypatch.setattr(calibrate, "measure", measured)
    with pytest.raises(Killed):
        run(config, test=False, tell=lambda line: None)
    again = run(config, resume=True, test=False, tell=lambda line: None)
    assert done == 9 + 3 * 6 - 6  # the first generation was not measured again
    assert again.val == whole.val
    architecture = (tmp_path / "killed" / FILE).read_text()
    assert architecture == (tmp_path / "whole" / FILE).read_text()
    assert tomllib.loads(architecture).keys() == {"prompt", "lora", "adapter"}


def test_method__reads_its_fields() -> None:
    assert methods.spec_of(methods.parse("noah:limit=36864,sizes=1+4")) == "noah:limit=36864,sizes=1+4"


# --- as published ----------------------------------------------------------------------------------------------


def published_pass(model: nn.Module, pictures: Tensor, parts: list[dict[str, Tensor]]) -> Tensor:
    """NOAH's forward pass, written down from its description: tokens (B, N, D) behind the last norm.

    `parts` has a dictionary a block: prompts at the end in place of those before, one A (r, D) and B (3 D, r) for
    q, k and v, an adapter behind the mlp; whatever is missing is left out.
    """
    x = model.pos_drop(model._pos_embed(model.patch_embed(pictures)))
    own, standing = x.shape[1], 0
    for block, part in zip(model.blocks, parts, strict=True):
        if "prompt" in part:
            x = torch.cat([x[:, : x.shape[1] - standing], part["prompt"].expand(len(x), -1, -1)], dim=1)
            standing = len(part["prompt"])
        attn, h = block.attn, block.norm1(x)
        qkv = attn.qkv(h)
        if "a" in part:
            qkv = qkv + h @ part["a"].T @ part["b"].T
        q, k, v = qkv.reshape(*h.shape[:2], 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
        x = x + attn.proj((scores @ v).transpose(1, 2).reshape(h.shape))
        y = block.mlp(block.norm2(x))
        x = x + y
        if "down" in part:
            hidden = y @ part["down"].T + part["down bias"]
            x = x + (hidden * torch.sigmoid(1.702 * hidden)) @ part["up"].T + part["up bias"]
    return model.norm(x)[:, :own]


def parts_of(model: Tuned) -> list[dict[str, Tensor]]:
    """Our values under the names of `published_pass`."""
    found: list[dict[str, Tensor]] = [{} for _ in range(model.backbone.depth)]
    for (block, place), (one,) in model.plan.grafts.items():
        if place == "in":
            found[block]["prompt"] = one.get_parameter("tokens")
        elif place == "qkv":
            found[block] |= {"a": one.get_parameter("down"), "b": one.get_parameter("up")}
        else:
            assert place == "mlp"
            found[block] |= {
                f"{half}{end}": one.get_parameter(f"{half}.{leaf}")
                for half in ("down", "up")
                for end, leaf in (("", "weight"), (" bias", "bias"))
            }
    return found


def test_published__logits_are_those_of_its_own_forward_pass() -> None:
    frozen = backbone()
    model = Tuned(frozen, Noah().plan(frozen, toy.CLASSES, findings(SOME))).eval()
    with perturbed(model, 0.3), torch.no_grad():
        pictures = images(frozen)
        tokens = published_pass(frozen.model, pictures, parts_of(model))
        expected = model.head.classifier(tokens[:, 0])
        torch.testing.assert_close(model(pictures), expected, rtol=1e-5, atol=1e-5)
        for part in parts_of(model):
            if "b" in part:
                part["b"][frozen.width : 2 * frozen.width] = 0  # k left out
        again = model.head.classifier(published_pass(frozen.model, pictures, parts_of(model))[:, 0])
        assert not torch.allclose(again, expected, atol=1e-3)


SUBNET = """
MODEL_NAME: vit_base_patch16_224_in21k
SUPERNET:
  DEPTH: 12
  VISUAL_PROMPT_DIM: 100
  LORA_DIM: 100
SEARCH_SPACE:
  VISUAL_PROMPT_DIM:
    - 10
RETRAIN:
  PREFIX_DIM: {prefix}
  VISUAL_PROMPT_DIM: {prompt}
  LORA_DIM:
    - {lora}
  ADAPTER_DIM: {adapter}
"""


def subnet(path: Path, prompt: object, lora: Sequence[object], adapter: object, prefix: object = None) -> Path:
    values = {"prompt": prompt, "lora": "\n    - ".join(map(str, lora)), "adapter": adapter}
    path.write_text(SUBNET.format(**values, prefix=prefix or [0] * len(lora)))
    return path


def test_subnet__published_file_is_read_and_counted(tmp_path: Path) -> None:
    """Without data; the count is 4 D a rank, 2 D + 1 a hidden value and D for the bias, D a prompt."""
    path = subnet(tmp_path / "subnet.yaml", [5, 1, 0], [1, 10, 5], [10, 0, 0])
    model = vitgraft.graft(vit(), f"noah:architecture={path}", toy.CLASSES)
    assert {kind: value.tolist() for kind, value in model.findings.items()} == {
        "prompt": [5, 1, 0], "lora": [1, 10, 5], "adapter": [10, 0, 0],
    }  # fmt: skip
    count = 4 * 24 * 16 + 10 * (2 * 24 + 1) + 24 + 6 * 24
    assert model.tuned.trained_values().method == count == model.method.formula(measure(model.backbone))
    told = model.method.told(model.backbone, model.findings)
    assert told[-1] == f"{count:,} values, as {path} says."
    file = tmp_path / FILE
    file.write_text(model.method.files(model.backbone, model.findings)[FILE])
    again = vitgraft.graft(vit(), f"noah:architecture={file}", toy.CLASSES)
    assert all(torch.equal(value, again.findings[kind]) for kind, value in model.findings.items())


def test_subnet__count_of_a_published_one_on_vit_b16(tmp_path: Path) -> None:
    """That for CIFAR-100: 3,072 Σ r + Σ (1,537 h + 768) + 768 Σ p."""
    prompts, ranks = [10, 5, 10, 1, 5, 1, 10, 1, 10, 5, 1, 10], [10, 1, 5, 5, 1, 10, 1, 1, 1, 10, 1, 1]
    hidden = [5, 10, 10, 10, 5, 1, 1, 1, 10, 10, 10, 1]
    path = subnet(tmp_path / "cifar100.yaml", prompts, ranks, hidden)
    with torch.device("meta"):
        shape = measure(wrap(timm.create_model("vit_base_patch16_224", num_classes=0), "vit_base_patch16_224"))
    assert Noah(architecture=str(path)).formula(shape) == 3_072 * 47 + 1_537 * 74 + 768 * 12 + 768 * 69 == 320_330


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SEARCH_SPACE:\n  LORA_DIM:\n    - 5\nSUPERNET:\n  DEPTH: 3", "has no RETRAIN.*It is a search space"),
        ("RETRAIN:\n  LORA_DIM: [1, 2]", r"lora = \[1, 2\] must be 3 sizes, one for each block"),
        ("RETRAIN:\n  LORA_DIM: [1, 2, 0.5]", "must be 3 sizes"),
        ("RETRAIN:\n  LORA_DIM: [1, 2, -1]", "must be 3 sizes"),
        ("RETRAIN:\n  LORA_DIM: [1, 2, true]", "must be 3 sizes"),
        ("RETRAIN:\n  LORA_DIM: [1, 2, 1000000000000]", "must be 3 sizes"),
        ("RETRAIN:\n  LORA_DIM: 8", "lora = 8 must be 3 sizes"),
        ("RETRAIN:\n  LORA_DIM: [0, 0, 0]", "has no size above 0"),
        ("RETRAIN:\n  LORA_DIM: [1, 1, 1]\n  LORA_DEPTH: [3]", "no kind of graft 'LORA_DEPTH'"),
        (
            "RETRAIN:\n  LORA_DIM: [1, 1, 1]\n  PREFIX_DIM: [0, 1, 0]",
            r"PREFIX_DIM = \[0, 1, 0\], and there are no",
        ),
        ("RETRAIN: [1, 2]", "is no subnet"),
        ("RETRAIN:\n\t- x", "is no architecture that can be read"),
        ("- 1\n- 2", "is no architecture that can be read"),
        ("!!python/object/apply:os.system ['echo']", "is no architecture that can be read"),
        ("", "has no size above 0"),
    ],
)
def test_subnet__that_does_not_fit_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "subnet.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        vitgraft.graft(vit(), f"noah:architecture={path}", toy.CLASSES)


def test_architecture__fields_of_the_search_would_do_nothing(tmp_path: Path) -> None:
    path = subnet(tmp_path / "subnet.yaml", [0, 0, 0], [1, 1, 1], [0, 0, 0])
    with pytest.raises(ConfigError, match="limit=1k, population=7 would do nothing beside architecture="):
        vitgraft.graft(vit(), f"noah:architecture={path},limit=1k,population=7", toy.CLASSES)


def test_load__a_graft_of_before_there_was_a_shared_a(tmp_path: Path) -> None:
    """Its card does not name the field; q and v have factors of their own in it."""
    path = subnet(tmp_path / "subnet.yaml", [2, 0, 0], [1, 3, 0], [0, 0, 4])
    old = vitgraft.graft(vit(), f"noah:architecture={path},share_a=false", toy.CLASSES)
    assert {place for _, place in old.tuned.plan.grafts} == {"in", "q", "v", "mlp"}
    old.save(tmp_path / "run")
    card = json.loads((tmp_path / "run" / "graft.json").read_text())
    del card["method"]["share_a"]
    (tmp_path / "run" / "graft.json").write_text(json.dumps(card))
    again = vitgraft.load(tmp_path / "run", backbone=vit())
    with torch.no_grad():
        pictures = images(old.backbone)
        assert torch.equal(again.tuned(pictures), old.tuned.eval()(pictures))
    assert methods.parse("noah").share_a is True  # type: ignore[attr-defined]
