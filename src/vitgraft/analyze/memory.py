"""What a step of training keeps and needs, by the block that is tuned and by method (SynQT, fig. 1)."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F

from vitgraft.analyze.bare import bare
from vitgraft.analyze.journal import Journal
from vitgraft.analyze.one_block import in_one_block
from vitgraft.analyze.peak import peak_of
from vitgraft.core.sites import STEM, Recompute
from vitgraft.core.tuned import Tuned
from vitgraft.machine.alone import alone
from vitgraft.machine.placement import place
from vitgraft.methods import parse
from vitgraft.train.cost import MIB, kept_bytes_by_stage
from vitgraft.train.optim import adamw

STEPS = 2
"""Of training, for a peak: the second has the optimizer's state, too."""


@dataclass(frozen=True)
class Setting:
    """One model and one step of training: `block` is the one that is tuned, None for the whole method."""

    backbone: str
    image_size: str | None
    method: str
    block: int | None
    batch: int
    classes: int
    device: str
    precision: str
    recompute: Recompute

    def key(self) -> str:
        """What tells it from others of the same figure."""
        return self.method if self.block is None else f"{self.method} in block {self.block}"


@dataclass(frozen=True)
class Held:
    """What a setting holds in training.

    `kept` is MiB an image that autograd keeps, by the stage that holds them: the stem, each block, the tail (the
    final normalisation and pooling), the head. `peak` and `growth` are MiB of a batch (`analyze.peak.Peak`);
    `trained` counts values, the classifier's included.
    """

    kept: tuple[float, ...]
    peak: float | None
    growth: float | None
    trained: int

    @property
    def total(self) -> float:
        """MiB an image that autograd keeps."""
        return sum(self.kept)


def stages(depth: int) -> tuple[str, ...]:
    """The names of what `Held.kept` counts."""
    return ("stem", *(f"block {block}" for block in range(depth)), "final norm", "head")


def measure(setting: Setting) -> Held:
    """What a setting holds. Call it in a fresh process, or the peak is not its own.

    Raises:
        ConfigError: a method that cannot be planned without data, or not be limited to that block.
    """
    here = place(setting.device)
    torch.manual_seed(0)
    frozen, method = bare(setting.backbone, setting.image_size), parse(setting.method)
    if setting.block is None:
        plan = method.plan(frozen, setting.classes)
    else:
        plan = in_one_block(method, frozen, setting.classes, setting.block)
    model = Tuned(frozen, plan).to(here.device).train()
    model.recompute = setting.recompute
    optimizer = adamw(model, lr=1e-3, weight_decay=1e-2)
    view = frozen.view
    images = torch.zeros(setting.batch, view.channels, *view.image_size, device=here.device)
    labels = torch.zeros(setting.batch, dtype=torch.long, device=here.device)

    def steps() -> None:
        for _ in range(STEPS):
            with here.autocast(setting.precision):
                loss = F.cross_entropy(model(images), labels)
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()

    peak = peak_of(steps, here.device)
    dtype = torch.bfloat16 if here.arithmetic(setting.precision) == "bf16" else None
    kept = kept_bytes_by_stage(model, dtype=dtype)
    order: list[Any] = [*range(STEM, frozen.depth + 1), "head"]
    trained = sum(value.numel() for value in model.parameters())
    return Held(tuple(kept[stage] / MIB for stage in order), peak.most, peak.growth, trained)


def measure_all(
    settings: Sequence[Setting], journal: Journal, tell: Callable[[str], None] = lambda _: None
) -> list[Held]:
    """What each setting holds, each in a fresh process. What the journal has is not measured again."""
    found = []
    for number, setting in enumerate(settings, start=1):
        row = journal.found.get(setting.key())
        if row is None:
            row = journal.add(setting.key(), asdict(alone(measure, setting)))
            kept = sum(row["kept"])
            tell(f"{number} of {len(settings)}: {setting.key()} keeps {kept:.2f} MiB an image")
        found.append(Held(**{**row, "kept": tuple(row["kept"])}))
    return found
