"""Programs that run without vitgraft: their files are run, on pictures, by those who would run them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

import vitgraft
from tests import toy
from tests.runs import SIZE, call, done, refused, weights
from tests.test_torch_habits import SHORT, tuned
from tests.tiny import backbone
from vitgraft import methods
from vitgraft.core.backbone import Backbone
from vitgraft.errors import ArtefactError, ConfigError
from vitgraft.models.model import Model
from vitgraft.train.temperature import Temperature

NAMES = ("red", "green", "blue", "grey", "none")
SIDE = 16


def model(name: str = "lora", frozen: Backbone | None = None, temperature: float | None = None) -> Model:
    """A model whose trained values are none that hide something."""
    frozen = frozen or backbone()
    method = methods.parse(SHORT.get(name, name))
    warm = None if temperature is None else Temperature(temperature, 9, 3, "toy", 1.2, 1.0)
    found = toy.findings(frozen, method, len(NAMES))
    return Model(tuned(name, frozen), method, toy.PREPROCESSING, NAMES, found, temperature=warm)


def pictures(count: int) -> list[Image.Image]:
    drawn = np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in drawn]


def as_bytes(shown: list[Image.Image]) -> np.ndarray[Any, Any]:
    """(B, 3, H, W), 0 to 255."""
    return np.stack([np.asarray(one).transpose(2, 0, 1) for one in shown])


def run(path: Path, images: np.ndarray[Any, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and probabilities of a file, by the library that it is for."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        logits, probabilities = map(torch.from_numpy, session.run(None, {"images": images}))
    else:
        program = torch.jit.load(path) if path.suffix == ".pt" else torch.export.load(path).module()
        with torch.no_grad():
            logits, probabilities = program(torch.from_numpy(images))
    return logits, probabilities


def facts(path: Path) -> dict[str, Any]:
    """What a file tells of itself."""
    if path.suffix == ".onnx":
        return {one.key: json.loads(one.value) for one in onnx.load(str(path)).metadata_props}
    told = {"vitgraft.json": ""}
    if path.suffix == ".pt":
        torch.jit.load(path, _extra_files=told)
    else:
        torch.export.load(path, extra_files=told)
    found: dict[str, Any] = json.loads(told["vitgraft.json"])
    return found


@pytest.mark.parametrize("suffix", [".pt", pytest.param(".pt2", marks=pytest.mark.slow), ".onnx"])
def test_export__pictures_in_probabilities_out(suffix: str, tmp_path: Path) -> None:
    """Merged, calibrated, of any number of pictures; and it says what it is."""
    one, path = model(temperature=2.5), tmp_path / f"model{suffix}"
    written = vitgraft.export(one, path)
    assert written.unmerged is None
    assert written.gap is not None
    assert written.gap < 1e-4
    assert written.size == path.stat().st_size
    for count in (1, 4):
        shown = pictures(count)
        logits, probabilities = run(path, as_bytes(shown))
        assert (probabilities - one.predict(shown)).abs().max() < 1e-4
        assert (logits / 2.5).softmax(1).sub(probabilities).abs().max() < 1e-6
    told = facts(path)
    assert told["class_names"] == list(NAMES)
    assert told["temperature"] == 2.5
    assert told["preprocessing"]["size"] == [SIDE, SIDE]
    assert told["input"]["type"] == "uint8"
    assert told["input"]["shape"] == ["batch", 3, SIDE, SIDE]
    assert "bicubic" in told["input"]["resize"]
    assert str(Path(__file__).parent.parent) not in path.read_bytes().decode("latin1")
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


ALL = [
    pytest.param(
        name, suffix, marks=() if (name, suffix) in ((("synqt"), ".pt"), ("vpt-deep", ".pt")) else pytest.mark.slow
    )
    for name in methods.names()
    for suffix in (".onnx", ".pt", ".pt2")
]


@pytest.mark.parametrize(("name", "suffix"), ALL)
def test_export__every_method(name: str, suffix: str, tmp_path: Path) -> None:
    one, path = model(name), tmp_path / f"model{suffix}"
    written = vitgraft.export(one, path)
    assert (written.unmerged is None) == one.method.merges
    for count in (1, 4):
        shown = pictures(count)
        assert (run(path, as_bytes(shown))[1] - one.predict(shown)).abs().max() < 1e-4


@pytest.mark.parametrize("variant", ["hf_dinov2", "eva02", pytest.param("beit", marks=pytest.mark.slow)])
def test_export__of_other_families(variant: str, tmp_path: Path) -> None:
    """Merged, so that they are the library's own code."""
    one, shown = model("lora", backbone(variant)), pictures(4)
    assert vitgraft.export(one, tmp_path / "model.pt").unmerged is None
    assert (run(tmp_path / "model.pt", as_bytes(shown))[1] - one.predict(shown)).abs().max() < 1e-4


@pytest.mark.parametrize("pixels", ["unit", "normalised"])
def test_export__takes_pixels_of_other_kinds(pixels: str, tmp_path: Path) -> None:
    one, shown = model("linear"), pictures(3)
    vitgraft.export(one, tmp_path / "model.pt", pixels=pixels)
    images = torch.from_numpy(as_bytes(shown)) / 255
    if pixels == "normalised":
        images = torch.stack([one.transform(picture) for picture in shown])
    assert (run(tmp_path / "model.pt", images.numpy())[1] - one.predict(shown)).abs().max() < 1e-4
    assert facts(tmp_path / "model.pt")["input"]["type"] == "float32"


def test_int8__stores_weights_in_8_bits(tmp_path: Path) -> None:
    """Every linear map of the blocks: 4 a block, and none is stored in fp32 beside it."""
    one, path = model(), tmp_path / "model.onnx"
    written = vitgraft.export(one, path, int8=True)
    graph = onnx.load(str(path)).graph
    assert [node.op_type for node in graph.node].count("MatMulNBits") == 4 * one.backbone.depth
    whole = [value for value in graph.initializer if value.data_type == onnx.TensorProto.FLOAT]
    width = one.backbone.width
    assert not [value.name for value in whole if len(value.dims) == 2 and np.prod(value.dims) >= width * width]
    assert written.gap is not None
    assert 0 < written.gap < 0.05
    shown = pictures(3)
    assert (run(path, as_bytes(shown))[1] - one.predict(shown)).abs().max() < 0.02
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_export__leaves_the_model_as_it_is(tmp_path: Path) -> None:
    one = model("vpt-shallow")
    one.tuned.half()
    vitgraft.export(one, tmp_path / "model.pt")
    assert one.backbone.dtype is torch.float16
    logits, _ = run(tmp_path / "model.pt", as_bytes(pictures(2)))
    assert logits.dtype is torch.float32


def test_export__refuses_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = model("linear")
    with pytest.raises(ConfigError, match=r"says no form by its end.*\(\.onnx\).*--to onnx"):
        vitgraft.export(one, tmp_path / "model.bin")
    with pytest.raises(ConfigError, match=r"no form 'onx'\. Did you mean 'onnx'"):
        vitgraft.export(one, tmp_path / "model", "onx")
    with pytest.raises(ConfigError, match="no kind of pixels 'float'"):
        vitgraft.export(one, tmp_path / "model.pt", pixels="float")
    with pytest.raises(ConfigError, match="int8 weights are written into ONNX alone, and torchscript"):
        vitgraft.export(one, tmp_path / "model.pt", int8=True)
    (tmp_path / "there.pt").write_text("mine")
    with pytest.raises(ArtefactError, match=r"is there already.*--force; in Python, overwrite=True"):
        vitgraft.export(one, tmp_path / "there.pt")
    monkeypatch.setattr("vitgraft.models.programs.onnx_form.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"onnx, onnxscript, which are not installed: pip install 'vitgraft\[onnx\]'"
    ):
        vitgraft.export(one, tmp_path / "model.onnx")
    assert (tmp_path / "there.pt").read_text() == "mine"


def test_export__a_program_that_computes_something_else_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "vitgraft.models.programs.torch_forms.run_script",
        lambda path, images: torch.zeros(len(images), len(NAMES)),
    )
    with pytest.raises(ArtefactError, match="computes other logits than the model"):
        vitgraft.export(model("linear"), tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


def saved(folder: Path, spec: str = "lora:rank=2") -> Path:
    """A graft in `folder`/run, on weights in a file; returns that file."""
    file = weights(folder / "weights.safetensors")
    frozen = vitgraft.load_backbone("test_vit", checkpoint=file, image_size=SIZE)
    one = vitgraft.graft(frozen, spec, NAMES)
    with torch.no_grad():
        for value in one.tuned.parameters():
            value.add_(torch.randn_like(value) * 0.05)
    one.save(folder / "run")
    return file


def test_command__writes_what_a_run_answers(tmp_path: Path) -> None:
    saved(tmp_path)
    out = tmp_path / "model.pt"
    told = done("export", tmp_path / "run", "--out", out).stdout
    assert "torchscript, merged" in told
    shown = Image.new("RGB", (32, 32), (200, 30, 10))
    wanted = vitgraft.load(tmp_path / "run").predict([shown])
    assert (run(out, as_bytes([shown]))[1] - wanted).abs().max() < 1e-4
    assert "is there already" in refused("export", tmp_path / "run", "--out", out)
    assert call("export", tmp_path / "run", "--out", out, "--force").exit_code == 0
