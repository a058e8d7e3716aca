"""Prices of all methods on one task and backbone, and the one to take."""

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vitgraft.advice.looking import Looking
from vitgraft.advice.probe import Probed, read_seconds, walk_seconds
from vitgraft.advice.rule import Candidate, Choice, recommend
from vitgraft.advice.similar import HOMES, Evidence, Said, Wanted, evidence
from vitgraft.advice.times import Counts, Machine, Seconds, Way, epoch_seconds, run_seconds
from vitgraft.core.backbone import Backbone
from vitgraft.core.tuned import Tuned
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.data.task import Task
from vitgraft.errors import ConfigError
from vitgraft.features.feed import Reader
from vitgraft.machine.memory import held, written
from vitgraft.machine.placement import Placement
from vitgraft.machine.progress import Display
from vitgraft.methods import Method, parse, spec_of
from vitgraft.models.planting import planted
from vitgraft.train.batches import Layout
from vitgraft.train.footprint import Footprint
from vitgraft.train.limit import image_bytes, look, normalises, would_cache
from vitgraft.train.settings import Training
from vitgraft.train.within import Choice as Fitting
from vitgraft.train.within import Works, choose, needs, room_of, trained_bytes

PROBES = 30.0
"""Seconds that all probes together should take; a large backbone takes longer, since each method has one step."""

TWICE = {"none": 0.0, "mlp": 0.6, "block": 1.0}
"""A walk's time that recomputing adds to a step: an mlp has 60 % of a block's products."""


@dataclass(frozen=True)
class Limits:
    """What a run may take: bytes of memory, minutes, trained values of the method."""

    memory: int
    minutes: float | None = None
    values: int | None = None


@dataclass(frozen=True)
class Price:
    """What a method would cost; None where it cannot be had, for the reason in `exceeded`.

    `kept_bytes` is what autograd holds an image, `peak_bytes` that of the process at the largest micro-batch that
    fits, `seconds` are of a whole run.
    """

    method: str
    values: int | None = None
    head_values: int | None = None
    kept_bytes: int | None = None
    peak_bytes: int | None = None
    micro_batch: int | None = None
    micro_batches: int | None = None
    computed_twice: str | None = None
    seconds: Seconds | None = None
    cacheable: bool = False
    merges: bool = False
    looks_at_data: bool = False
    accuracy: Said | None = None
    exceeded: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Values for JSON, with the minutes in all."""
        minutes = None if self.seconds is None else self.seconds.total / 60
        return asdict(self) | {"minutes": minutes}


@dataclass(frozen=True)
class Advice:
    """Prices of all methods, which of them to take, and why; `told` is what the numbers rest on."""

    prices: tuple[Price, ...]
    choice: Choice
    told: tuple[str, ...]

    @property
    def chosen(self) -> Price | None:
        return next((one for one in self.prices if one.method == self.choice.method), None)


@dataclass(frozen=True)
class Adviser:
    """One task on one backbone. `start` is what a command needs in seconds before it trains."""

    task: Task
    backbone: Backbone
    preprocessing: Preprocessing
    settings: Training
    limits: Limits
    here: Placement
    start: float
    allowed: float = field(default=2.0)

    def advise(self, specs: Sequence[str], folders: Iterable[Path] | None = None) -> Advice:
        """Prices of some methods, and a recommendation.

        Raises:
            RecordError: a folder of records that is not there.
        """
        found = self.evidence(specs, folders)
        display = Display(1, 1, self.here.main)
        prices = []
        with closing(display), display.work("prices", len(specs), "methods") as advance:
            for spec in specs:
                prices.append(self.price(parse(spec), found.said.get(spec)))
                advance(1)
        candidates = [
            Candidate(
                one.method,
                parse(one.method).name,
                float("inf") if one.seconds is None else one.seconds.total / 60,
                one.exceeded,
                None if one.accuracy is None else one.accuracy.points,
            )
            for one in prices
        ]
        return Advice(tuple(prices), recommend(candidates), (found.told,))

    def evidence(self, specs: Sequence[str], folders: Iterable[Path] | None) -> Evidence:
        """What records say; of the usual folders unless some are named."""
        places = [home for home in HOMES if home.is_dir()] if folders is None else list(folders)
        wanted = Wanted(self.task.group, len(self.task.classes), self.counts.train, self.backbone.name)
        return evidence(wanted, specs, places)

    def price(self, method: Method, said: Said | None) -> Price:
        """What a method would cost."""
        spec = spec_of(method)
        facts: dict[str, Any] = {"merges": method.merges, "looks_at_data": method.looks(), "accuracy": said}
        looking = self._looking()
        try:
            if method.chooses() and not self.counts.val:
                raise ConfigError("it chooses on validation images, and there are none")
            findings = method.find(self.backbone, len(self.task.classes), looking) if method.looks() else {}
            model = planted(self.backbone, method, len(self.task.classes), self.settings.seed, findings)
        except ConfigError as error:
            return Price(spec, exceeded=(f"impossible here: {error}",), **facts)
        works, values = self._works(model), model.trained_values()
        fitting, layout = self._fitting(works, model)
        seconds = self._seconds(works, model, fitting, looking.seconds)
        looked = self._looked(looking.batch)
        peak = max(self._peak(model, fitting), looked or 0.0)
        exceeded = self._exceeded(fitting.within is not None and looked is not None, peak, seconds, values.method)
        within = fitting.within
        return Price(
            spec,
            values.method,
            values.head,
            works.kept_bytes(),
            round(peak),
            None if within is None else -(-min(layout.batch_size, layout.n) // within.accumulate),
            None if within is None else within.accumulate,
            None if within is None else within.recompute,
            seconds,
            works.cached,
            exceeded=exceeded,
            **facts,
        )

    def under(self, settings: Training) -> "Adviser":
        """The same under other settings; what is known of the machine is not measured again."""
        other = replace(self, settings=replace(settings, memory=None))
        vars(other).update(counts=self.counts, machine=self.machine, held=self.held)
        return other

    @cached_property
    def counts(self) -> Counts:
        return Counts.of(self.task)

    @cached_property
    def machine(self) -> Machine:
        """How fast this machine starts, reads, walks."""
        reader = Reader(self.preprocessing, workers=self.settings.workers)
        read = read_seconds(self.task.splits["train"], reader)
        return Machine(self.start, read, walk_seconds(self.backbone, self.settings.precision, self.here, 2.0))

    @cached_property
    def held(self) -> int:
        """Bytes that a process holds before it trains: what this one does, once what counting needs is loaded."""
        linear = Tuned(self.backbone, parse("linear").plan(self.backbone, len(self.task.classes)))
        Works(linear, self.settings, cached=would_cache(linear, self.settings)).step("none")
        return held(self.here.device)

    def _works(self, model: Tuned) -> Probed:
        model.to(self.here.device)
        computed = self.here.arithmetic(self.settings.precision)
        cached = would_cache(model, self.settings)
        most = max(self.counts.val, self.counts.test)
        return Probed(model, self.settings, cached, False, computed, most, here=self.here, allowed=self.allowed)

    def _fitting(self, works: Probed, model: Tuned) -> tuple[Fitting, Layout]:
        settings = self.settings
        least = 2 if normalises(model) else 1
        layout = Layout(
            self.counts.train, settings.batch_size, settings.seed, settings.accumulate, self.here.processes, least
        )
        room = room_of(self.limits.memory, self.held + trained_bytes(model))
        images = {name: self.task.splits[name] for name in ("train", "val") if name in self.task.splits}
        return choose(works, layout, room, image_bytes(images, self.preprocessing)), layout

    def _peak(self, model: Tuned, fitting: Fitting) -> float:
        return self.held + trained_bytes(model) + needs(fitting.needed)

    def _looked(self, batch: int) -> float | None:
        """The peak of a look at the data by gradients of `batch` images at a time, or fewer; None if none fits."""
        if not batch:
            return 0.0
        images = self.look.images(room_of(self.limits.memory, self.held), batch)
        return self.held + needs(self.look.bytes(images)) if images else None

    @cached_property
    def look(self) -> Footprint:
        """What gradients of all weights need."""
        return look(Tuned(self.backbone, parse("linear").plan(self.backbone, len(self.task.classes))))

    def _way(self, works: Probed, model: Tuned, fitting: Fitting | None = None) -> Way:
        prefix = model.prefix
        walked = 1.0 if prefix is None or prefix.start is None else prefix.start / self.backbone.depth
        within = None if fitting is None else fitting.within
        stay, slower = True, 1.0
        if within is not None:
            stay = bool(within.images_limit)
            extra = TWICE[within.recompute] - TWICE[self.settings.recompute]
            slower += extra * self.machine.walk / max(works.speed().step, 1e-9)
        return Way(works.cached, walked, stay, slower)

    def _seconds(self, works: Probed, model: Tuned, fitting: Fitting, looking: float) -> Seconds:
        way = self._way(works, model, fitting)
        speed, counting = works.speed(), works.counting()
        return run_seconds(speed, self.counts, self.settings, way, self.machine, looking, counting)

    def _looking(self) -> Looking:
        settings, counts = self.settings, self.counts

        def epoch(model: Tuned) -> float:
            works = self._works(model)
            return epoch_seconds(works.speed(), counts, settings, self._way(works, model), self.machine.walk)

        def gradient() -> float:
            frozen = self.backbone
            return self._works(Tuned(frozen, parse("full").plan(frozen, len(self.task.classes)))).speed().step

        return Looking(
            self.backbone, counts.train, counts.val, settings.epochs, epoch, gradient, self.machine.walk
        )

    def _exceeded(self, fits: bool, peak: float, seconds: Seconds, values: int) -> tuple[str, ...]:
        """The limits that a run would not keep."""
        limits, found = self.limits, []
        if not fits:
            found.append(f"memory: {written(peak)} even for one image at a time")
        if limits.minutes is not None and seconds.total > 60 * limits.minutes:
            found.append(f"minutes: {seconds.total / 60:.1f}")
        if limits.values is not None and values > limits.values:
            found.append(f"values: {values:,}")
        return tuple(found)


def adviser(
    task: Task,
    backbone: Backbone,
    preprocessing: Preprocessing,
    settings: Training,
    limits: Limits,
    here: Placement,
    start: float,
    methods: int,
) -> Adviser:
    """An adviser whose probes of so many methods share the time for all."""
    own = replace(settings, memory=None)
    return Adviser(task, backbone, preprocessing, own, limits, here, start, PROBES / max(methods, 1))
