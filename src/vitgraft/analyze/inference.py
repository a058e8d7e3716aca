"""What a tuned model costs in use: images a second, memory, FLOPs, values (SynQT, appendix, table 1)."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median, quantiles
from time import perf_counter

import torch
from torch import Tensor

from vitgraft.analyze.bare import bare
from vitgraft.analyze.journal import Journal
from vitgraft.analyze.peak import Peak, peak_of
from vitgraft.core.backbone import Backbone
from vitgraft.core.tuned import Tuned
from vitgraft.machine.alone import alone
from vitgraft.machine.placement import Placement, place
from vitgraft.methods import parse
from vitgraft.report import reference
from vitgraft.train.cost import flops_of

GIGA = 1e9
ALIKE = 0.02
"""Published FLOPs are beside ours where those of the plain model differ by no more than this share."""


@dataclass(frozen=True)
class Contender:
    """A model to measure: a method, merged into a plain model or not, and what SynQT's table calls it."""

    title: str
    method: str
    merged: bool = False
    published: str = ""


PLAIN = Contender("frozen model", "linear", merged=True)
CONTENDERS = (
    PLAIN,
    Contender("bias", "bias", published="BitFit"),
    Contender("VPT-shallow, 100", "vpt-shallow:tokens=100", published="VPT-Shallow"),
    Contender("VPT-deep, 10", "vpt-deep:tokens=10", published="VPT-Deep"),
    Contender("VQT, 1", "vqt:tokens=1", published="VQT"),
    Contender("SynQT, 4", "synqt:tokens=4", published="SynQT"),
    Contender("adapter", "adapter"),
    Contender("AdaptFormer", "adaptformer"),
    Contender("LoRA", "lora"),
    Contender("LoRA, merged", "lora", merged=True),
)
"""The first is the library's own pass through the plain model, to which others are compared."""


@dataclass(frozen=True)
class Setting:
    """What all contenders of a figure have in common."""

    backbone: str
    image_size: str | None
    batch: int
    classes: int
    device: str
    precision: str


@dataclass(frozen=True)
class Counts:
    """`trained` values, the classifier's included; `flops` of an image as they are done, two a multiply-add.

    `layers` counts multiply-adds as the published table does: of layers alone, and of all tokens.
    """

    trained: int
    flops: int
    layers: float


@dataclass(frozen=True)
class Row:
    """One contender: counts, peak memory, and seconds of its batches, one a round."""

    contender: Contender
    counts: Counts
    peak: Peak
    seconds: tuple[float, ...]

    def rates(self, batch: int) -> list[float]:
        """Images a second, one a round."""
        return [batch / seconds for seconds in self.seconds]

    def relative(self, plain: "Row") -> list[float]:
        """Its speed as a share of the plain model's in the same round."""
        return [own / one for own, one in zip(plain.seconds, self.seconds, strict=True)]


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, _, high = quantiles(values, n=4, method="inclusive")
        return cls(low, median(values), high)


def published(contender: Contender) -> dict[str, float]:
    """SynQT's numbers by unit: `images/s` and `GB` of a V100, `GFLOPs` that count a multiply-add as one."""
    rows = reference.rows(table="synqt-t1", method=contender.published) if contender.published else ()
    return {row.unit: row.value for row in rows}


def comparable(rows: Sequence[Row]) -> bool:
    """True if the plain model is as large as the published one, so that its numbers mean something beside ours."""
    theirs = next(found["GFLOPs"] for one in CONTENDERS if (found := published(one)))
    return abs(rows[0].counts.layers / GIGA / theirs - 1) <= ALIKE


def counts(setting: Setting, contender: Contender) -> Counts:
    """Counted without computing anything: the model has shapes and no values.

    The walk leaves out tokens of the last block that nothing reads; `layers` counts them, as libraries compute
    them. What is merged costs as much as the plain model, for weights without values cannot be merged.
    """
    with torch.device("meta"):
        frozen = bare(setting.backbone, setting.image_size)
        model, run = _built(contender, frozen, setting.classes)
        image = _images(frozen, 1)
    whole = flops_of(lambda: run(image))
    if not contender.merged:
        every_token = flops_of(lambda: model.classify(frozen(image, model.edits(), model.plan.taps)))
        whole = replace(whole, layers=every_token.layers)
    values = model.trained_values()
    return Counts(values.method + values.head, whole.total, whole.layers / 2)


def peak(setting: Setting, contender: Contender) -> Peak:
    """The memory of a batch. Call it in a fresh process, or the peak is not its own."""
    here = place(setting.device)
    frozen = bare(setting.backbone, setting.image_size).to(here.device)
    images = _images(frozen, setting.batch)
    run = _built(contender, frozen, setting.classes)[1]
    del frozen  # which a merged model does not need
    return peak_of(lambda: _once(run, images, here, setting.precision), here.device)


def measure(
    setting: Setting, rounds: int, journal: Journal, tell: Callable[[str], None] = lambda _: None
) -> list[Row]:
    """Every contender, timed in turns in this process, so many rounds; its peak is that of a process of its own.

    What the journal has is not measured again.
    """
    found = journal.found
    for one in CONTENDERS:
        if (key := f"peak of {one.title}") not in found:
            journal.add(key, asdict(alone(peak, setting, one)))
            tell(f"{key}: measured")
    _race(setting, rounds, journal, tell)
    times = [found[f"round {number}"] for number in range(rounds)]
    peaks = {one: Peak(**found[f"peak of {one.title}"]) for one in CONTENDERS}
    return [
        Row(one, counts(setting, one), peaks[one], tuple(seconds[one.title] for seconds in times))
        for one in CONTENDERS
    ]


def _race(setting: Setting, rounds: int, journal: Journal, tell: Callable[[str], None]) -> None:
    """Seconds of a batch of every contender, round by round: each begins with another, after a warm-up."""
    missing = [number for number in range(rounds) if f"round {number}" not in journal.found]
    if not missing:
        return
    here = place(setting.device)
    frozen = bare(setting.backbone, setting.image_size).to(here.device)
    runs = [(one.title, _built(one, frozen, setting.classes)[1]) for one in CONTENDERS]
    images = _images(frozen, setting.batch)
    for _, run in runs:
        _once(run, images, here, setting.precision)
    for number in missing:
        first = number % len(runs)
        turns = [*runs[first:], *runs[:first]]
        seconds = {title: _once(run, images, here, setting.precision) for title, run in turns}
        journal.add(f"round {number}", seconds)
        plain = setting.batch / seconds[PLAIN.title]
        tell(f"round {number + 1} of {rounds}: {plain:,.1f} images/s by the {PLAIN.title}")


def _once(run: Callable[[Tensor], Tensor], images: Tensor, here: Placement, precision: str) -> float:
    """Seconds that a batch takes."""
    with torch.no_grad(), here.autocast(precision):
        here.wait()
        began = perf_counter()
        run(images)
        here.wait()
        return perf_counter() - began


def _built(contender: Contender, frozen: Backbone, classes: int) -> tuple[Tuned, Callable[[Tensor], Tensor]]:
    """A contender's model on `frozen`, and what runs it."""
    torch.manual_seed(0)
    model = _planned(contender.method, frozen, classes)
    if not contender.merged:
        return model, model
    whole = _planned(PLAIN.method, frozen, classes) if frozen.device.type == "meta" else model
    return model, whole.merge().eval()


def _planned(method: str, frozen: Backbone, classes: int) -> Tuned:
    return Tuned(frozen, parse(method).plan(frozen, classes)).eval()


def _images(frozen: Backbone, count: int) -> Tensor:
    """Black images (count, 3, height, width): no cost depends on what is in them."""
    return torch.zeros(count, frozen.view.channels, *frozen.view.image_size, device=frozen.device)
