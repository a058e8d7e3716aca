"""Preprocessing: timm's bit for bit, hand-computed values, presets, augmentations, pictures of any shape."""

import json
import pickle
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from tests.pictures import encoded
from vitgraft.data.augment import AUGMENTATIONS, deterministic
from vitgraft.data.pictures.decode import read_image
from vitgraft.data.preprocessing import NORMALISATIONS, PRESETS, Preprocessing, preset
from vitgraft.data.transforms import evaluation, to_tensor, training
from vitgraft.errors import ConfigError

RAW = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), crop=1.0)
SHAPES = [(1, 1), (2, 3), (1, 5000), (5000, 1), (40, 30), (32, 32)]


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(np.uint8))


def test_to_tensor__by_hand() -> None:
    image = Image.new("RGB", (3, 2), (255, 0, 51))
    image.putpixel((2, 1), (0, 0, 0))
    tensor = to_tensor(image, mean=(0.5, 0.25, 0.2), std=(0.5, 0.25, 0.1))
    assert (tensor.shape, tensor.dtype, tensor.is_contiguous()) == ((3, 2, 3), torch.float32, True)
    assert tensor[:, 0, 0].tolist() == pytest.approx([1.0, -1.0, 0.0], abs=1e-7)
    assert tensor[:, 1, 2].tolist() == pytest.approx([-1.0, -1.0, -2.0], abs=1e-6)


def test_evaluate__centre_crop_by_hand() -> None:
    """4 x 2 pixels, each its own value, cropped to the middle 2 x 2 without any resizing."""
    values = np.arange(8, dtype=np.uint8).reshape(2, 4)
    image = Image.fromarray(np.stack([values] * 3, axis=-1))
    tensor = evaluation(replace(RAW, size=(2, 2)))(image)
    assert (tensor[0] * 255).round().tolist() == [[1, 2], [5, 6]]
    # Resized to 4 x 8 first: every pixel four times, of which the middle 2 x 2 of 4 x 8 lie on values 1, 2, 5, 6.
    nearest = replace(RAW, size=(2, 2), crop=0.5, interpolation="nearest")
    assert (evaluation(nearest)(image)[0] * 255).round().tolist() == [[1, 2], [5, 6]]


def test_evaluate__stretch_and_pad_by_hand() -> None:
    image = Image.new("RGB", (4, 2), (255, 255, 255))
    image.paste((0, 0, 0), (0, 0, 2, 2))
    stretched = Preprocessing(
        size=(2, 2), mean=RAW.mean, std=RAW.std, crop=1.0, mode="stretch", interpolation="nearest"
    )
    assert evaluation(stretched)(image)[1].tolist() == [[0.0, 1.0], [0.0, 1.0]]
    padded = evaluation(Preprocessing(size=(4, 4), mean=(0.2, 0.4, 0.6), std=RAW.std, crop=1.0, mode="pad"))(image)
    assert padded[:, 0, 0].tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)  # the mean itself
    assert padded[0, 1:3].tolist() == [[pytest.approx(v) for v in (-0.2, -0.2, 0.8, 0.8)]] * 2


def test_evaluate__shrinking_is_antialiased() -> None:
    stripes = Image.fromarray((np.indices((64, 64, 3))[1] % 2 * 255).astype(np.uint8))
    for interpolation in ("bilinear", "bicubic", "lanczos"):
        small = replace(RAW, size=(8, 8), interpolation=interpolation)
        assert evaluation(small)(stripes)[:, :, 1:7].sub(0.5).abs().max() < 0.02


def test_evaluate__a_sixteen_bit_ramp_stays_a_ramp() -> None:
    ramp = (np.arange(64, dtype=np.uint16) * 1040)[None].repeat(64, axis=0)
    image = read_image(encoded(Image.fromarray(ramp), "PNG"))
    row = evaluation(replace(RAW, size=(64, 64)))(image)[2, 10]
    assert torch.allclose(row, torch.arange(64) * 1040 / 65535, atol=0.5 / 255 + 1e-6)
    assert (row.diff() > 0).all()


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(224, 224), (24, 32)])
def test_evaluate__is_timms(mode: str, size: tuple[int, int]) -> None:
    for (width, height), crop, interpolation in product(
        [(7, 301), (300, 200), (224, 224), (333, 64), (3, 2)], [0.875, 0.9, 1.0], ["bicubic", "bilinear"]
    ):
        config = {
            "input_size": (3, *size),
            "interpolation": interpolation,
            "mean": NORMALISATIONS["clip"][0],
            "std": NORMALISATIONS["clip"][1],
            "crop_pct": crop,
            "crop_mode": mode,
        }
        image = noise(width, height)
        ours = evaluation(Preprocessing.from_timm(config))(image)
        assert torch.equal(ours, create_transform(**config)(image)), (width, height, crop, interpolation)


@pytest.mark.parametrize("mode", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_train__any_shape(augment: str, mode: str) -> None:
    colour = (51, 102, 204)
    preprocessing = Preprocessing(size=(16, 24), mean=tuple(v / 255 for v in colour), mode=mode)
    transform = pickle.loads(pickle.dumps(training(preprocessing, augment)))  # workers get a copy
    for shape in SHAPES:
        tensor = transform(Image.new("RGB", shape, colour))
        assert (tensor.shape, tensor.dtype) == ((3, 16, 24), torch.float32)
        if augment != "randaugment":
            assert tensor.abs().max() < 1e-5  # one colour stays one colour, padding included
    assert transform(Image.new("L", (9, 9), 7)).shape == (3, 16, 24)


def test_elongated__the_centre_is_kept() -> None:
    """What is trimmed before resizing lies outside the crop: the result is that of a shorter picture."""
    image = noise(400, 1)
    square = Preprocessing(size=(8, 8), crop=1.0)
    middle = image.crop((100, 0, 300, 1))
    assert torch.equal(evaluation(square)(image), evaluation(square)(middle))


def test_train__none_is_evaluation_and_others_vary() -> None:
    image = noise(40, 30)
    preprocessing = Preprocessing(size=(16, 16))
    expected = evaluation(preprocessing)(image)
    for name in AUGMENTATIONS:
        torch.manual_seed(0)
        first = [training(preprocessing, name)(image) for _ in range(8)]
        torch.manual_seed(0)
        second = [training(preprocessing, name)(image) for _ in range(8)]
        assert all(map(torch.equal, first, second)), name  # torch's generator decides alone
        assert deterministic(name) == all(torch.equal(tensor, expected) for tensor in first), name
    assert deterministic("none")
    flips = {bool(torch.equal(training(preprocessing, "flip")(image), expected)) for _ in range(20)}
    assert flips == {True, False}
    assert torch.equal(
        next(t for t in _flips(preprocessing, image) if not torch.equal(t, expected)).flip(2), expected
    )


def _flips(preprocessing: Preprocessing, image: Image.Image) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [training(preprocessing, "flip")(image) for _ in range(20)]


@pytest.mark.parametrize(("mode", "shape"), [("crop", (64, 32)), ("stretch", (64, 32)), ("pad", (32, 32))])
def test_crop_flip__windows_reach_everything(mode: str, shape: tuple[int, int]) -> None:
    """Of a picture whose red rises to the right, windows start anywhere and span 224/256 of the fitted side."""
    ramp = np.zeros((shape[1], shape[0], 3), np.uint8)
    ramp[:, :, 0] = np.linspace(0, 255, shape[0])
    preprocessing = replace(RAW, size=(28, 28), mode=mode)
    transform = training(preprocessing, "crop-flip")
    torch.manual_seed(0)
    tensors = [transform(Image.fromarray(ramp))[0, 14] for _ in range(60)]
    left = [min(float(t[0]), float(t[-1])) for t in tensors]
    span = [abs(float(t[-1] - t[0])) for t in tensors]
    expected = (0.5 if mode == "crop" else 1.0) * 0.875 * 27 / 28
    assert np.mean(span) == pytest.approx(expected, abs=0.03)
    room = 1 - (0.5 if mode == "crop" else 1.0) * 0.875
    assert min(left) < 0.2 * room + 0.02
    assert max(left) > 0.7 * room


def test_presets() -> None:
    own = Preprocessing(size=(32, 48), crop=0.9, interpolation="bilinear", mean=(0.1,) * 3, std=(0.2,) * 3)
    assert preset("pretrained", own) == own
    mean, std = NORMALISATIONS["imagenet"]
    assert preset("vtab", own) == Preprocessing((32, 48), mean, std, "bicubic", 1.0, "stretch")
    assert preset("fgvc", own) == Preprocessing((32, 48), mean, std, "bilinear", 0.875, "crop")
    assert preset("inception-norm", own) == Preprocessing((32, 48), (0.5,) * 3, (0.5,) * 3, "bilinear", 0.9)
    stretched = preset("vtab-inception", own)
    assert (stretched.mode, stretched.crop, stretched.mean, stretched.std) == (
        "stretch",
        1.0,
        (0.5,) * 3,
        (0.5,) * 3,
    )
    assert all(preset(name, own).size == own.size for name in PRESETS)
    with pytest.raises(ConfigError, match=r"no preprocessing preset 'vtap'\. Did you mean 'vtab'"):
        preset("vtap", own)
    for call in (deterministic, partial(training, own)):
        with pytest.raises(ConfigError, match=r"no augmentation 'flipp'\. Did you mean 'flip'\? Known: crop-flip"):
            call("flipp")


def test_from_timm() -> None:
    config = {"input_size": (3, 64, 32), "crop_pct": 1.0, "crop_mode": "squash", "url": "x", "interpolation": None}
    assert Preprocessing.from_timm(config) == Preprocessing((64, 32), crop=1.0, mode="stretch")
    assert Preprocessing.from_timm({}) == Preprocessing()
    for wrong, message in [
        ({"input_size": (1, 28, 28)}, r"input_size \(1, 28, 28\): .*only RGB"),
        ({"crop_mode": "centre"}, r"no timm crop_mode 'centre'\. Did you mean 'center'"),
        ({"interpolation": "random"}, "no interpolation 'random'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            Preprocessing.from_timm(wrong)


def test_json__round_trip_and_mistakes() -> None:
    own = Preprocessing(size=(32, 48), crop=0.9, interpolation="lanczos", mode="pad")
    values = own.to_json()
    assert Preprocessing.from_json(json.loads(json.dumps(values))) == own
    with pytest.raises(ConfigError, match="Preprocessing lacks crop, mode"):
        Preprocessing.from_json({key: values[key] for key in ("size", "mean", "std", "interpolation")})
    for wrong, message in [
        ({"sise": 3}, r"no preprocessing key 'sise'\. Did you mean 'size'"),
        ({"size": 224}, "224 is not a list"),
        ({"size": [224, 224.5]}, r"224\.5 is not a whole number"),
        ({"size": [224, 0]}, "each at least 1 pixel"),
        ({"mean": ["0.5", 0, 0]}, r"'0\.5' is not a number"),
        ({"mean": [0.5, 0.5]}, "expected three values each"),
        ({"std": [1, 1, 0]}, "std above 0"),
        ({"crop": True}, "True is not a number"),
        ({"crop": 1.5}, r"crop 1\.5: expected a fraction"),
        ({"mode": "fit"}, "no fitting mode 'fit'"),
        ({"interpolation": "cubic"}, r"no interpolation 'cubic'\. Did you mean 'bicubic'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            Preprocessing.from_json({**values, **wrong})


def test_import__reading_images_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, vitgraft.data.source; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
