"""Fetches a timm model's published weights: from the local hub cache, else from the hub, and gives up quickly.

The file is what `timm.create_model(pretrained=True)` would take. It is fetched here, because timm retries an
unreachable hub for most of a minute, and loads with `strict=False` once the classifier is left away.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from vitgraft.backbones.catalogue import HUB_FILE
from vitgraft.backbones.snapshots import CONFIG
from vitgraft.errors import CheckpointError

PATIENCE = 5.0
"""Seconds to wait for the hub's first answer."""

NAMING = "--checkpoint FILE on the command line, checkpoint=FILE in Python"
"""How a user says where weights are."""

FILES = (HUB_FILE, "pytorch_model.bin")
"""What a timm repository on the hub holds, in order of preference."""


def fetch(name: str, pretrained_cfg: Mapping[str, Any]) -> Path:
    """The local file with the weights of timm's model `name`, downloaded if the hub can be reached.

    Raises:
        CheckpointError: the model has no published weights, or they cannot be had here.
    """
    repository, chosen = str(pretrained_cfg.get("hf_hub_id") or ""), pretrained_cfg.get("hf_hub_filename")
    if not repository:
        raise CheckpointError(_without_hub(name, pretrained_cfg.get("url")))
    return fetch_file(name, repository, (str(chosen),) if chosen else FILES)


def fetch_file(name: str, identity: str, files: tuple[str, ...] = FILES) -> Path:
    """The local copy of the first of `files` that a repository (`owner/name`, perhaps `@revision`) holds.

    Raises:
        CheckpointError: it cannot be had here; told of `name`, the model that asks for it.
    """
    repository, _, revision = identity.partition("@")
    for file in files:
        cached = try_to_load_from_cache(repository, file, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    try:
        return _download(repository, files, revision or None)
    except Exception as error:
        # The hub's client has changed its HTTP library twice, and raises that library's errors beside its own.
        raise CheckpointError(_unreachable(name, repository, files[0], error)) from None


def at_hand(pretrained_cfg: Mapping[str, Any]) -> bool:
    """Whether the weights that `fetch` would give are in the local hub cache."""
    repository = str(pretrained_cfg.get("hf_hub_id") or "")
    files = (str(chosen),) if (chosen := pretrained_cfg.get("hf_hub_filename")) else FILES
    return bool(repository) and any(isinstance(try_to_load_from_cache(repository, file), str) for file in files)


def on_disk(listed: str) -> bool:
    """Whether a file as the catalogue lists it, `repository file`, is in the local hub cache."""
    repository, _, file = listed.partition(" ")
    return isinstance(try_to_load_from_cache(repository, file), str)


def _download(repository: str, files: tuple[str, ...], revision: str | None) -> Path:
    """Asks once, without the client's own retries, before it hands over to them."""
    for file in files:
        try:
            get_hf_file_metadata(hf_hub_url(repository, file, revision=revision), timeout=PATIENCE)
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            continue
        return Path(hf_hub_download(repository, file, revision=revision, etag_timeout=PATIENCE))
    raise FileNotFoundError(f"the repository holds none of {', '.join(files)}")


def _unreachable(name: str, repository: str, file: str, error: Exception) -> str:
    reason = (str(error).strip() or "no reason given").splitlines()[0]
    if file == CONFIG:
        return (
            f"{name}: its {file} is not in the local cache, and the hub cannot give it ({type(error).__name__}: "
            f"{reason.rstrip('.')}). Fetch the repository '{repository}' into a folder on a machine that can, and "
            f"pass that: {NAMING.replace('FILE', 'FOLDER')}."
        )
    return (
        f"The weights of {name} are not in the local cache, and the hub cannot give them ({type(error).__name__}: "
        f"{reason.rstrip('.')}). Fetch '{file}' of the hub repository '{repository}' on a machine that can, and "
        f"pass it: {NAMING}."
    )


def _without_hub(name: str, url: object) -> str:
    if url:
        return f"The weights of {name} are not on the hub. Fetch {url} yourself, and pass it: {NAMING}."
    architecture = name.partition(".")[0]
    tagged = timm.list_models(f"{architecture}.*", pretrained=True)
    others = f"Published for it are {', '.join(tagged)}" if tagged else "None are published for it under any tag"
    return (
        f"timm knows the model {name} but no weights of it. {others}. Choose another name, pass your own weights "
        f"({NAMING}), or from Python ask for random ones (vitgraft.backbones.create: pretrained=False)."
    )
