"""Rows of readings: packed, mapped from a file, and dealt out in batches whose memory is used again."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from tests.caching import SETTINGS, place, same, session
from vitgraft.core.sites import Tap
from vitgraft.errors import TrainingError
from vitgraft.features.rows import Form, Frozen, Rows

__all__ = ["place"]

TOKENS, VECTOR, POOLED = Tap(0, "out"), Tap(1, "out", "pool", 8), Tap(2, "pooled")
FORM = Form((TOKENS, VECTOR, POOLED), ((3, 4), (5,), (2,)), "fp16")


def readings(count: int, seed: int = 0) -> dict[Tap, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = zip(FORM.taps, FORM.shapes, strict=True)
    return {tap: torch.randn(count, *shape, generator=generator) for tap, shape in shapes}


def test_form__survives_its_columns() -> None:
    assert Form.from_columns(FORM.columns) == FORM
    assert (FORM.values, FORM.row_bytes) == (19, 38)


def test_pack__and_take_are_inverse(tmp_path: Path) -> None:
    given = readings(6)
    rows = FORM.pack(given)
    (tmp_path / "rows").write_bytes(rows.numpy().tobytes() + b"more")
    which = torch.tensor([5, 0, 0, 3])
    for held in (Rows(rows, FORM), Rows.mapped(tmp_path / "rows", FORM, 6)):
        taken = held.take(which, (POOLED, TOKENS))
        assert list(taken) == [POOLED, TOKENS]
        for tap, value in taken.items():
            assert torch.equal(value, given[tap][which].half())


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e5, r"block 1 gives at 'out' reaches 1e\+05, which fp16 cannot hold"), (float("nan"), "is not finite")],
)
def test_pack__says_what_cannot_be_held(value: float, text: str) -> None:
    given = readings(6)
    given[VECTOR][4, 2] = value
    with pytest.raises(TrainingError, match=text):
        FORM.pack(given)


def test_frozen__batches_of_any_size_in_any_order() -> None:
    views = [readings(9, seed) for seed in range(2)]
    feed = Frozen(tuple(Rows(FORM.pack(view), FORM) for view in views), (TOKENS, POOLED))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    chunks = [(0, order[:3]), (1, order), (2, order[3:5]), (3, order[8:]), (4, order), (5, order[:0])]
    for (epoch, indices), batch in zip(chunks, feed.stream(chunks), strict=True):
        assert list(batch) == [TOKENS, POOLED]
        for tap, value in batch.items():
            assert torch.equal(value, views[epoch % 2][tap][indices].half())


@pytest.mark.parametrize("method", ["mlp", "synqt", "lst", "partial:k=1"])
def test_training__is_done_with_a_batch_when_the_next_is_drawn(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = replace(SETTINGS, cache="ram", cache_precision="fp16")
    expected = session(method, halves)
    stream, drawn = Frozen.stream, []

    def spoiled(self: Frozen, chunks: Any) -> Generator[dict[Tap, Tensor]]:
        for batch in stream(self, chunks):
            yield batch
            drawn.append(batch)
            for value in batch.values():
                value.fill_(float("nan"))

    monkeypatch.setattr(Frozen, "stream", spoiled)
    found = session(method, halves)
    assert len(drawn) > 5
    assert same(found, expected)
    assert found.gap(expected) == 0


def test_mapped__may_be_larger_than_the_memory(tmp_path: Path) -> None:
    form = Form((TOKENS,), ((1024, 1024),), "fp32")
    count = (psutil.virtual_memory().total + psutil.swap_memory().total) // form.row_bytes + 1
    file = tmp_path / "rows"
    with file.open("wb") as rows:
        rows.truncate(count * form.row_bytes)  # a hole, which takes no space
    (value,) = Rows.mapped(file, form, count).take(torch.tensor([count - 1]), form.taps).values()
    assert value.shape == (1, 1024, 1024)
