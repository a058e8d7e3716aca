"""The frozen part of a model is computed once: which splits can be read from a cache, and where it is kept.

What a head reads, or the input of the first block that trains, is a function of image and backbone alone. It is
stored as rows (`rows`), on disk in entries (`entries`) that later runs find again, or in memory.
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from vitgraft.core.sites import Tap
from vitgraft.core.tuned import Tuned
from vitgraft.data.augment import deterministic
from vitgraft.data.task import ImageSource
from vitgraft.errors import ConfigError, option
from vitgraft.features import entries
from vitgraft.features.caching import CHUNK, Caching
from vitgraft.features.entries import Card, Entry
from vitgraft.features.feed import Feed, OnDemand, Reader, sent
from vitgraft.features.rows import Form, Frozen, Rows
from vitgraft.machine.placement import Placement
from vitgraft.machine.progress import Display

RAM_SHARE = 2
"""One part in so many of the memory that is free may be filled with features."""

AGREEMENT = {"fp32": 1e-3, "fp16": 2e-3, "bf16": 3e-2}
"""How far an entry may lie from what its backbone gives today, relative to a reading's norm: by the type that it
is stored or computed in, whichever is coarser."""


@dataclass(frozen=True)
class Pictures:
    """The images of one split as they are read. View v shows them as epoch v of a run without a cache would."""

    name: str
    images: ImageSource
    reader: Reader

    def stream(self, view: int, spans: Iterable[Sequence[int]]) -> Generator[Tensor]:
        """Images (b, 3, H, W) of each list of indices."""
        return OnDemand(self.images, self.reader).stream((view, torch.tensor(span)) for span in spans)


@dataclass
class Kept:
    """What of a run was cached: `place` is disk, ram or off; `size` in bytes; `seconds` that computing it took."""

    place: str = "off"
    size: int = 0
    seconds: float = 0.0


@dataclass
class Cache:
    """The cache of one run: `feeds` gives a feed of readings for every split that can have one.

    `backbone` is the fingerprint of the model's backbone.
    """

    model: Tuned
    wish: Caching
    here: Placement
    display: Display
    backbone: str
    kept: Kept = field(default_factory=Kept)

    def feeds(self, splits: Iterable[Pictures]) -> dict[str, Feed]:
        """Feeds by the split's name. A split that must be walked every time is left out, with a sentence why.

        Raises:
            ConfigError: a place that was asked for and has no room.
            DataError: the disk cannot be written to.
            TrainingError: readings beyond what the chosen precision holds.
        """
        if self.wish.where == "off":
            return {}
        prefix = self.model.prefix
        if prefix is None:
            if self.wish.where != "auto":
                self.display.say("Nothing is cached: a trained value reaches the first block of the backbone.")
            return {}
        wanted = [(pictures, view) for pictures in splits for view in range(self._views(pictures))]
        if not wanted:
            return {}
        size = wanted[0][0].reader.preprocessing.size
        form = Form.of(self.model.backbone, prefix.taps, self.wish.stored, size)
        cards = [self._card(pictures, view, form) for pictures, view in wanted]
        self.kept.place = self._place(cards)
        if self.kept.place == "off":
            return {}
        self.kept.size = sum(card.size for card in cards)
        rows: dict[str, list[Rows]] = {}
        for (pictures, view), card in zip(wanted, cards, strict=True):
            on_disk = self.kept.place == "disk"
            now = self._on_disk(pictures, view, card) if on_disk else self._in_memory(pictures, view, form)
            rows.setdefault(pictures.name, []).append(now)
        return {name: self._feed(views) for name, views in rows.items()}

    def _views(self, pictures: Pictures) -> int:
        """How many views of an image there are to cache; 0 if each epoch shows another."""
        if deterministic(pictures.reader.augment):
            return 1
        if not self.wish.views:
            self.display.say(
                f"Nothing of {pictures.name} is cached: augmentation {pictures.reader.augment!r} is random, and "
                f"each epoch walks the backbone. {option('views', 4)} caches four views of an image, "
                f"{option('augment', 'none')} one."
            )
        return self.wish.views

    def _card(self, pictures: Pictures, view: int, form: Form) -> Card:
        """What an entry of these readings, and of no others, says of itself."""
        count = len(pictures.images)
        title = f"{self.model.backbone.name}, {count:,} images like {pictures.images.name(0)}"
        return Card(self._base(pictures, view), form.columns, count, form.row_bytes, CHUNK, title)

    def _base(self, pictures: Pictures, view: int) -> dict[str, Any]:
        """All that readings depend on, beside their taps."""
        reader, frozen = pictures.reader, self.model.backbone
        fixed = deterministic(reader.augment)
        return {
            "backbone": self.backbone,
            "structure": _structure(frozen.model),
            "preprocessing": reader.preprocessing.key(),
            "images": pictures.images.fingerprint(),
            "augment": "none" if fixed else f"{reader.augment}, seed {reader.seed}, view {view}",
            "computed": self.here.arithmetic(self.wish.precision),
            "stored": self.wish.stored,
        }

    def _place(self, cards: Sequence[Card]) -> str:
        """Where the features go: disk, ram or off. Raises ConfigError."""
        asked, limit = self.wish.where, self.wish.limit
        lacking = (max(card.size - Entry.of(card).size, 0) for card in cards if entries.holding(card) is None)
        whole, more = sum(card.size for card in cards), sum(lacking)
        disk, memory = entries.room(limit), psutil.virtual_memory().available // RAM_SHARE
        fits = {"disk": more <= disk, "ram": whole <= memory}
        if asked == "disk" and not fits["disk"]:
            raise ConfigError(
                f"The features need {_size(more)} on disk, and {entries.root()} has room for {_size(disk)} (all "
                f"entries together may have {_size(limit)}, and 1 GiB of the disk stays free). Remove entries "
                f"(vitgraft cache rm), raise {option('cache_limit')}, move the cache (VITGRAFT_CACHE), or use "
                f"{option('cache', 'ram')}."
            )
        if asked == "ram" and not fits["ram"]:
            raise ConfigError(
                f"The features need {_size(whole)} of memory, and {_size(memory)} may be used (half of what is "
                f"free). Use {option('cache', 'disk')} or off, or fewer images."
            )
        # Several processes would each hold a copy in memory.
        places = ("disk", "ram") if self.here.processes == 1 and not self.wish.lean else ("disk",)
        chosen = next((place for place in places if fits[place]), "off") if asked == "auto" else asked
        if chosen == "off":
            self.display.say(
                f"Nothing is cached: the features need {_size(whole)}, and there is room for {_size(disk)} on "
                f"disk and {_size(memory)} in memory. Every epoch walks the backbone. See {option('cache_limit')}."
            )
        elif chosen == "ram" or more:
            where = f"memory: {_size(whole)}" if chosen == "ram" else f"{entries.root()}: {_size(more)}"
            self.display.say(f"The frozen part is computed once, into {where}.")
        return chosen

    def _feed(self, views: list[Rows]) -> Feed:
        """The feed of some views, which lie in an accelerator's memory where that has room for them."""
        prefix, device = self.model.prefix, self.here.device
        assert prefix is not None, "a feed of readings has a prefix"
        size = sum(rows.values.nbytes for rows in views)
        if (
            device.type == "cuda"
            and not self.wish.lean
            and size <= torch.cuda.mem_get_info(device)[0] // RAM_SHARE
        ):
            with suppress(torch.OutOfMemoryError):  # others may have filled it since
                views = [Rows(rows.values.to(device), rows.form) for rows in views]
        return Frozen(tuple(views), tuple(sorted(prefix.taps)))

    def _in_memory(self, pictures: Pictures, view: int, form: Form) -> Rows:
        values = torch.empty(len(pictures.images), form.values, dtype=form.kind)
        spans = [range(first, min(first + CHUNK, len(values))) for first in range(0, len(values), CHUNK)]
        for span, rows in zip(spans, self._walk(pictures, view, form, spans), strict=True):
            values[span.start : span.stop] = rows
        return Rows(values, form)

    def _on_disk(self, pictures: Pictures, view: int, card: Card) -> Rows:
        """Rows of an entry that holds what `card` asks for, of another card's if there is one."""

        def wait() -> None:
            self.display.say(f"Waiting for another process, which is writing the features of {pictures.name}.")

        own, found = Entry.of(card), entries.holding(card)
        if found is not None and found != own:
            with found.lock(wait):
                # It may have been removed before it was locked.
                rows = self._filled(pictures, view, found) if found.complete else None
            if rows is not None:
                return rows
        with own.lock(wait):
            own.begin(card)
            rows = self._filled(pictures, view, own)
            if rows is None:
                own.discard()
                own.begin(card)
                rows = self._filled(pictures, view, own)
        assert rows is not None, "an empty entry disagrees with nothing"
        return rows

    def _filled(self, pictures: Pictures, view: int, entry: Entry) -> Rows | None:
        """The entry's rows, after what of them is missing or damaged has been computed.

        None if those that are there are not what the backbone gives.
        """
        card = entry.card
        assert card is not None, "an entry begins with its card"
        form, missing = Form.from_columns(card.columns), entry.missing()
        there = [chunk for chunk in range(card.chunks) if chunk not in set(missing)]
        if there:
            ends = [card.span(there[0])[0], card.span(there[-1])[1] - 1]
            if not self._agrees(pictures, view, Rows.mapped(entry.rows, form, ends[1] + 1), ends):
                return None
        spans = [range(*card.span(chunk)) for chunk in missing]
        for chunk, rows in zip(missing, self._walk(pictures, view, form, spans), strict=True):
            entry.write(chunk, rows.numpy().data.cast("B"))
        entry.finish()
        return Rows.mapped(entry.rows, form, card.count)

    def _agrees(self, pictures: Pictures, view: int, rows: Rows, ends: Sequence[int]) -> bool:
        """True if two images still give what the rows say: a last look, for no key knows all of a model's code."""
        (images,) = pictures.stream(view, [ends])
        now = self._read(images, rows.form)
        tolerance = max(AGREEMENT[rows.form.precision], AGREEMENT[self.here.arithmetic(self.wish.precision)])
        for tap, then in rows.take(torch.tensor(ends), rows.form.taps).items():
            gap = (now[tap].float().cpu() - then.float()).norm()
            if not gap <= tolerance * then.float().norm() + 1e-6:
                return False
        return True

    def _walk(
        self, pictures: Pictures, view: int, form: Form, spans: Sequence[Sequence[int]]
    ) -> Generator[Tensor]:
        """Rows (b, values) of each span, with a bar for whoever waits."""
        if not spans:
            return
        began = perf_counter()
        with self.display.work(f"features of {pictures.name}", sum(map(len, spans))) as advance:
            for span, images in zip(spans, pictures.stream(view, spans), strict=True):
                yield self._rows(images, form)
                advance(len(span))
        self.kept.seconds += perf_counter() - began

    def _read(self, images: Tensor, form: Form) -> dict[Tap, Tensor]:
        with self.here.autocast(self.wish.precision):
            return self.model.backbone.read(sent(images, self.here.device), form.taps)

    def _rows(self, images: Tensor, form: Form) -> Tensor:
        """Rows (b, values) of images, of which as many are walked together as may be."""
        parts = images.split(self.wish.at_once)
        if len(parts) == 1:
            return form.pack(self._read(images, form))
        rows = torch.empty(len(images), form.values, dtype=form.kind)
        for part, place in zip(parts, rows.split(self.wish.at_once), strict=True):
            place.copy_(form.pack(self._read(part, form)))
        return rows


def _structure(model: nn.Module) -> str:
    """A digest of what weights do not say: the kinds of a model's modules and their plain settings."""
    plain = [
        [name, type(module).__qualname__]
        + [f"{key}={value}" for key, value in sorted(vars(module).items()) if _is_setting(key, value)]
        for name, module in model.named_modules()
    ]
    return entries.digest(plain, 16)


def _is_setting(key: str, value: Any) -> bool:
    return isinstance(value, bool | int | float | str) and key != "training" and not key.startswith("_")


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**27 else f"{count / 2**20:.2f} MiB"
