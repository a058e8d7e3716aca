"""The five lines of Python: graft, save, load, merge; and artefacts that are damaged or foreign."""

import json
import pickle
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import vitgraft
from tests import toy
from tests.tiny import images, vit
from vitgraft.core.tuned import perturbed
from vitgraft.errors import ArtefactError, BackboneError, CheckpointError, ConfigError
from vitgraft.models.artefact import CARD, TENSORS


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = vitgraft.graft(vit(), "lora:rank=2", classes=("cat", "dog", "owl"))
    with torch.no_grad():
        for value in model.tuned.parameters():
            value.add_(0.1)
    model.save(tmp_path / "graft")
    return tmp_path / "graft"


def test_graft__methods_by_text_and_by_class() -> None:
    by_text = vitgraft.graft(vit(), "lora:rank=4,places=qkv", classes=3)
    by_class = vitgraft.graft(vit(), vitgraft.LoRA(rank=4, places="qkv"), classes=3)
    by_table = vitgraft.graft(vit(), {"name": "lora", "rank": 4, "places": "qkv"}, classes=3)
    assert by_text.method == by_class.method == by_table.method


def test_graft__same_seed_same_values() -> None:
    states = [vitgraft.graft(vit(), "lora", classes=3, seed=seed).tuned.state_dict() for seed in (1, 1, 2)]
    name = next(name for name in states[0] if name.endswith("down"))
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


def test_graft__leaves_the_global_generator_alone() -> None:
    frozen = vit(seed=0)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    vitgraft.graft(frozen, "lora", classes=3)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": "lroa"}, ConfigError, "Did you mean 'lora'"),
        ({"classes": 1}, ConfigError, "at least two"),
        ({"backbone": torch.nn.Linear(2, 2)}, BackboneError, "Linear model, which vitgraft has no view of"),
        ({"backbone": "vit_bse_patch16_224"}, BackboneError, "vit_base_patch16_224"),
    ],
)
def test_graft__mistakes_are_told(arguments, error, message: str) -> None:
    with pytest.raises(error, match=message):
        vitgraft.graft(**{"backbone": vit(), "method": "lora", "classes": 3, **arguments})


def test_save__holds_the_trained_values_and_nothing_else(saved: Path) -> None:
    tensors = load_file(saved / TENSORS)
    card = json.loads((saved / CARD).read_text())
    assert sum(value.numel() for value in tensors.values()) == sum(card["trained_values"].values())
    assert card["class_names"] == ["cat", "dog", "owl"]
    assert {path.name for path in saved.iterdir()} == {TENSORS, CARD}


def test_load__gives_the_same_logits(saved: Path) -> None:
    model = vitgraft.load(saved, backbone=vit())
    pictures = images(model.backbone)
    expected = vitgraft.graft(vit(), "lora:rank=2", classes=3)
    expected.tuned.load_state_dict(load_file(saved / TENSORS))
    with torch.no_grad():
        assert torch.equal(model.tuned.eval()(pictures), expected.tuned.eval()(pictures))
    assert model.class_names == ("cat", "dog", "owl")


def test_load__refuses_other_weights_unless_forced(saved: Path) -> None:
    with pytest.raises(ArtefactError, match="was trained on VisionTransformer with weights"):
        vitgraft.load(saved, backbone=vit(seed=9))
    assert vitgraft.load(saved, backbone=vit(seed=9), force=True).class_names[0] == "cat"


def test_load__a_model_built_in_python_must_be_given(saved: Path) -> None:
    with pytest.raises(ArtefactError, match="backbone=model"):
        vitgraft.load(saved)


@pytest.mark.parametrize("damage", ["no card", "broken card", "other schema", "cut tensors", "pickle", "foreign"])
def test_load__damage_is_told(saved: Path, damage: str) -> None:
    card, tensors = saved / CARD, saved / TENSORS
    if damage == "no card":
        card.unlink()
    elif damage == "broken card":
        card.write_text(card.read_text()[:40])
    elif damage == "other schema":
        card.write_text(card.read_text().replace('"schema": 1', '"schema": 99'))
    elif damage == "cut tensors":
        tensors.write_bytes(tensors.read_bytes()[:100])
    elif damage == "pickle":
        tensors.write_bytes(pickle.dumps({"a": 1}))
    else:
        save_file({"a": torch.zeros(2)}, tensors)
    with pytest.raises(ArtefactError, match=r"again|Name the folder|another backbone"):
        vitgraft.load(saved, backbone=vit())


def test_merge__plain_checkpoint_loads_strictly(tmp_path: Path, saved: Path) -> None:
    model = vitgraft.load(saved, backbone=vit())
    plain = model.merge()
    save_file(plain.state_dict(), tmp_path / "plain.safetensors")
    fresh = vit(num_classes=3)
    fresh.load_state_dict(load_file(tmp_path / "plain.safetensors"), strict=True)
    pictures = images(model.backbone)
    with torch.no_grad():
        assert torch.allclose(fresh(pictures), model.tuned.eval()(pictures), atol=1e-5)


def test_import__costs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, vitgraft, vitgraft.methods as m; m.parse('lora:rank=3'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("method", ["adapter:hidden=2,dropout=0.5", "mlp", "vqt:dropout=0.5"])
def test_load__is_ready_to_be_asked(method: str, tmp_path: Path) -> None:
    """A loaded model answers the same each time, and answering changes nothing in it."""
    made = vitgraft.graft(vit(), method, classes=3)
    with perturbed(made.tuned, 0.3):
        made.save(tmp_path / "run")
    model = vitgraft.load(tmp_path / "run", backbone=vit())
    pictures = images(model.backbone)
    before = {name: value.clone() for name, value in model.tuned.state_dict().items()}
    with torch.no_grad():
        assert torch.equal(model(pictures), model(pictures))
    assert all(torch.equal(value, before[name]) for name, value in model.tuned.state_dict().items())


def test_python__mistakes_are_told_as_the_command_line_tells_them(saved: Path) -> None:
    split = toy.split()
    for arguments, told in (
        ({"classes": "cat"}, "is one name"),
        ({"classes": ["a", "b", "a"]}, "'a' is named twice"),
        ({"method": {"name": "lora", "rank": 0}}, "lora: rank=0 must be above zero"),
        ({"method": "noah", "data": split}, "chooses by validation accuracy"),
    ):
        with pytest.raises(ConfigError, match=told):
            vitgraft.graft(vit(), **{"method": "lora", "classes": 3, **arguments})  # type: ignore[arg-type]
    model = vitgraft.graft(vit(), "linear", classes=3)
    with pytest.raises(ConfigError, match=r"no training setting 'epoch'\. Did you mean 'epochs'"):
        vitgraft.fit(model, split, epoch=1)
    with pytest.raises(ConfigError, match=r"train='digits': expected a Split\. load_task"):
        vitgraft.fit(model, "digits")  # type: ignore[arg-type]
    (saved.parent / "file").write_text("")
    with pytest.raises(ArtefactError, match="is a file, and a graft is written into a folder"):
        model.save(saved.parent / "file")


def test_python__one_is_as_good_as_several(saved: Path, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), "red").save(tmp_path / "one.png")
    model = vitgraft.load(saved, backbone=vit())
    picture = tmp_path / "one.png"
    assert model.predict(picture).shape == model.predict([picture]).shape == (1, 3)
    assert torch.equal(model.predict(str(picture)), model.predict(Image.open(picture)))


def test_python__names_can_be_listed() -> None:
    assert {"LoRA", "SynQT", "graft", "VitgraftError"} <= set(dir(vitgraft))
    assert issubclass(ConfigError, vitgraft.VitgraftError)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose run `runs/a` stands on a file of weights of its own, in `weights/w.safetensors`."""
    home = tmp_path / "project"
    (home / "weights").mkdir(parents=True)
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), home / "weights" / "w.safetensors")
    frozen = vitgraft.load_backbone("test_vit", checkpoint=home / "weights" / "w.safetensors", image_size=32)
    vitgraft.graft(frozen, "linear", classes=3).save(home / "runs" / "a")
    return home


def others(path: Path) -> Path:
    """Weights of the same model that are not those of the project."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), path)
    return path


@pytest.mark.parametrize("now", ["project", "runs/a", "runs", "here", "deep below here"])
def test_load__weights_that_moved_are_found_by_their_fingerprint(
    project: Path, now: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = vitgraft.load(project / "runs" / "a").backbone.fingerprint()
    file = project / "weights" / "w.safetensors"
    moved = project.rename(project.parent / "moved")
    others(file)  # another project has taken the place, with a file of the same name
    file = moved / "weights" / "w.safetensors"
    monkeypatch.chdir(project)
    if now in ("runs/a", "runs"):
        file.rename(moved / now / "w.safetensors")
    elif now == "here":
        file.rename(project / "w.safetensors")
    elif now == "deep below here":
        (project / "project" / "weights").mkdir(parents=True)
        file.rename(project / "project" / "weights" / "w.safetensors")
    model = vitgraft.load(moved / "runs" / "a")
    assert model.backbone.fingerprint() == wanted
    (found,) = vitgraft.Bundle.load(moved / "runs" / "a").members.values()
    assert found.backbone.fingerprint() == wanted


def test_load__weights_that_moved_can_be_named(project: Path, tmp_path: Path) -> None:
    run, kept = project / "runs" / "a", tmp_path / "elsewhere.safetensors"
    (project / "weights" / "w.safetensors").rename(kept)
    with pytest.raises(ArtefactError) as told:
        vitgraft.load(run)
    for part in (str(project / "weights" / "w.safetensors"), str(run), str(run.parent), "not there"):
        assert part in str(told.value)
    assert "--checkpoint FILE on the command line, checkpoint=FILE in Python" in str(told.value)
    assert vitgraft.load(run, checkpoint=kept).class_names == ("0", "1", "2")
    assert vitgraft.load(run, checkpoint=str(kept)).class_names == ("0", "1", "2")
    wrong = others(tmp_path / "wrong.safetensors")
    with pytest.raises(ArtefactError, match=r"Load the same weights \(--checkpoint FILE"):
        vitgraft.load(run, checkpoint=wrong)
    assert vitgraft.load(run, checkpoint=wrong, force=True).class_names == ("0", "1", "2")
    with pytest.raises(CheckpointError, match="does not exist"):
        vitgraft.load(run, checkpoint=tmp_path / "gone.safetensors")
    others(project / "weights" / "w.safetensors")
    with pytest.raises(ArtefactError, match=r"w\.safetensors: other weights"):
        vitgraft.load(run)
    assert vitgraft.load(run, force=True).class_names == ("0", "1", "2")
    with pytest.raises(ConfigError, match="not both"):
        vitgraft.load(run, checkpoint=kept, backbone=vit())


@pytest.mark.parametrize("folder", [5, None, ["a"], b"a", 1.5])
def test_load__what_is_no_path_is_told(folder: object) -> None:
    with pytest.raises(ArtefactError, match="no path"):
        vitgraft.load(folder)  # type: ignore[arg-type]
    with pytest.raises(ArtefactError, match=r"no path|no graft\.json"):
        vitgraft.Bundle.load(folder)  # type: ignore[arg-type]


def test_load__a_checkpoint_that_is_no_path(saved: Path) -> None:
    with pytest.raises(ArtefactError, match=r"checkpoint=3 \(int\) is no path"):
        vitgraft.load(saved, checkpoint=3)  # type: ignore[arg-type]
    with pytest.raises(ArtefactError, match=r"checkpoint=3 \(int\) is no path"):
        vitgraft.Bundle.load(saved, checkpoint=[3])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="at least one folder"):
        vitgraft.Bundle.load([])


def test_import__records_are_reached_by_dots(tmp_path: Path) -> None:
    """As the README says, after `import vitgraft` alone, and without torch."""
    import subprocess
    import sys

    code = (
        f"import sys, vitgraft; found = vitgraft.results.store.read_all({str(tmp_path)!r}); "
        f"assert vitgraft.results.read_all({str(tmp_path)!r}) == found and found.rows() == []; "
        "assert vitgraft.errors.ConfigError.__name__ == 'ConfigError'; assert not hasattr(vitgraft, 'nothing'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
