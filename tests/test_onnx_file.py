"""ONNX exports as weight files: names of known layouts, matrices that lost theirs, positions that were folded."""

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.test_layouts import ours, pictures, their_tokens, theirs
from tests.vit_files import refused, same, tensors_of, tiny
from vitgraft.backbones.checkpoints import load_weights


class Within(nn.Module):
    """A backbone inside of another model, as exports have it, with a decoder that is no part of it."""

    def __init__(self, backbone: nn.Module, timms: bool = False) -> None:
        super().__init__()
        self.backbone, self.timms = backbone, timms
        self.decoder = nn.Linear(48, 2)

    def forward(self, images: Tensor) -> Tensor:
        if self.timms:
            return self.decoder(self.backbone.forward_features(images))
        return self.decoder(self.backbone(images).last_hidden_state)


def exported(model: nn.Module, path: Path, **more: Any) -> Path:
    pytest.importorskip("onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that keeps names in nodes is the older one
        torch.onnx.export(model.eval(), (pictures(),), str(path), dynamo=False, **more)
    return path


def test_onnx__of_timm_is_exact(tmp_path: Path) -> None:
    source, model = tiny(1), tiny(2)
    report = load_weights(model, exported(Within(source, timms=True), tmp_path / "model.onnx"))
    assert same(tensors_of(model), tensors_of(source))
    assert (report.layout, report.prefix) == ("timm", "backbone.")
    assert set(report.dropped) == {"decoder.weight", "decoder.bias"}


@pytest.mark.parametrize("case", ["dinov2", "vit"])
def test_onnx__of_transformers(tmp_path: Path, case: str) -> None:
    """Exporting DINOv2 folds its positions into a row of the class token and rows of patches."""
    source, model = theirs(case), ours(case)
    load_weights(model, exported(Within(source), tmp_path / "model.onnx"))
    with torch.no_grad():
        assert torch.equal(their_tokens(source, pictures()), model.forward_features(pictures()))


def handmade(path: Path, matrix: Tensor, operator: str, name: str = "", **attributes: Any) -> Path:
    """A program of one node whose matrix has lost its name."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    node = helper.make_node(operator, ["x", "onnx::MatMul_7"], ["y"], name=name, **attributes)
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)
    out = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    initializer = numpy_helper.from_array(matrix.numpy(), "onnx::MatMul_7")
    graph = helper.make_graph([node], "g", [value], [out], initializer=[initializer])
    onnx.save(helper.make_model(graph, producer_name="pytorch"), str(path))
    return path


@pytest.mark.parametrize(
    ("operator", "attributes", "turned"),
    [("MatMul", {}, True), ("Gemm", {}, True), ("Gemm", {"transB": 1}, False)],
)
def test_onnx__matrices_take_their_name_from_the_node(
    tmp_path: Path, operator: str, attributes: dict[str, int], turned: bool
) -> None:
    from vitgraft.backbones.weight_files import read_weights

    matrix = torch.arange(6.0).reshape(2, 3)
    name = f"/vit/blocks/blocks.0/mlp/fc1/{operator}"
    file = read_weights(handmade(tmp_path / "a.onnx", matrix, operator, name, **attributes))
    assert file.kind == "onnx"
    assert list(file.tensors) == ["vit.blocks.0.mlp.fc1.weight"]
    assert torch.equal(file.tensors["vit.blocks.0.mlp.fc1.weight"], matrix.T if turned else matrix)


def test_onnx__what_has_no_name_is_not_guessed(tmp_path: Path) -> None:
    refused(tiny(1), handmade(tmp_path / "a.onnx", torch.ones(2, 3), "MatMul"), "holds no named tensors")


def test_onnx__quantised_is_refused(tmp_path: Path) -> None:
    path = handmade(tmp_path / "a.onnx", torch.ones(2, 3), "DequantizeLinear")
    refused(tiny(1), path, "is quantised (DequantizeLinear)", "Take the model's own file")


def test_onnx__damaged(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    path = handmade(tmp_path / "a.onnx", torch.ones(20, 30), "MatMul")
    path.write_bytes(path.read_bytes()[:300])
    refused(tiny(1), path, "cannot be read as ONNX")


def test_onnx__weights_in_a_file_that_is_not_there(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = handmade(tmp_path / "a.onnx", torch.ones(20, 30), "MatMul")
    onnx.save(onnx.load(path), str(path), save_as_external_data=True, location="a.data", size_threshold=0)
    (tmp_path / "a.data").unlink()
    refused(tiny(1), path, "a.onnx")


def test_onnx__without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    (tmp_path / "model.onnx").write_bytes(b"\x08\x09\x12\x07pytorch")
    refused(tiny(1), tmp_path / "model.onnx", "pip install 'vitgraft[onnx]'")
