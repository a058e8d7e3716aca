"""A limit of memory: what is counted, what is chosen for it, that training stays the same, and stays inside."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import toy
from tests.runs import arguments, done, photos, refused, weights
from vitgraft import methods
from vitgraft.core.sites import Recompute
from vitgraft.core.tuned import Inputs, Tuned
from vitgraft.errors import ConfigError, TrainingError
from vitgraft.machine import memory
from vitgraft.machine.placement import Placement
from vitgraft.results import store
from vitgraft.train import limit
from vitgraft.train.batches import Layout
from vitgraft.train.calibrate import Calibrator
from vitgraft.train.footprint import LARGE, Following, Footprint, batch_for, unreal
from vitgraft.train.loop import Fitted, fit
from vitgraft.train.settings import Training
from vitgraft.train.within import Within, Works, choose, needs, room_of, standing

MIB = 2**20
HERE = Placement(torch.device("cpu"))
SHORT = Training(epochs=2, batch_size=12, lr=3e-3, device="cpu", cache="off")


def trained(model: Tuned, settings: Training, **more: Any) -> Fitted:
    return fit(model, toy.split(), toy.split(20, 1), settings, preprocessing=toy.PREPROCESSING, **more)


def close(first: Tuned, second: Tuned) -> bool:
    """Whether two models hold the same values up to the order of sums."""
    mine, theirs = first.state_dict(), second.state_dict()
    return all(torch.allclose(value, theirs[name], atol=2e-5, rtol=1e-4) for name, value in mine.items())


# Counting


def test_following__adds_up_what_is_alive_at_once() -> None:
    with Following(batch=7) as following:
        a = torch.ones(7, 100)
        b = a.view(100, 7).t() + 1
        del a
        c = torch.cat([b, b])
        del b, c
        torch.ones(10)
    assert following.found.bytes(7) == 7 * 100 * 4 * 3
    assert following.found.bytes(14) == 2 * following.found.bytes(7)


def test_following__tells_what_grows_from_what_does_not() -> None:
    with Following(batch=7) as following:
        kept = torch.ones(100), torch.ones(7, 3)
    assert following.found.moments == ((400.0, 12.0),)
    del kept


def test_footprint__the_highest_moment_decides() -> None:
    work = Footprint(((0.0, 10.0), (50.0, 1.0)))
    assert [work.bytes(images) for images in (1, 5, 10)] == [51.0, 55.0, 100.0]
    assert [work.images(room, 100) for room in (50, 51, 55, 100, 1e9)] == [0, 1, 5, 10, 100]
    assert work.with_(5.0).images(56, 100) == 1
    assert work.or_(Footprint(((60.0, 0.0),))).bytes(1) == 60.0


def test_batch_for__divides_no_size() -> None:
    assert batch_for([31, 62, 100], LARGE) == 37
    assert batch_for([100], LARGE) == 31
    assert batch_for([31, 10_000], LARGE) == 31  # too little to matter


@pytest.mark.parametrize("method", ["lora", "vpt-deep", "vqt", "full", "mlp"])
def test_works__unreal_tensors_take_what_real_ones_do(method: str) -> None:
    works = Works(toy.model(method), SHORT, cached=False)
    real = replace(works, real=True)
    for found, expected in ((one.step("none"), one.evaluation()) for one in (works, real)):
        for images in (5, 20):
            assert found.bytes(images) > expected.bytes(images) > 0
    for images in (7, 35):
        assert works.step("none").bytes(images) == pytest.approx(real.step("none").bytes(images), rel=0.03)


def test_works__recomputing_takes_less_and_leaves_the_model_alone() -> None:
    model = toy.model("lora").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    works = Works(model, SHORT, cached=False)
    taken = [works.step(recompute).bytes(16) for recompute in ("none", "mlp", "block")]
    assert taken == sorted(taken, reverse=True)
    assert len(set(taken)) == 3
    assert (model.recompute, model.training) == ("none", True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_works__readings_take_less_than_images() -> None:
    model = toy.model("linear")
    cached, walked = (Works(model, SHORT, cached=cached).step("none").bytes(32) for cached in (True, False))
    assert cached < walked / 4


def test_unreal__makes_no_values() -> None:
    with unreal():
        huge = torch.zeros(2**40)
        assert (huge + 1).shape == (2**40,)


FORKED = """
import os, torch
from vitgraft.train.footprint import unreal
with unreal():
    weight = torch.zeros(3, 3, requires_grad=True)
    torch.autograd.grad((weight @ weight).sum(), [weight])
child = os.fork()
if child == 0:
    torch.autograd.backward(torch.zeros(3, requires_grad=True).sum())
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_unreal__leaves_forks_able_to_train() -> None:
    child = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr


# Choosing


class Canned(Works):
    """Footprints that are known: each of a step's images takes so many bytes, by what is computed twice."""

    def step(self, recompute: Recompute) -> Footprint:
        return Footprint(((100.0, {"none": 100.0, "mlp": 60.0, "block": 10.0}[recompute]),))

    def evaluation(self) -> Footprint:
        return Footprint(((0.0, 5.0),))

    def walk(self) -> Footprint:
        return Footprint(((320.0, 10.0),)) if self.cached else Footprint()


def chosen(room: float, least: int = 1, settings: Training = SHORT, cached: bool = False) -> Within | None:
    """What is chosen for so many bytes beside what trains."""
    works = Canned(toy.model("lora"), settings, cached=cached)
    always = standing(works.model, settings)
    choice = choose(works, Layout(40, settings.batch_size, 0, least=least), room + always)
    assert choice.within is None or choice.needed <= room + always
    return choice.within


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (1e9, Within(1, "none", 128, 32, 0)),
        (1300, Within(1, "none", 128, 32, 0)),
        (1299, Within(2, "none", 128, 32, 0)),  # 6 images at a time
        (900, Within(2, "none", 128, 32, 0)),
        (899, Within(1, "mlp", 128, 32, 0)),
        (500, Within(1, "block", 100, 32, 0)),
        (120, Within(6, "block", 24, 32, 0)),
        (110, Within(12, "block", 22, 32, 0)),
        (109, None),
    ],
)
def test_choose__smaller_batches_then_more_computed_twice(room: float, expected: Within | None) -> None:
    assert chosen(room) == expected


def test_choose__a_batchnorm_keeps_two_images() -> None:
    assert chosen(120, least=2) == Within(6, "block", 24, 32, 0)
    assert chosen(119, least=2) is None


def test_choose__the_walk_of_a_cache_fits_too() -> None:
    always = standing(toy.model("lora"), SHORT)
    assert chosen(300 - always, cached=True) is None
    found = chosen(120, cached=True)
    assert found is not None
    assert found.at_once == min((120 + always - 320) // 10, 32)


def test_choose__keeps_what_was_asked_for() -> None:
    settings = replace(SHORT, accumulate=3, recompute="block", eval_batch_size=7)
    assert chosen(1e12, settings=settings) == Within(3, "block", 7, 32, 0)


def test_choose__images_stay_in_memory_where_they_take_a_part_of_it() -> None:
    works = Canned(toy.model("lora"), SHORT, cached=False)
    layout, always = Layout(40, SHORT.batch_size, 0), standing(works.model, SHORT)
    kept = [choose(works, layout, always + 4000, images).within for images in (1000, 1001)]
    assert [one and one.images_limit for one in kept] == [1000, 0]


def test_needs__and_room_are_each_others_inverse() -> None:
    assert room_of(limit=100 + needs(1e9), before=100) == pytest.approx(1e9)


# Looking at data


def test_look__in_parts_is_the_same_look(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen, data = toy.backbone(), toy.split(24)

    def found(memory: str | None) -> dict[str, Tensor]:
        settings = replace(SHORT, memory=memory)
        looking = Calibrator(methods.parse("spt-lora"), frozen, 3, data, toy.PREPROCESSING, settings)
        return looking.squared_gradients(toy.model("linear", frozen), 24, batch=8)

    monkeypatch.setattr(limit, "held", lambda device: 512 * MIB)
    monkeypatch.setattr(limit, "give_back", lambda: True)
    need = limit.look(toy.model("linear", frozen))
    some = f"{(512 * MIB + needs(need.bytes(3) + 1)) / MIB:.6f}MiB"
    assert limit.looked_at_once(toy.model("linear", frozen), 8, replace(SHORT, memory=some), HERE) == 3
    whole, parts = found(None), found(some)
    assert all(torch.allclose(value, parts[name], rtol=1e-3, atol=1e-9) for name, value in whole.items())
    with pytest.raises(ConfigError, match=r"no room for those of one image. Give it --memory \d+MiB"):
        found("513MiB")


def test_evaluation__outside_training_keeps_the_limit(little: str) -> None:
    model = toy.model("lora")
    assert limit.evaluated_at_once(model, SHORT, HERE) == SHORT.eval_batch_size
    assert 1 <= limit.evaluated_at_once(model, replace(SHORT, memory=little), HERE) < SHORT.eval_batch_size


# Training


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> str:
    """A limit that leaves room for few images of the toy task, whatever this process holds."""
    works = Works(toy.model("lora"), SHORT, cached=False)
    room = works.step("block").with_(standing(works.model, SHORT)).bytes(3) + 1
    monkeypatch.setattr(limit, "held", lambda device: 512 * MIB)
    monkeypatch.setattr(limit, "give_back", lambda: True)
    return f"{(512 * MIB + needs(room)) / MIB:.6f}MiB"


def test_fit__within_little_memory_is_the_same_training(
    little: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, within = toy.model("lora"), toy.model("lora")
    trained(plain, SHORT)
    fitted = trained(within, replace(SHORT, memory=little), out=tmp_path)
    assert fitted.within is not None
    assert (fitted.within.accumulate, fitted.within.recompute) == (4, "block")
    assert fitted.within.eval_batch_size < SHORT.eval_batch_size
    assert within.recompute == "none"
    assert close(plain, within)
    told = capsys.readouterr().err
    assert "To stay within memory: 4 micro-batches of up to 3 images a step, whose gradients add up" in told
    assert "blocks are computed twice" in told


@pytest.mark.slow
def test_fit__goes_on_as_it_began(little: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SHORT, memory=little, snapshot_seconds=0)
    whole, model = toy.model("lora"), toy.model("lora")
    trained(whole, settings)
    stop_after(model, 14)
    with pytest.raises(RuntimeError, match="stopped"):
        trained(model, settings, out=tmp_path)
    monkeypatch.setattr(limit, "held", lambda device: 10 * MIB)  # now there would be room for more
    again = toy.model("lora")
    fitted = trained(again, settings, out=tmp_path, resume=True)
    assert fitted.within is not None
    assert fitted.within.accumulate == 4
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in again.state_dict().items())


def stop_after(model: Tuned, calls: int) -> None:
    """Let a model fail at a call, as if the run had been killed."""
    left = iter(range(calls))

    def fail(module: object, args: object) -> None:
        if next(left, None) is None:
            raise RuntimeError("stopped")

    model.register_forward_pre_hook(fail)


def test_fit__refuses_what_cannot_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "held", lambda device: 512 * MIB)
    with pytest.raises(
        ConfigError, match=r"--memory 500MiB .*holds 512 MiB of these 500 MiB before it trains"
    ) as told:
        trained(toy.model("lora"), replace(SHORT, memory="500MiB"))
    enough = int(re.findall(r"Give it --memory (\d+)MiB", str(told.value))[0])
    needed = int(re.findall(r"needs (\d+) MiB more", str(told.value))[0])
    assert 512 + needed <= enough <= 512 + needed + 32


@pytest.mark.parametrize("text", ["4", "4 apples", "GiB", "-1GiB", "0GiB"])
def test_memory__is_an_amount(text: str) -> None:
    with pytest.raises(ConfigError, match="Write 4GiB, 500MiB or 8GB"):
        Training(memory=text)


def test_memory__in_bytes() -> None:
    assert [memory.bytes_of(text) for text in ("4GiB", "500 mib", "1.5GB")] == [
        4 * 2**30,
        500 * MIB,
        1_500_000_000,
    ]
    assert memory.written(3 * 2**30) == "3.00 GiB"


def test_records__from_before_keep_their_names() -> None:
    config = {"data": "digits", "method": "lora", "backbone": "figures"}
    assert store.identity(config) == store.identity({**config, "memory": None})
    assert store.identity(config) != store.identity({**config, "memory": "4GiB"})


@pytest.mark.slow
def test_cli__records_what_was_chosen(tmp_path: Path) -> None:
    data, out = photos(tmp_path / "photos"), tmp_path / "run"
    options = arguments(weights(tmp_path / "w.safetensors"), memory="64GiB", epochs=1)
    result = done("fit", data, *options, "--out", out)
    assert "To stay within memory: whole batches" in result.stderr
    assert 'memory = "64GiB"' in (out / "run.toml").read_text()
    cost = json.loads((out / "record.json").read_text())["cost"]
    assert (cost["micro_batches"], cost["computed_twice"], cost["evaluated_at_once"]) == (1, "none", 128)
    assert cost["predicted_peak_mib"] > 0
    options = arguments(tmp_path / "w.safetensors", memory="1MiB", epochs=1)
    assert "before it trains" in refused("fit", data, *options, "--out", tmp_path / "other")


# An accelerator that has no room


def full_above(model: Tuned, images: int, training_alone: bool = True) -> list[int]:
    """Let a model fail as an accelerator does for more than so many images; returns the batches that it met."""
    seen: list[int] = []

    def check(module: Tuned, args: tuple[Inputs]) -> None:
        (inputs,) = args
        count = len(inputs) if isinstance(inputs, Tensor) else len(next(iter(inputs.values())))
        seen.append(count)
        if count > images and (module.training or not training_alone):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    model.register_forward_pre_hook(check)
    return seen


@pytest.mark.parametrize("cache", ["off", "ram"])
def test_no_room__halves_the_micro_batch_and_computes_the_same(
    cache: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = SHORT.changed({"cache": cache})
    method = "linear" if cache == "ram" else "lora"
    plain, model = toy.model(method), toy.model(method)
    expected = trained(plain, settings)
    seen = full_above(model, 3)
    fitted = trained(model, settings)
    assert fitted.within is not None
    assert (fitted.within.accumulate, fitted.within.peak) == (4, None)
    assert {12, 6, 3} <= set(seen)
    assert close(plain, model)
    assert fitted.history[-1]["train_loss"] == pytest.approx(expected.history[-1]["train_loss"], rel=1e-4)
    assert fitted.steps == expected.steps
    told = capsys.readouterr().err
    assert "no room for a micro-batch in epoch 1: now a step is computed in 2" in told
    assert "now a step is computed in 4" in told


def test_no_room__evaluates_fewer_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    plain, model = toy.model("lora"), toy.model("lora")
    expected = trained(plain, SHORT)
    full_above(model, 12, training_alone=False)
    fitted = trained(model, SHORT.changed({"eval_batch_size": 20}))
    assert fitted.val is not None
    assert expected.val is not None
    assert fitted.val.loss == pytest.approx(expected.val.loss, rel=1e-5)
    assert fitted.within is not None
    assert (fitted.within.accumulate, fitted.within.eval_batch_size) == (1, 10)
    assert "no room for 20 images of val: now 10 at a time" in capsys.readouterr().err


def test_no_room__goes_on_from_its_snapshot(tmp_path: Path) -> None:
    plain, model = toy.model("lora"), toy.model("lora")
    trained(plain, SHORT)
    settings = SHORT.changed({"snapshot_seconds": 0.0})
    full_above(model, 3)
    stop_after(model, 20)
    with pytest.raises(RuntimeError, match="stopped"):
        trained(model, settings, out=tmp_path)
    again = toy.model("lora")
    seen = full_above(again, 3)
    fitted = trained(again, settings, out=tmp_path, resume=True)
    assert max(seen) <= 20  # validation's; no micro-batch failed again
    assert 12 not in seen
    assert fitted.within is not None
    assert fitted.within.accumulate == 4
    assert close(plain, again)


def test_no_room__for_one_image_says_what_helps() -> None:
    model = toy.model("lora")
    full_above(model, 1)
    trained(model, SHORT)
    none = toy.model("lora")
    seen: list[int] = []

    def fail(module: Tuned, args: object) -> None:
        seen.append(1)
        if len(seen) > 1:  # the probe had room
            raise torch.OutOfMemoryError("CUDA out of memory.")

    none.register_forward_pre_hook(fail)
    with pytest.raises(TrainingError, match=r"no room for a micro-batch of 1, .*--recompute block"):
        trained(none, SHORT)


# A fresh process

COMMAND = """
import atexit
from vitgraft.cli import main
from vitgraft.train.cost import peak_memory_mib
atexit.register(lambda: print("peak", peak_memory_mib()))
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc, and a peak of its own")
@pytest.mark.parametrize(("method", "over"), [("lora", 120), ("lora", 330), ("linear", 120)])
def test_fit__never_holds_more_than_the_limit(method: str, over: int, tmp_path: Path) -> None:
    """A ViT of a few million values in a process of its own, with so many MiB over what an idle one holds."""
    given = {"backbone": "vit_tiny_patch16_224", "method": method, "epochs": 1, "device": "cpu"}
    given |= {"checkpoint": tiny_weights(tmp_path / "w.safetensors"), "out": tmp_path / "run"}
    words = ["fit", str(photos(tmp_path / "photos", 24)), *(f"--{key}={value}" for key, value in given.items())]

    def command(limit: int) -> "subprocess.CompletedProcess[str]":
        asked = [sys.executable, "-c", COMMAND, *words, f"--memory={limit}MiB"]
        return subprocess.run(asked, capture_output=True, text=True, check=False)

    idle = int(re.search(r"holds (\d+) MiB", command(1).stderr)[1])  # type: ignore[index]
    finished = command(idle + over)
    assert finished.returncode == 0, finished.stderr
    measured = float(finished.stdout.split()[-1])
    cost = json.loads((tmp_path / "run" / "record.json").read_text())["cost"]
    print(idle, over, measured, cost)
    assert measured <= idle + over
    assert 0.85 * cost["predicted_peak_mib"] <= measured <= cost["predicted_peak_mib"]


def tiny_weights(file: Path) -> Path:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict(), file)
    return file
