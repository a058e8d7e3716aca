"""Methods that look at training data first: what they find is saved, and a killed run goes on with it."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import vitgraft
from tests import toy
from tests.tiny import images, vit
from vitgraft.errors import ArtefactError, CheckpointError, ConfigError, VitgraftError
from vitgraft.models.artefact import CARD, FOUND, TENSORS
from vitgraft.runs.config import RunConfig
from vitgraft.runs.run import run
from vitgraft.train import calibrate, loop
from vitgraft.train.calibrate import FINDINGS, STAGES, VALUES
from vitgraft.train.session import Session
from vitgraft.train.settings import Training

SPECS = ("head2toe:keep=0.2", "vqt:tokens=2,keep=0.5", "vqt:summary=weighted,keep=0.5", "lst:start=fisher")
SETTINGS = Training(epochs=2, batch_size=10, augment="flip", device="cpu", snapshot_seconds=0.0)
STEPS = 6
"""Of a stage: two epochs of 30 images."""


def graft(spec: str, **more: Any) -> vitgraft.Model:
    given = {"data": toy.split(30), "settings": SETTINGS, "preprocessing": toy.PREPROCESSING, **more}
    return vitgraft.graft(vit(), spec, classes=toy.CLASSES, **given)


def assert_same(first: vitgraft.Model, second: vitgraft.Model) -> None:
    """Same findings and same values, bit for bit."""
    for ours, theirs in (
        (first.findings, second.findings),
        (first.tuned.state_dict(), second.tuned.state_dict()),
    ):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


class Killed(BaseException):
    """Ends a session where it stands, like a kill that leaves the interpreter alive."""


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], Any]], None]:
    """Have something happen before step n (from 1) of all steps from here on; n = 0: nothing any more."""
    plain = Session._step

    def arrange(n: int, happen: Callable[[], Any]) -> None:
        done = 0

        def step(self: Session, *arguments: Any) -> None:
            nonlocal done
            done += 1
            if done == n:
                happen()
            plain(self, *arguments)

        monkeypatch.setattr(Session, "_step", step)

    return arrange


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the stages that are trained from here on."""
    names: list[str] = []
    plain = loop.fit

    def fit(*arguments: Any, out: Path | None = None, **options: Any) -> Any:
        names.append("" if out is None else out.name)
        return plain(*arguments, out=out, **options)

    monkeypatch.setattr(loop, "fit", fit)
    return names


def kill() -> None:
    raise Killed


@pytest.mark.parametrize("spec", SPECS)
def test_graft__without_data_is_told(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"looks at training data .* data=task\.splits\[\"train\"\]\)"):
        graft(spec, data=None)


def test_graft__a_method_that_does_not_look_needs_no_data(trained: list[str]) -> None:
    for spec in ("lora", "head2toe:keep=1", "vqt", "lst"):
        assert not graft(spec).findings
    assert not trained


def test_graft__leaves_the_global_generator_alone() -> None:
    plain = vit()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    vitgraft.graft(plain, "vqt:keep=0.5", toy.CLASSES, data=toy.split(30), settings=SETTINGS)
    assert torch.equal(torch.rand(1), expected)


def test_seed__decides_what_is_found() -> None:
    assert_same(graft("vqt:keep=0.5", seed=1), graft("vqt:keep=0.5", seed=1))
    first, second = graft("vqt:keep=0.5", seed=1), graft("vqt:keep=0.5", seed=2)
    assert not torch.equal(first.findings["queries"], second.findings["queries"])


@pytest.mark.parametrize("spec", SPECS)
def test_save__and_load_give_the_same_model(spec: str, tmp_path: Path) -> None:
    model = graft(spec)
    vitgraft.fit(model, toy.split(30), settings=SETTINGS)
    model.save(tmp_path)
    loaded = vitgraft.load(tmp_path, backbone=vit())
    assert_same(loaded, model)
    pictures = images(model.backbone)
    with torch.no_grad():
        assert torch.equal(loaded.tuned.eval()(pictures), model.tuned.eval()(pictures))
    tensors = load_file(tmp_path / TENSORS)
    assert {name.removeprefix(FOUND) for name in tensors if name.startswith(FOUND)} == set(model.findings)
    counts = json.loads((tmp_path / CARD).read_text())["trained_values"]
    assert sum(value.numel() for value in tensors.values()) == sum(counts.values())


@pytest.mark.parametrize("damage", ["lost", "foreign"])
def test_load__findings_that_do_not_fit_the_card_are_told(damage: str, tmp_path: Path) -> None:
    graft("head2toe" if damage == "lost" else "linear").save(tmp_path)
    tensors = {name: value for name, value in load_file(tmp_path / TENSORS).items() if not name.startswith(FOUND)}
    if damage == "foreign":
        tensors[f"{FOUND}kept"] = torch.arange(3)
    save_file(tensors, tmp_path / TENSORS)
    card = json.loads((tmp_path / CARD).read_text())
    del card["digest"]  # as cards were written before they had one
    (tmp_path / CARD).write_text(json.dumps(card))
    with pytest.raises(ArtefactError, match=r"findings, and .* takes (some|none)\. The files belong"):
        vitgraft.load(tmp_path, backbone=vit())


@pytest.mark.parametrize(
    ("spec", "width", "message"),
    [
        ("head2toe", 8, "kept features are not among the 200 that this backbone gives"),
        ("vqt:keep=0.5", 32, r"queries that were found are \(3, 1, 24\), and this backbone takes \(3, 1, 32\)"),
        ("lst:start=fisher", 16, "The findings in .* fit neither its card nor"),
        ("lst:start=fisher", 32, "The findings in .* fit neither its card nor"),
    ],
)
def test_load__findings_of_another_backbone_are_told(spec: str, width: int, message: str, tmp_path: Path) -> None:
    graft(spec).save(tmp_path)
    with pytest.raises(VitgraftError, match=message):
        vitgraft.load(tmp_path, backbone=vit(embed_dim=width, num_heads=1), force=True)


@pytest.mark.parametrize("moment", [2, STEPS, STEPS + 1, STEPS + 4])
def test_kill__a_killed_stage_goes_on(moment: int, tmp_path: Path, at_step: Any, trained: list[str]) -> None:
    expected = graft("vqt:keep=0.5")
    at_step(moment, kill)
    with pytest.raises(Killed):
        graft("vqt:keep=0.5", out=tmp_path)
    reached = "queries" if moment <= STEPS else "scores"
    assert trained[-1] == reached
    del trained[:]
    at_step(2 * STEPS - moment + 2, kill)  # a step that is done twice
    assert_same(graft("vqt:keep=0.5", out=tmp_path, resume=True), expected)
    assert trained == (["queries", "scores"] if reached == "queries" else ["scores"])
    del trained[:]
    assert_same(graft("vqt:keep=0.5", out=tmp_path, resume=True), expected)
    assert not trained, "what was found is found again"


def test_kill__between_stages_and_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[str]
) -> None:
    """The stage is over and the gradients of the backbone are not: the probe is not trained again."""
    expected = graft("lst:start=fisher")
    with monkeypatch.context() as patched:
        patched.setattr(calibrate.Calibrator, "squared_gradients", lambda *arguments: kill())
        with pytest.raises(Killed):
            graft("lst:start=fisher", out=tmp_path)
    assert {path.name for path in (tmp_path / STAGES / "probe").iterdir()} == {VALUES, "log.jsonl"}
    del trained[:]
    assert_same(graft("lst:start=fisher", out=tmp_path, resume=True), expected)
    assert not trained


def test_interrupt__is_a_keyboard_interrupt_and_goes_on(tmp_path: Path, at_step: Any, capsys: Any) -> None:
    at_step(3, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        graft("head2toe", out=tmp_path)
    assert "head2toe looks at the training data, stage scores:" in capsys.readouterr().err
    at_step(0, kill)
    assert_same(graft("head2toe", out=tmp_path, resume=True), graft("head2toe"))


def test_seconds__are_those_of_all_sessions(tmp_path: Path) -> None:
    first = graft("lst:start=fisher", out=tmp_path)
    assert first.finding_seconds > 0
    assert graft("lst:start=fisher", out=tmp_path, resume=True).finding_seconds == first.finding_seconds
    assert graft("lora").finding_seconds == 0


def test_start__anew_uses_nothing_of_an_earlier_run(tmp_path: Path, trained: list[str]) -> None:
    graft("head2toe", out=tmp_path)
    (tmp_path / STAGES / "foreign").mkdir()
    graft("head2toe", out=tmp_path)
    assert trained == ["scores", "scores"]
    assert not (tmp_path / STAGES / "foreign").exists()


def test_resume__other_settings_are_told(tmp_path: Path) -> None:
    graft("head2toe", out=tmp_path)
    with pytest.raises(ConfigError, match=r"method is 'head2toe:keep=0\.5', was 'head2toe'.*start anew"):
        graft("head2toe:keep=0.5", out=tmp_path, resume=True)
    with pytest.raises(ConfigError, match="train labels is"):
        graft("head2toe", out=tmp_path, resume=True, data=toy.split(29))


@pytest.mark.parametrize("name", [FINDINGS, f"scores/{VALUES}"])
def test_resume__a_damaged_file_is_told(name: str, tmp_path: Path) -> None:
    graft("head2toe", out=tmp_path)
    path = tmp_path / STAGES / name
    path.write_bytes(path.read_bytes()[:50])
    if name != FINDINGS:
        (tmp_path / STAGES / FINDINGS).unlink()
    with pytest.raises(CheckpointError, match=r"cannot be read .* Delete it"):
        graft("head2toe", out=tmp_path, resume=True)


def test_select__stages_have_no_validation_to_select_on() -> None:
    settings = Training(epochs=1, batch_size=10, select="best", patience=3, lr=1e-3, min_lr=1e-3, device="cpu")
    assert graft("vqt:keep=0.5", settings=settings).findings


def test_run__ends_with_graft_and_record_and_goes_on_after_a_stop(tmp_path: Path, at_step: Any) -> None:
    digits = str(toy.some_digits(tmp_path / "digits"))
    values = {"data": digits, "method": "head2toe", "epochs": 1, "batch_size": 40, "device": "cpu"}
    config = RunConfig.of({**values, "out": str(tmp_path / "run")})
    at_step(2, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(config)
    assert config.kept.exists()
    with pytest.raises(ConfigError, match="holds a run that was stopped"):
        run(config)
    at_step(0, kill)
    record = run(config, resume=True)
    assert not (config.folder / STAGES).exists()
    assert {path.name for path in config.folder.iterdir()} == {
        "run.toml",
        "split.csv",
        "log.jsonl",
        "record.json",
        TENSORS,
        CARD,
    }
    model = vitgraft.load(config.folder)
    assert record.cost.trained_method == 0
    weights = sum(value.nbytes for value in model.tuned.state_dict().values())
    assert record.cost.graft_bytes == weights + model.findings["kept"].nbytes
