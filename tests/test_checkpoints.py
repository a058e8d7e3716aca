"""Weight files: every published layout loads exactly, and only declared differences pass."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from timm.models.deit import VisionTransformerDistilled

from tests.vit_files import (
    WIDTH,
    jax_arrays,
    npz,
    refused,
    same,
    stacked,
    tensors_of,
    tiny,
    torch_file,
    transformers_names,
)
from vitgraft.backbones.checkpoints import load_weights

HEAD = {"head.weight", "head.bias"}


# --- timm's names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.bin", "w.tar", "legacy.pt", "misnamed.npz"])
def test_timm__every_container(tmp_path: Path, name: str) -> None:
    source, model = tiny(1), tiny(2)
    path = tmp_path / name
    if name.endswith(("safetensors", "npz")):  # what a file is, its content says
        save_file(tensors_of(source), path)
    else:
        torch_file(path, tensors_of(source), _use_new_zipfile_serialization=not name.startswith("legacy"))
    report = load_weights(model, path)
    assert same(tensors_of(model), tensors_of(source))
    assert (report.layout, report.missing, report.unexpected, report.resampled) == ("timm", (), (), ())
    assert report.summary() == f"{name} (timm): every tensor fits."


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "state_dict", "model"])
@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_timm__containers_and_wrappers(tmp_path: Path, key: str, wrapper: str) -> None:
    source, model = tiny(1), tiny(2)
    named = {wrapper + name: value for name, value in tensors_of(source).items()}
    load_weights(model, torch_file(tmp_path / "run.pth", {"epoch": 3, key: named, "arch": "vit"}))
    assert same(tensors_of(model), tensors_of(source))


def test_timm__averaged_weights_come_first(tmp_path: Path) -> None:
    plain, averaged, model = tiny(1), tiny(2), tiny(3)
    content = {"state_dict": tensors_of(plain), "state_dict_ema": tensors_of(averaged)}
    load_weights(model, torch_file(tmp_path / "run.pth", content))
    assert same(tensors_of(model), tensors_of(averaged))


def test_timm__separate_projections_become_one(tmp_path: Path) -> None:
    source, model = tiny(1), tiny(2)
    separate = {}
    for name, value in tensors_of(source).items():
        owner, found, leaf = name.partition(".qkv.")
        parts = zip("qkv", value.chunk(3), strict=True) if found else ()
        separate |= {f"{owner}.{one}.{leaf}": part for one, part in parts} or {name: value}
    load_weights(model, torch_file(tmp_path / "w.pth", separate))
    assert same(tensors_of(model), tensors_of(source))


def test_timm__half_precision_is_widened(tmp_path: Path) -> None:
    source, model = tiny(1), tiny(2)
    save_file({name: value.half() for name, value in tensors_of(source).items()}, tmp_path / "w.safetensors")
    load_weights(model, tmp_path / "w.safetensors")
    assert model.cls_token.dtype == torch.float32
    assert torch.equal(model.cls_token, source.cls_token.half().float())


def test_timm__layer_scales_of_deit3(tmp_path: Path) -> None:
    source, model = tiny(1, init_values=0.1), tiny(2, init_values=0.1)
    renamed = {
        f"{name.removesuffix('ls1.gamma')}gamma_1"
        if name.endswith(".ls1.gamma")
        else f"{name.removesuffix('ls2.gamma')}gamma_2"
        if name.endswith(".ls2.gamma")
        else name: value
        for name, value in tensors_of(source).items()
    }
    load_weights(model, torch_file(tmp_path / "w.pth", {"model": renamed | {"head.weight": torch.ones(5, WIDTH)}}))
    assert same(tensors_of(model), tensors_of(source))


@pytest.mark.parametrize(
    ("classes", "missing", "dropped"),
    [(7, set(), set()), (5, HEAD, HEAD), (0, set(), HEAD)],
    ids=["fits", "other", "none"],
)
def test_head__is_taken_only_if_it_fits(
    tmp_path: Path, classes: int, missing: set[str], dropped: set[str]
) -> None:
    source, model = tiny(1, num_classes=7), tiny(2, num_classes=classes)
    before = tensors_of(model)
    report = load_weights(model, torch_file(tmp_path / "w.pth", tensors_of(source)))
    assert (set(report.missing), set(report.dropped), report.unexpected) == (missing, dropped, ())
    if classes:
        kept = tensors_of(source) if classes == 7 else before
        assert torch.equal(model.head.weight, kept["head.weight"])


def test_attention_pool__is_left_out_by_other_poolings(tmp_path: Path) -> None:
    source = tiny(1, global_pool="map", class_token=False)
    model = tiny(2, global_pool="avg", class_token=False, fc_norm=False)
    report = load_weights(model, torch_file(tmp_path / "siglip.pth", tensors_of(source)))
    assert {name.partition(".")[0] for name in report.unexpected} == {"attn_pool"}
    assert report.missing == ()


# --- positions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "prefix"),
    [
        ({}, 1),
        ({"class_token": False, "global_pool": "avg", "fc_norm": False}, 0),
        ({"reg_tokens": 2}, 3),
        ({"reg_tokens": 2, "no_embed_class": True}, 0),
        ({"kind": VisionTransformerDistilled}, 2),
    ],
)
def test_positions__of_another_grid_are_resampled(tmp_path: Path, arguments: dict[str, Any], prefix: int) -> None:
    source, model = tiny(1, **arguments), tiny(2, img_size=24, **arguments)
    report = load_weights(model, torch_file(tmp_path / "w.pth", tensors_of(source)))
    expected = resample_abs_pos_embed(source.pos_embed, [6, 6], [4, 4], num_prefix_tokens=prefix)
    assert report.resampled == ("pos_embed",)
    assert "resampled pos_embed" in report.summary()
    assert torch.equal(model.pos_embed, expected)
    assert torch.equal(model.pos_embed[:, :prefix], source.pos_embed[:, :prefix])


# --- JAX ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "big_vision", "stack"),
    [
        ("", False, False),
        ("opt/target/", False, False),
        ("", True, False),
        ("params/", True, False),
        ("params/", True, True),
    ],
)
@pytest.mark.parametrize("arguments", [{}, {"num_classes": 7}, {"num_classes": 5}, {"img_size": 24}], ids=str)
def test_jax__is_what_timm_loads(
    tmp_path: Path, prefix: str, big_vision: bool, stack: bool, arguments: dict[str, Any]
) -> None:
    arrays = jax_arrays(tiny(1, num_classes=7), prefix, big_vision)
    path = npz(tmp_path / "w.npz", stacked(arrays, prefix) if stack else arrays)
    ours, timms = tiny(2, **arguments), tiny(2, **arguments)
    report = load_weights(ours, path)
    timms.load_pretrained(str(path))
    assert same(tensors_of(ours), tensors_of(timms))
    assert report.layout == "JAX npz"
    assert report.resampled == (("pos_embed",) if "img_size" in arguments else ())
    assert set(report.missing) == (HEAD if arguments.get("num_classes") == 5 else set())


def test_jax__round_trip_is_exact(tmp_path: Path) -> None:
    source, model = tiny(1, num_classes=7), tiny(2, num_classes=7)
    load_weights(model, npz(tmp_path / "w.npz", jax_arrays(source)))
    assert same(tensors_of(model), tensors_of(source))


def test_jax__pre_logits_and_optimizer_are_left_out(tmp_path: Path) -> None:
    arrays = jax_arrays(tiny(1), "opt/target/")
    extra = {"opt/target/pre_logits/kernel": np.zeros((WIDTH, WIDTH)), "opt/state/step": np.zeros(())}
    report = load_weights(tiny(2), npz(tmp_path / "w.npz", arrays | extra))
    assert set(report.dropped) == {"pre_logits/kernel", "opt/state/step"}
    assert (report.missing, report.unexpected) == ((), ())


def test_jax__average_pooling_starts_its_own_norm(tmp_path: Path) -> None:
    report = load_weights(tiny(2, global_pool="avg"), npz(tmp_path / "w.npz", jax_arrays(tiny(1))))
    assert set(report.missing) == {"fc_norm.weight", "fc_norm.bias"}
    assert set(report.unexpected) == {"norm.weight", "norm.bias"}


def test_jax__another_number_of_heads_is_noticed(tmp_path: Path) -> None:
    path = npz(tmp_path / "w.npz", jax_arrays(tiny(1)))
    refused(tiny(2, num_heads=2), path, "4 attention heads; the model has 2")


# --- MAE, MoCo-v3, DINOv2, transformers -----------------------------------------------------------------------


def test_mae__class_token_model_takes_everything(tmp_path: Path) -> None:
    source, model = tiny(1), tiny(2, num_classes=5)
    report = load_weights(model, torch_file(tmp_path / "mae.pth", {"model": tensors_of(source)}))
    assert (report.layout, report.container) == ("timm", "model")
    assert (set(report.missing), report.unexpected, report.dropped) == (HEAD, (), ())


def test_mae__average_pooling_starts_its_own_norm(tmp_path: Path) -> None:
    source, model = tiny(1), tiny(2, global_pool="avg")
    own = model.fc_norm.weight.clone()
    report = load_weights(model, torch_file(tmp_path / "mae.pth", {"model": tensors_of(source)}))
    assert set(report.missing) == {"fc_norm.weight", "fc_norm.bias"}
    assert set(report.unexpected) == {"norm.weight", "norm.bias"}
    assert torch.equal(model.fc_norm.weight, own)
    assert "unexpected norm.weight, norm.bias" in report.summary()


def test_mae__is_not_a_classifier_under_the_same_key(tmp_path: Path) -> None:
    source = tensors_of(tiny(1, num_classes=7))
    report = load_weights(tiny(2, num_classes=7), torch_file(tmp_path / "deit.pth", {"model": source}))
    assert (report.layout, report.missing, report.dropped) == ("timm", (), ())


def test_mae__decoder_is_left_out(tmp_path: Path) -> None:
    decoder = {"mask_token": torch.ones(1), "decoder_blocks.0.norm1.weight": torch.ones(2)}
    content = {"model": tensors_of(tiny(1)) | decoder}
    report = load_weights(tiny(2), torch_file(tmp_path / "mae.pth", content))
    assert report.layout == "MAE"
    assert (set(report.dropped), report.unexpected) == (set(decoder), ())


def test_moco__linear_probe_is_left_out(tmp_path: Path) -> None:
    source, model = tiny(1, num_classes=7), tiny(2)
    source.pos_embed.requires_grad_(False)  # fixed, but stored
    named = {f"module.{name}": value for name, value in tensors_of(source).items()}
    content = {"epoch": 90, "arch": "vit_base", "state_dict": named, "best_acc1": torch.tensor(76.0)}
    report = load_weights(model, torch_file(tmp_path / "linear-vit-b-300ep.pth.tar", content))
    assert (report.container, report.wrappers) == ("state_dict", ("module.",))
    assert (report.missing, report.unexpected, set(report.dropped)) == ((), (), HEAD)
    assert torch.equal(model.pos_embed, source.pos_embed)


def test_moco__pretraining_checkpoint_gives_the_base_encoder(tmp_path: Path) -> None:
    base, momentum, model = tiny(1), tiny(2), tiny(3)
    named = {f"module.base_encoder.{name}": value for name, value in tensors_of(base).items()}
    named |= {f"module.momentum_encoder.{name}": value for name, value in tensors_of(momentum).items()}
    named |= {"module.predictor.0.weight": torch.ones(2), "module.base_encoder.head.0.weight": torch.ones(2)}
    report = load_weights(model, torch_file(tmp_path / "vit-b-300ep.pth.tar", {"state_dict": named}))
    assert same(tensors_of(model), tensors_of(base))
    assert (report.layout, report.prefix, report.others) == ("MoCo-v3", "base_encoder.", ("momentum_encoder.",))
    assert {"momentum_encoder.cls_token", "predictor.0.weight", "head.0.weight"} <= set(report.dropped)


def test_dinov2__mask_token_is_left_out(tmp_path: Path) -> None:
    source = tensors_of(tiny(1, init_values=0.1)) | {"mask_token": torch.zeros(1, WIDTH)}
    report = load_weights(tiny(2, init_values=0.1), torch_file(tmp_path / "dinov2.pth", source))
    assert (report.layout, report.dropped) == ("DINOv2", ("mask_token",))


@pytest.mark.parametrize("prefix", ["", "vit."])
def test_transformers__names_are_translated(tmp_path: Path, prefix: str) -> None:
    source, model = tiny(1), tiny(2)
    named = transformers_names(tensors_of(source), prefix)
    extra = {"classifier.weight": torch.ones(2, WIDTH)} if prefix else {"pooler.dense.weight": torch.ones(2)}
    save_file(named | extra, tmp_path / "model.safetensors")
    report = load_weights(model, tmp_path / "model.safetensors")
    assert same(tensors_of(model), tensors_of(source))
    assert (report.missing, report.unexpected, set(report.dropped)) == ((), (), set(extra))


# --- grids that are no squares ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pixels", [(8, 32), (32, 8), (16, 24), (8, 8)])
def test_positions__of_a_square_grid_are_moved_onto_any_other(tmp_path: Path, pixels: tuple[int, int]) -> None:
    """4 x 4 positions are as many as 2 x 8, and stand elsewhere: they were taken as they are."""
    source = tiny(1)  # 4 x 4 patches of 4 pixels
    save_file(tensors_of(source), tmp_path / "w.safetensors")
    model = tiny(2, img_size=pixels)
    report = load_weights(model, tmp_path / "w.safetensors")
    rows, columns = pixels[0] // 4, pixels[1] // 4
    wanted = resample_abs_pos_embed(source.pos_embed, [rows, columns], [4, 4], num_prefix_tokens=1)
    assert torch.equal(model.pos_embed, wanted)
    assert report.resampled == ("pos_embed",)
    assert f"resampled pos_embed (4 x 4 to {rows} x {columns})" in report.summary()
    if rows * columns == 16:
        assert not torch.allclose(model.pos_embed, source.pos_embed, atol=1e-3)


def test_positions__of_a_known_rectangle(tmp_path: Path) -> None:
    """What `vitgraft merge` writes says which images it is for, so that its own file is taken as it is."""
    source = tiny(1, img_size=(8, 32))
    told = {"preprocessing": json.dumps({"size": [8, 32]})}
    save_file(tensors_of(source), tmp_path / "merged.safetensors", metadata=told)
    same_grid, square, wide = tiny(2, img_size=(8, 32)), tiny(2), tiny(2, img_size=(12, 32))
    assert load_weights(same_grid, tmp_path / "merged.safetensors").resampled == ()
    assert torch.equal(same_grid.pos_embed, source.pos_embed)
    for model, grid in ((square, [4, 4]), (wide, [3, 8])):
        load_weights(model, tmp_path / "merged.safetensors")
        assert torch.equal(
            model.pos_embed, resample_abs_pos_embed(source.pos_embed, grid, [2, 8], num_prefix_tokens=1)
        )


def test_positions__of_an_unknown_rectangle(tmp_path: Path) -> None:
    """24 positions make no square: they are those of the model's own grid, or nobody's."""
    source, twin = tiny(1, img_size=(16, 24)), tiny(2, img_size=(16, 24))
    save_file(tensors_of(source), tmp_path / "w.safetensors")
    assert load_weights(twin, tmp_path / "w.safetensors").resampled == ()
    assert same(tensors_of(twin), tensors_of(source))
    refused(tiny(2), tmp_path / "w.safetensors", "pos_embed")
