"""A graft on disk: a folder with `graft.safetensors` (the trained values) and `graft.json` (what they are).

Beside the trained values stand the findings of a method that looked at training data, under names of their own.
Nothing of the backbone is in it.

The card holds a digest of the tensors, so that files of two grafts are never taken for one. A graft is replaced in
one moment, that of its card: the new tensors lie beside the old ones until then, under a name that has the digest,
and a reader takes those that the card means.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitgraft import methods
from vitgraft.atomic import json_of, remove, write_atomically
from vitgraft.core.tuned import Tuned
from vitgraft.data.labelling import labelling
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.errors import ArtefactError, ConfigError
from vitgraft.kinds import check_fields, finite
from vitgraft.train.targets import from_json
from vitgraft.train.temperature import Temperature

SCHEMA = 1
TENSORS = "graft.safetensors"
CARD = "graft.json"
FOUND = "found:"
"""What a finding's name begins with among the tensors."""

DIGEST = "digest"
"""Under which name the tensors' file tells their digest, too."""


@dataclass(frozen=True)
class BackboneId:
    """Which backbone a graft stands on, and how it was made: `checkpoint` is a file of the user's, if any.

    `image_size` is pixels a side, or a text such as 192x256, height x width; `in_chans` channels, if not three.
    `rebuildable` is False for a model object that the user built: only its fingerprint is known. `sites` is the
    digest by which another library's model of the same weights is known (`core.likeness`); older cards have none.
    """

    name: str
    fingerprint: str
    checkpoint: str | None = None
    image_size: int | str | None = None
    global_pool: str | None = None
    rebuildable: bool = True
    in_chans: int | None = None
    sites: str | None = None


@dataclass(frozen=True)
class Card:
    """Everything about a graft but its values. `method` and `preprocessing` are in their own JSON forms.

    `digest` is that of the tensors (`digest_of`); older cards have none. `temperature` is that of these values,
    `target` what they have learned if it is not one class a picture, in its own JSON form.
    """

    method: dict[str, Any]
    backbone: BackboneId
    preprocessing: dict[str, Any]
    class_names: tuple[str, ...]
    trained_values: dict[str, int]
    versions: dict[str, str]
    metrics: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    digest: str | None = None
    temperature: Temperature | None = None
    target: dict[str, Any] | None = None
    schema: int = SCHEMA

    @property
    def kind(self) -> str:
        """What the labels are that it has learned."""
        return from_json(self.target).kind

    @classmethod
    def from_json(cls, values: object, path: Path) -> Self:
        """The card in `values`, read from `path`.

        Raises:
            ArtefactError: no card, one of another schema, or a value of a wrong kind.
        """
        schema = values.get("schema") if isinstance(values, Mapping) else None
        if isinstance(values, Mapping) and (type(schema) is not int or schema != SCHEMA):
            raise ArtefactError(
                f"{path} has schema {schema!r}; this vitgraft reads {SCHEMA}. "
                "Load it with the version that wrote it, or train again."
            )
        try:
            if not isinstance(values, Mapping) or not isinstance(values["backbone"], Mapping):
                raise TypeError("it is no table with a backbone")
            backbone = BackboneId(**values["backbone"])
            check_fields(backbone, "backbone.")
            card = cls(**{**values, "backbone": backbone, "temperature": _temperature(values)})
            check_fields(card)
            card._check()
        except (KeyError, TypeError, ValueError, OverflowError, ConfigError) as error:
            raise ArtefactError(f"{path} is not a graft's card: {error}. Save the graft again.") from None
        return card

    def _check(self) -> None:
        """Raise ConfigError or ValueError for values that are of the right kinds and cannot be."""
        methods.parse(self.method)
        Preprocessing.from_json(self.preprocessing)
        for what in ("method", "preprocessing"):
            if broken := [key for key, value in getattr(self, what).items() if not _plain(value)]:
                raise ValueError(f"{what}.{broken[0]} is {getattr(self, what)[broken[0]]!r}")
        target = from_json(self.target)
        target.check(len(self.class_names))
        if len(self.class_names) < labelling(target.kind).fewest or len({*self.class_names}) < len(
            self.class_names
        ):
            raise ValueError(f"class_names has {len(self.class_names)} names, of which some are equal, or too few")


def _temperature(values: Mapping[str, Any]) -> Temperature | None:
    found = values.get("temperature")
    return None if found is None else Temperature(**found)


def _plain(value: Any) -> bool:
    """False for a number that is not finite, or a list that holds one."""
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return finite(value) if isinstance(value, float) else True


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """32 hexadecimal digits that stand for names, shapes, types and every bit of some tensors."""
    found = sha256()
    for name, value in sorted(tensors.items()):
        found.update(f"{name}:{tuple(value.shape)}:{value.dtype}\n".encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()[:32]


def write(
    folder: Path,
    card: Card,
    state: Mapping[str, Tensor],
    findings: Mapping[str, Tensor],
    instead: Sequence[Path] = (),
) -> Card:
    """Write a graft; a kill at any moment leaves the one before, or this one. Returns the card with its digest.

    Files `instead` of which it comes are removed once it lies there, the moment before it counts.

    Raises:
        ArtefactError: `folder` is a file, or a value is not finite.
    """
    if folder.exists() and not folder.is_dir():
        raise ArtefactError(f"'{folder}' is a file, and a graft is written into a folder. Name another one.")
    together = {**state, **{FOUND + name: value for name, value in findings.items()}}
    tensors = {name: value.detach().cpu().contiguous() for name, value in together.items()}
    if broken := _broken(tensors):
        raise ArtefactError(
            f"{len(broken)} trained tensors are not finite, such as {broken[0]}: nothing was saved in {folder}. "
            "Train again with a lower lr, or clip_norm=1."
        )
    card = replace(card, digest=digest_of(tensors))
    assert card.digest is not None
    spare = _spare(folder, card.digest)
    write_atomically(spare, safetensors.torch.save(tensors, {"format": "pt", DIGEST: card.digest}))
    for path in instead:
        remove(path)
    rewrite(folder, card)
    os.replace(spare, folder / TENSORS)
    tidy(folder)
    return card


def rewrite(folder: Path, card: Card) -> None:
    """Put a card in the place of another one of the same tensors."""
    write_atomically(folder / CARD, (json_of(asdict(card), indent=2) + "\n").encode())


def adopt(source: Path, folder: Path) -> None:
    """Make the graft in `source` that of `folder`, in one moment; it is there still if that was done before."""
    card = folder / CARD
    if (source / CARD).exists():
        digest = read_card(source).digest
        assert digest is not None, "it was written by `write`"
        if (source / TENSORS).exists():
            os.replace(source / TENSORS, _spare(folder, digest))
        os.replace(source / CARD, card)
    if (digest := read_card(folder).digest) is not None and _spare(folder, digest).exists():
        os.replace(_spare(folder, digest), folder / TENSORS)
    tidy(folder)


def tidy(folder: Path) -> None:
    """Remove tensors that were written, and whose card never was."""
    for path in folder.glob(f".{TENSORS}.*"):
        path.unlink(missing_ok=True)


def _spare(folder: Path, digest: str) -> Path:
    """Where tensors lie until a card means them."""
    return folder / f".{TENSORS}.{digest}"


def read_card(folder: Path) -> Card:
    """The card in `folder`.

    Raises:
        ArtefactError: there is none, or what is there is none.
    """
    path = folder / CARD
    if not path.is_file():
        raise ArtefactError(
            f"{folder} holds no {CARD}, so it is no finished graft. Name the folder that `vitgraft fit --out` or "
            "`model.save` wrote; a run that was stopped goes on with `--resume`."
        )
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{path} is damaged ({error}). Save the graft again.") from None
    return Card.from_json(values, path)


def read(folder: Path, force: bool = False) -> tuple[Card, dict[str, Tensor], dict[str, Tensor]]:
    """The card, the trained values and the findings in `folder`; `force` takes values that are not finite, too.

    Raises:
        ArtefactError: a missing, damaged or foreign file, or values that are not finite.
    """
    card = read_card(folder)
    path, together = _tensors(folder, card)
    if (broken := _broken(together)) and not force:
        raise ArtefactError(
            f"{path} holds {len(broken)} tensors with values that are not finite, such as {broken[0]}, so that "
            "what it predicts means nothing. Train again, or load it all the same (--force of predict and eval, "
            "force=True in Python)."
        )
    findings = {name for name in together if name.startswith(FOUND)}
    state = {name: value for name, value in together.items() if name not in findings}
    return card, state, {name.removeprefix(FOUND): together[name] for name in sorted(findings)}


def _tensors(folder: Path, card: Card) -> tuple[Path, dict[str, Tensor]]:
    """The tensors that a card means, and their file. Raises ArtefactError."""
    path = folder / TENSORS
    if card.digest is not None and _spare(folder, card.digest).exists():
        path = _spare(folder, card.digest)
    try:
        with safe_open(path, framework="pt") as file:
            said = (file.metadata() or {}).get(DIGEST)
        together = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{path} cannot be read ({error}). Save the graft again.") from None
    if card.digest is None and said is None:  # both are older than digests
        return path, together
    found = digest_of(together)
    if found == card.digest:
        return path, together
    differ = f"the card means tensors {card.digest or 'of before they had digests'}, and these are {found}"
    if said == found:
        raise ArtefactError(
            f"{path} and {folder / CARD} belong to two different grafts: {differ}. Copy both files of one graft, "
            "or save it again."
        )
    raise ArtefactError(f"{path} is damaged, or was changed: {differ}. Copy it again, or save the graft again.")


def _broken(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors with a value that is not finite."""
    return [name for name, value in sorted(tensors.items()) if not value.isfinite().all()]


def fill(tuned: Tuned, state: Mapping[str, Tensor], folder: Path) -> None:
    """Give a model the trained values of `folder`. Raises ArtefactError unless they are exactly its own."""
    own = tuned.state_dict()
    wrong = sorted(own.keys() ^ state.keys())
    wrong += [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if wrong:
        raise ArtefactError(
            f"{folder / TENSORS} does not fit its own card: {len(wrong)} tensors are missing, foreign or "
            f"of another shape, such as {', '.join(wrong[:4])}. The files belong to two different grafts, or to "
            "another backbone."
        )
    tuned.load_state_dict(dict(state), strict=True)
