"""The backbone that a saved graft stands on, made again: from published weights, or a file that may have moved.

A file of weights is looked for where it was, beside the run, and where whole projects were moved or copied: under
the same last folders of its path, below the folders that the run lies in. The fingerprint says which file it is,
so that another one of the same name is never taken for it.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from vitgraft.backbones.hub import NAMING
from vitgraft.backbones.loading import load_backbone
from vitgraft.core.backbone import Backbone
from vitgraft.core.likeness import likeness
from vitgraft.errors import ArtefactError, BackboneError, CheckpointError, VitgraftError
from vitgraft.kinds import fitting
from vitgraft.methods import Method, spec_of
from vitgraft.methods.base import Findings
from vitgraft.models.artefact import CARD, TENSORS, BackboneId

SHOWN = 6
"""Places that a message lists before it only counts."""


def path_of(value: object, what: str) -> Path:
    """What a caller named as a file or folder. Raises ArtefactError for what is no path."""
    if fitting(value, str | Path) is None:
        raise ArtefactError(f"{what}={value!r} ({type(value).__name__}) is no path. Give a text or a Path.")
    return Path(os.path.expanduser(os.fspath(cast(str | Path, value))))


def identity(backbone: Backbone) -> BackboneId:
    """Which backbone this is, and how it is made again."""
    source, fingerprint = backbone.config.get("source"), backbone.fingerprint()
    sites = likeness(backbone, fingerprint)
    if source is None:
        return BackboneId(backbone.name, fingerprint, rebuildable=False, sites=sites)
    return BackboneId(fingerprint=fingerprint, sites=sites, **source)


def rebuilt(identity: BackboneId, folder: Path, checkpoint: Path | None = None, force: bool = False) -> Backbone:
    """The backbone that a graft in `folder` stands on, from the weights in `checkpoint` if they are named.

    The caller compares fingerprints where weights are named or published; a file that is looked for is the right
    one, unless none is and `force` takes the first that loads.

    Raises:
        ArtefactError: the backbone was built in Python, or the file of its weights is not found.
        BackboneError, CheckpointError: see `load_backbone`.
    """
    if not identity.rebuildable:
        raise ArtefactError(
            f"{folder} stands on a {identity.name} that was built in Python, which the command line cannot do. "
            "Build it again there, and pass it: vitgraft.load(folder, backbone=model)."
        )
    if checkpoint is not None or identity.checkpoint is None:
        return _loaded(identity, checkpoint)
    tried: dict[Path, str] = {}
    first: Backbone | None = None
    for path in places(identity.checkpoint, folder):
        if not path.exists():
            tried[path] = "not there"
            continue
        try:
            backbone = _loaded(identity, path)
        except (BackboneError, CheckpointError) as error:
            tried[path] = str(error)
            continue
        found = backbone.fingerprint()
        if found == identity.fingerprint:
            return backbone
        tried[path] = f"other weights ({found})"
        first = first or backbone
    if force and first is not None:
        return first
    raise ArtefactError(_not_found(identity, folder, tried))


def moved_file(recorded: str, folder: Path) -> Path | None:
    """The first file or folder at which weights that were at `recorded` may be now, for a run in `folder`."""
    return next((path for path in places(recorded, folder) if path.exists()), None)


def places(recorded: str, folder: Path) -> Iterator[Path]:
    """Where a file or folder may be, the likeliest first, each place once."""
    seen = set()
    for path in _places(Path(recorded), folder.expanduser().absolute()):
        if path not in seen:
            seen.add(path)
            yield path


def _places(recorded: Path, folder: Path) -> Iterator[Path]:
    yield recorded.absolute()
    here, name = Path.cwd(), recorded.name
    yield from (folder / name, folder.parent / name, here / name)
    parts = recorded.parts[1:] if recorded.is_absolute() else recorded.parts
    for home in (here, *folder.parents):
        for length in range(1, len(parts) + 1):  # beside `home` alone, and under more and more of the old folders
            moved = home.joinpath(*parts[-length:])
            if moved.exists():
                yield moved


def _loaded(identity: BackboneId, checkpoint: Path | None) -> Backbone:
    return load_backbone(
        identity.name,
        checkpoint=checkpoint,
        image_size=identity.image_size,
        global_pool=identity.global_pool,
        in_chans=identity.in_chans,
    )


def _not_found(identity: BackboneId, folder: Path, tried: dict[Path, str]) -> str:
    """Where a file was looked for, what was found there, and what to do."""
    assert identity.checkpoint is not None
    lines = [f"{path}: {why.rstrip('.')}" for path, why in tried.items()]
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return (
        f"{folder} was trained on {identity.name} with weights {identity.fingerprint} of a file "
        f"'{Path(identity.checkpoint).name}', which is not found. Looked at {'; '.join(lines[:SHOWN])}{more}. Put "
        f"the file beside the run, or say where it is: {NAMING}."
    )


def differs(identity: BackboneId, folder: Path, backbone: Backbone) -> VitgraftError | None:
    """What is to be said of a backbone with other weights than a graft was trained on; None if it has the same.

    Another library's model of the same weights has another fingerprint, and the same values by site.
    """
    found = backbone.fingerprint()
    if found == identity.fingerprint or (identity.sites and likeness(backbone, found) == identity.sites):
        return None
    name = backbone.name if backbone.name == identity.name else f"this backbone ({backbone.name})"
    return ArtefactError(
        f"{folder} was trained on {identity.name} with weights {identity.fingerprint}; {name} has {found} here. "
        f"Load the same weights ({NAMING}), or go on regardless (--force of predict and eval, force=True)."
    )


def check_findings(folder: Path, method: Method, findings: Findings) -> None:
    """Raise ArtefactError unless there are findings in a folder just where its method looks for some."""
    if method.looks() != bool(findings):
        raise ArtefactError(
            f"{folder / TENSORS} does not fit its own card: it holds {len(findings)} findings, and "
            f"{spec_of(method)} takes {'some' if method.looks() else 'none'}. The files belong to two "
            "different grafts."
        )


def misfit(
    folder: Path, method: Method, findings: Findings, backbone: Backbone, error: Exception
) -> ArtefactError:
    """What is to be said where a saved method, or what it found, cannot be built on a backbone."""
    what = f"The findings in {folder / TENSORS} fit neither its card nor"
    if not findings:
        what = f"The method in {folder / CARD}, {spec_of(method)}, cannot be built on"
    return ArtefactError(
        f"{what} {backbone.name} ({error}). Save the graft again, or load it on its own backbone."
    )
