"""A run's keys: command line, TOML file and dataclass agree; mistakes are named with what was meant."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from vitgraft.errors import ConfigError
from vitgraft.runs.config import RunConfig, from_text, keys, read_toml
from vitgraft.train.settings import Training

OTHERS: dict[str, Any] = {  # a value for every key, none of them its default
    "data": 'odd "name"\n\\ü\x7f',
    "root": "images",
    "train_on": "trainval",
    "path_column": "file name",
    "label_column": "species",
    "split_column": "none",
    "suffix": ".jpg",
    "val_fraction": 0.2,
    "start_from": "runs/before",
    "test_fraction": 1e-05,
    "split_seed": 5,
    "labels": "multi",
    "skip_unreadable": True,
    "pixel_range": "0:4095",
    "max_pixels": 10**9,
    "method": "lora:rank=4,places=qkv,share_a=true,dropout=0.0",
    "backbone": "vit_tiny_patch16_224",
    "checkpoint": "weights.npz",
    "image_size": 384,
    "global_pool": "avg",
    "preprocessing": "vtab",
    "out": "runs/there",
    "records": "runs/records",
    "protocol": "noah",
    "epochs": 7,
    "batch_size": 32,
    "lr": 2e-3,
    "weight_decay": 0.0,
    "warmup_epochs": 2.5,
    "min_lr": 1e-6,
    "label_smoothing": 0.1,
    "class_weights": "balanced",
    "regression_loss": "l2",
    "clip_norm": 1.0,
    "accumulate": 2,
    "memory": "4GiB",
    "minutes": 2.5,
    "precision": "bf16",
    "seed": 11,
    "recompute": "block",
    "patience": 3,
    "select": "best",
    "augment": "flip",
    "workers": 2,
    "device": "cpu",
    "eval_batch_size": 16,
    "cache": "ram",
    "cache_precision": "fp32",
    "cache_limit": 3.5,
    "views": 2,
    "snapshot_seconds": 5.0,
    "optimizer": "sgd",
    "momentum": 0.8,
    "decay": "all",
    "lr_changes": "epoch",
    "warmup_lr": 1e-05,
    "cosine": "whole-run",
    "lag_epochs": 1,
    "head_init": "kaiming",
    "legacy_init": True,
    "legacy_test": True,
    "legacy_epochs": "spt",
}


def test_keys__are_the_fields_of_both_dataclasses() -> None:
    expected = {item.name for item in fields(RunConfig)} - {"training"}
    expected |= {item.name for item in fields(Training)}
    assert keys().keys() == expected
    assert OTHERS.keys() == expected, "a new key needs a value here"
    assert all(OTHERS[name] != key.default for name, key in keys().items())
    assert all(key.help for key in keys().values())
    assert all(key.default is None for key in keys().values() if type(None) in key.kinds), "a comment says none"


@pytest.mark.parametrize("values", [{"data": "digits"}, OTHERS], ids=["defaults", "others"])
def test_toml__round_trip(tmp_path: Path, values: dict[str, Any]) -> None:
    config = RunConfig.of(values)
    path = tmp_path / "run.toml"
    path.write_text(config.toml(), encoding="utf-8")
    again = RunConfig.of(read_toml(path))
    assert again.table() == config.table()
    assert again.toml() == config.toml()
    assert {**again.table(), **values} == again.table()


@pytest.mark.parametrize("name", OTHERS)
def test_text__is_read_as_the_file_is(name: str) -> None:
    if keys()[name].hint is not bool:
        assert from_text(name, str(OTHERS[name])) == OTHERS[name]


def test_none__overrides_a_file(tmp_path: Path) -> None:
    values = {**OTHERS, "lr": from_text("lr", "none"), "patience": "none"}
    config = RunConfig.of(values)
    assert config.training.lr is None
    assert config.training.patience is None
    assert RunConfig.of({"data": "x", "class_weights": "none"}).training.class_weights == "none"


def test_method__may_be_a_table(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('data = "digits"\n[method]\nname = "lora"\nrank = 4\nplaces = "qkv"\n')
    assert RunConfig.of(read_toml(path)).method == "lora:rank=4,places=qkv"


def test_out__stays_below_runs() -> None:
    assert str(RunConfig.of({"data": ".."}).folder) == "runs/lora-figures"


def test_out__has_a_name_of_its_own() -> None:
    config = RunConfig.of(
        {"data": "../My Photos/", "backbone": "vit_tiny_patch16_224.augreg", "method": "lora:rank=2"}
    )
    assert str(config.folder) == "runs/my-photos-lora-vit_tiny_patch16_224-augreg"
    assert config.table()["out"] == str(config.folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('data = "digits"\nepoch = 3', r"no option 'epoch'\. Did you mean 'epochs'"),
        ('data = "digits"\n[training]\nepochs = 3', r"no option 'training'.*under no \[table\]"),
        ('data = "digits"\nepochs = "many"', r"epochs = 'many' is not a whole number"),
        ('data = "digits"\nepochs = true', r"epochs = True is not a whole number"),
        ('data = "digits"\nepochs = 0', r"epochs=0: expected a whole number of at least 1"),
        ('data = "digits"\nlr = "fast"', r"lr = 'fast' is not a number or none"),
        ('data = "digits"\nskip_unreadable = "yes"', r"skip_unreadable = 'yes' is not true or false"),
        ('data = "digits"\nselect = "bset"', r"no value of select 'bset'\. Did you mean 'best'"),
        ('data = "digits"\nmethod = "lroa"', r"no method 'lroa'\. Did you mean 'lora'"),
        ('data = "digits"\nmethod = "lora:rnak=2"', r"no field of lora 'rnak'\. Did you mean 'rank'"),
        ('data = "digits"\n[method]\nrank = 4', r"A method needs a name"),
        ('data = "digits"\naugment = "flop"', r"no augmentation 'flop'\. Did you mean 'flip'"),
        ("epochs = 3", r"No data were named"),
        ('data = "digits', r"is no TOML: Unterminated string"),
        ('data = "digits"\ndata = "again"', r"is no TOML"),
        ('data = ["digits"]', r"data = \['digits'\] is not a text"),
    ],
)
def test_mistakes__are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        RunConfig.of(read_toml(path))


def test_read_toml__no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot read configuration"):
        read_toml(tmp_path / "run.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="no TOML"):
        read_toml(tmp_path / "binary.toml")


def test_extends__what_a_file_says_wins_over_its_bases(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "one.toml").write_text(
        'data = "digits"\nepochs = 3\nlr = 0.5\n[method]\nname = "lora"\nrank = 2\n'
    )
    (tmp_path / "two.toml").write_text("epochs = 4\nseed = 7\n")
    path = tmp_path / "run.toml"
    path.write_text('extends = ["deep/one.toml", "two.toml"]\nlr = 0.25\nmethod = { name = "vpt-deep" }\n')
    config = RunConfig.of(read_toml(path))
    assert (config.data, config.training.epochs, config.training.lr, config.training.seed) == (
        "digits",
        4,
        0.25,
        7,
    )
    assert config.method == "vpt-deep", "a method is one value: rank means nothing for another"
    assert "extends" not in config.toml()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('extends = "run.toml"', r"run\.toml' extends itself"),
        ('extends = "other.toml"', r"other\.toml' extends itself|run\.toml' extends itself"),
        ('extends = "none.toml"', r"run\.toml' extends 'none\.toml', and there is no file"),
        ("extends = 3", r"extends=3: expected a file's name"),
        ('extends = [""]', r"expected a file's name"),
        ('extends = "wrong.toml"', r"wrong\.toml: There is no option 'epoch'"),
    ],
)
def test_extends__mistakes_name_the_file(tmp_path: Path, said: str, told: str) -> None:
    (tmp_path / "other.toml").write_text('extends = "run.toml"\n')
    (tmp_path / "wrong.toml").write_text("epoch = 3\n")
    (tmp_path / "run.toml").write_text(f"{said}\n")
    with pytest.raises(ConfigError, match=told):
        read_toml(tmp_path / "run.toml")
