"""Protocols: what their files say can be said of a run, becomes its defaults, and gives the published rates."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from vitgraft import methods
from vitgraft.errors import ConfigError
from vitgraft.methods.synqt import PRESETS
from vitgraft.report.reference import FGVC, GROUPS
from vitgraft.runs import protocols
from vitgraft.runs.config import RunConfig, keys, read_toml
from vitgraft.train import loop
from vitgraft.train.optim import Schedule

PUBLISHED = ("noah", "spt", "ssf", "synqt", "vpt", "vqt")
SAID = {
    *("preprocessing", "augment", "epochs", "batch_size", "optimizer", "weight_decay", "decay", "precision"),
    *("warmup_epochs", "warmup_lr", "min_lr", "lr_changes", "cosine", "lag_epochs", "head_init", "legacy_init"),
    *("label_smoothing", "class_weights", "clip_norm", "select"),
}
"""What every published protocol fixes, beside a rate."""

VTAB = [f"vtab1k:{task}" for tasks in GROUPS.values() for task in tasks]
TASKS = {"vtab1k", "fgvc", *VTAB, *(f"fgvc:{task}" for task in FGVC)}


def config(protocol: str, data: str = "vtab1k:cifar100", **values: Any) -> RunConfig:
    return RunConfig.of({"data": data, "protocol": protocol, **values})


def layers(protocol: protocols.Protocol) -> list[tuple[str | None, Mapping[str, Any]]]:
    """Every table of a file, with the method that it is of."""
    found: list[tuple[str | None, Mapping[str, Any]]] = [(None, protocol.run)]
    found += [(None, table) for table in protocol.tasks.values()]
    for name, own in protocol.methods.items():
        found += [(name, own), *((name, table) for table in own.get("tasks", {}).values())]
    return found


def test_names() -> None:
    assert protocols.names() == (*PUBLISHED[:4], protocols.OURS, *PUBLISHED[4:])
    assert keys()["protocol"].default == protocols.OURS
    with pytest.raises(ConfigError, match=r"no protocol 'naoh'\. Did you mean 'noah'"):
        config("naoh")


@pytest.mark.parametrize("name", protocols.names())
def test_file__says_what_can_be_said_of_a_run(name: str) -> None:
    protocol = protocols.named(name)
    assert protocol.about
    assert protocol.source
    assert protocol.reported
    tasks = {task for _, table in layers(protocol) for task in table.get("tasks", {})} | protocol.tasks.keys()
    assert tasks <= TASKS
    assert {*protocol.methods, *protocol.grids} <= {*methods.names(), "default"}
    for method, table in layers(protocol):
        assert table.keys() - {"fields", "tasks"} <= {*keys(), protocols.BASE}
        assert not table.keys() & {"data", "method", "protocol", "out", "records", "seed"}
        if "fields" in table:
            assert method is not None
            methods.parse({"name": method, **table["fields"]})


@pytest.mark.parametrize("name", PUBLISHED)
def test_file__of_a_paper_fixes_all_that_matters(name: str) -> None:
    protocol = protocols.named(name)
    assert protocol.run.keys() - {"momentum", "legacy_epochs"} - SAID == (
        {"lr"} if "lr" in protocol.run else {protocols.BASE}
    )
    assert protocol.run.keys() >= SAID
    assert protocol.run["select"] == "last"
    assert ("legacy_epochs" in protocol.run) == ("best on test" in protocol.reported)
    assert "legacy_test" not in protocol.run, "test is read once, unless the user says otherwise"
    assert ("momentum" in protocol.run) == (protocol.run["optimizer"] == "sgd")
    assert protocol.differs, "none is exactly as published"


def test_ours__is_every_keys_own_default() -> None:
    plain = RunConfig.of({"data": "digits"})
    assert plain.protocol == protocols.OURS
    assert plain.given() == {
        **{name: key.default for name, key in keys().items()},
        "data": "digits",
    }
    assert plain == config(protocols.OURS, "digits")


VPT = 1.0 * 128 / 256
VQT = 0.1 * 128 / 256
RATES: dict[str, dict[int, float]] = {
    # L e / 10, then L (1 + cos(pi (e - 10) / 90)) / 2: epoch 0 is wasted
    "vpt": {0: 0.0, 1: 0.1 * VPT, 10: VPT, 99: 3.04586e-4 * VPT},
    "vqt": {0: 0.0, 1: 0.1 * VQT, 10: VQT, 99: 3.04586e-4 * VQT},
    # f(max(e - 1, 0)): 1e-6 + 9.99e-5 t, from t = 10 on 1e-5 + 9.9e-4 (1 + cos(pi t / 100)) / 2: two are wasted
    "noah": {0: 1e-6, 1: 1e-6, 2: 1.009e-4, 10: 9.001e-4, 11: 9.757728e-4, 99: 1.097677e-5},
    "spt": {0: 1e-6, 1: 1e-6, 2: 1.009e-4, 10: 9.001e-4, 11: 9.757728e-4, 99: 1.097677e-5},
    # 1e-7 + 4.9999e-4 e, from 10 on 1e-8 + (5e-3 - 1e-8) (1 + cos(pi e / 100)) / 2: epoch 0 is wasted
    "ssf": {0: 1e-7, 1: 5.0009e-4, 10: 4.877641e-3, 99: 1.243597e-6},
    # the first step of an epoch: 1e-4 e, then 1e-6 + 9.99e-4 (1 + cos(pi (e - 10) / 40)) / 2
    "synqt": {0: 0.0, 1: 1e-4, 10: 1e-3, 49: 2.539791e-6},
    # the first of 16 steps of an epoch, of 30: (16 e + 1) / 48 of 1e-3, then (1 + cos(pi (e - 3) / 27)) / 2 of it
    "vitgraft": {0: 2.083333e-5, 1: 3.541667e-4, 3: 1e-3, 29: 3.380821e-6},
}


@pytest.mark.parametrize("name", RATES)
def test_rates__as_computed_by_hand(name: str) -> None:
    chosen = config(name)
    training = replace(chosen.training, lr=chosen.table()["lr"])
    schedule = Schedule(training, 16)
    assert {epoch: schedule.at(epoch) for epoch in RATES[name]} == pytest.approx(RATES[name], rel=2e-6)
    assert max(RATES[name]) == training.epochs - 1
    assert training.warmup in RATES[name]
    whole_epoch = {schedule.at(5, step) for step in range(16)}
    assert len(whole_epoch) == (16 if name in ("synqt", "vitgraft") else 1)


def test_rates__without_the_wasted_epochs() -> None:
    mended = Schedule(config("noah", lag_epochs=0, warmup_lr="none").training, 16)
    assert [mended.at(epoch) for epoch in (0, 1, 9)] == pytest.approx([1e-4, 2e-4, 1e-3])


def test_keys__what_a_user_says_wins() -> None:
    assert config("noah").training.lr == 1e-3
    found = config("noah", lr=5e-3, epochs=20, clip_norm=1.0, weight_decay="none", preprocessing="raw-norm")
    assert (found.training.lr, found.training.epochs, found.training.clip_norm) == (5e-3, 20, 1.0)
    assert (found.preprocessing, found.training.weight_decay) == ("raw-norm", None)
    assert found.table()["weight_decay"] == methods.parse("lora").recipe.weight_decay
    assert found.training.warmup_lr == 1e-6, "what was not said stays"


def test_keys__the_rate_follows_the_batch_size() -> None:
    assert config("vpt").training.lr == 0.5
    assert config("vpt", batch_size=64).training.lr == 0.25
    assert config("vpt", batch_size=64, lr=3.0).training.lr == 3.0
    assert config("vpt", method="linear").training.lr == 4.0
    assert config("noah", batch_size=128).training.lr == 1e-3, "no base, no scale"


def test_keys__of_a_method_and_of_a_task() -> None:
    shown = config("vpt", "vtab1k:sun397", method="vpt-deep")
    assert (shown.training.lr, shown.training.weight_decay, shown.method) == (
        *(12.5, 1e-4),
        "vpt-deep:tokens=5,dropout=0.1",
    )
    assert config("vpt", "vtab1k:sun397", method="lora").training.lr == 0.5
    assert config("vpt", method="full").training.optimizer == "adamw"
    fine = config("vpt", "fgvc:cub200", method="vpt-deep")
    assert (fine.preprocessing, fine.training.augment) == ("fgvc", "crop-flip")
    hard = config("ssf", "vtab:Clevr-Dist:trainval", method="ssf").training
    assert (hard.lr, hard.weight_decay) == (5e-2, 5e-2)
    assert protocols.named("ssf").tasks.keys() == {*TASKS}
    assert config("ssf", "vtab1k:kitti_dist").preprocessing == "vtab-inception"
    assert config("ssf", "fgvc:cars").preprocessing == "inception-norm"
    birds = config("ssf", "fgvc:nabirds", method="ssf").training
    assert (birds.lr, birds.weight_decay, birds.label_smoothing) == (2e-4, 5e-2, 0.1)
    assert config("ssf", "photos/").training.lr == 5e-3


@pytest.mark.parametrize("task", PRESETS)
def test_fields__synqt_on_every_task(task: str) -> None:
    assert config("synqt", f"vtab1k:{task}", method="synqt").method == f"synqt:preset={task}"
    assert config("synqt", f"vtab1k:{task}", method="synqt:preset=none").method == "synqt:preset=none"
    assert config("synqt", f"vtab1k:{task}", method="vqt").method == "vqt"


def test_fields__a_method_as_text_says_them_all() -> None:
    """A field that a protocol fills stands in the text even at its default: else it would be filled again."""
    assert config("vqt", "vtab1k:svhn", method="vqt").method == "vqt:tokens=20,dropout=0.1"
    assert config("vqt", "vtab1k:svhn", method="vqt:tokens=1").method == "vqt:tokens=1,dropout=0.1"
    assert config("vqt", "photos/", method="vqt:summary=mean").method == "vqt:summary=mean,tokens=1,dropout=0.1"
    assert RunConfig.of({"data": "vtab1k:svhn", "method": "vqt:tokens=1"}).method == "vqt"


OVERRIDES: list[dict[str, Any]] = [
    {},
    {"lr": "none", "weight_decay": "none", "warmup_lr": "none", "warmup_epochs": "none", "clip_norm": 2.0},
    {"batch_size": 16, "epochs": 33, "optimizer": "adamw", "preprocessing": "pretrained", "seed": 3},
]


@pytest.mark.parametrize("name", protocols.names())
@pytest.mark.parametrize(
    "method", ["lora", "vpt-deep:tokens=10", "vqt:tokens=1", "synqt", "synqt:preset=none", "full"]
)
@pytest.mark.parametrize("values", OVERRIDES, ids=["plain", "left open", "said"])
def test_toml__round_trip(tmp_path: Path, name: str, method: str, values: dict[str, Any]) -> None:
    first = config(name, "vtab1k:svhn", method=method, **values)
    path = tmp_path / "run.toml"
    path.write_text(first.toml(), encoding="utf-8")
    assert RunConfig.of(read_toml(path)) == first
    assert RunConfig.of(first.given()) == first
    assert RunConfig.of(first.table()).table() == first.table()


def test_toml__a_method_as_a_table_is_not_filled_again(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('data = "vtab1k:svhn"\nprotocol = "vqt"\n[method]\nname = "vqt"\ntokens = 1\n')
    assert RunConfig.of(read_toml(path)).method == "vqt:tokens=1,dropout=0.1"


@pytest.mark.parametrize("name", protocols.names())
def test_fit__every_protocol_trains(name: str) -> None:
    method = {"vqt": "vqt", "synqt": "synqt", "ssf": "ssf", "vpt": "vpt-deep"}.get(name, "lora")
    chosen = config(name, "photos/", method=method, epochs=3, warmup_epochs=1, batch_size=10, device="cpu")
    model = toy.model(chosen.method)
    fitted = loop.fit(
        model,
        *(toy.split(), toy.split(12, seed=1), chosen.training),
        preprocessing=toy.PREPROCESSING,
        recipe=methods.parse(method).recipe,
    )
    assert len(fitted.history) == 3
    wasted = {"noah": 1e-6, "spt": 1e-6, "ssf": 1e-7, "vpt": 0.0, "vqt": 0.0}
    if name in wasted:
        assert fitted.history[0]["lr"] == wasted[name]


def test_grid__is_what_the_paper_chose_from() -> None:
    vpt = protocols.named("vpt")
    prompts = vpt.grid("vpt-deep")
    assert (max(prompts["base_lr"]), min(prompts["base_lr"])) == (50.0, 0.05)
    assert prompts["weight_decay"] == [0.01, 0.001, 0.0001, 0.0]
    assert prompts["tokens"] == [1, 5, 10, 50, 100, 200]
    assert max(vpt.grid("vpt-shallow", "fgvc:cars")["base_lr"]) == 1000.0
    assert "tokens" not in vpt.grid("linear")
    assert vpt.grid("full") == {"base_lr": [5e-3, 1e-3, 5e-4, 1e-4]}
    assert len(protocols.named("vqt").grid("vqt")["base_lr"]) == 5
    assert protocols.named("noah").grid("lora") == {}
