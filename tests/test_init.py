"""`vitgraft init` writes a run that `fit` reads, and says what it found; `--set` gives keys as a file does."""

from pathlib import Path

from tests.runs import done, photos, refused
from vitgraft.runs.config import RunConfig, read_toml


def test_init__looks_at_the_data_and_writes_a_run_of_them(tmp_path: Path) -> None:
    data = photos(tmp_path / "photos")
    file = tmp_path / "run.toml"
    told = done("init", str(data), "--epochs", "3", "--to", str(file))
    assert f"fit --config {file}" in told.stdout
    text = file.read_text()
    assert text.startswith(f"# {data}: ")
    assert "classes; images: " in text.splitlines()[0]
    config = RunConfig.of(read_toml(file))
    assert (config.data, config.training.epochs) == (str(data), 3)
    assert config.backbone.startswith("vit_small_patch14_dinov2"), "photographs get a backbone for photographs"
    before = file.read_bytes()
    assert "is there already" in refused("init", str(data), "--to", str(file))
    assert file.read_bytes() == before
    done("init", "digits", "--to", str(file), "--force")
    assert RunConfig.of(read_toml(file)).backbone == "figures"


def test_set__is_an_option_by_another_name(tmp_path: Path) -> None:
    printed = done("fit", "digits", "--set", "epochs=4", "--set", "lr=none", "--print-config").stdout
    assert "\nepochs = 4" in printed
    assert "say it twice" in refused("fit", "digits", "--set", "epochs=4", "--epochs", "5", "--print-config")
    assert "has no value" in refused("fit", "digits", "--set", "epochs")
    assert "Did you mean 'epochs'" in refused("fit", "digits", "--set", "epoch=4")
