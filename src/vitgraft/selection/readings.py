"""What all candidates that read the frozen backbone read of it, computed in one pass and kept on disk."""

from collections.abc import Iterable
from contextlib import closing

from vitgraft.advice.looking import Looking
from vitgraft.core.backbone import Backbone
from vitgraft.core.plan import Plan
from vitgraft.core.sites import Tap
from vitgraft.core.tuned import Tuned
from vitgraft.data.preprocessing import Preprocessing, adopted
from vitgraft.data.task import Task
from vitgraft.errors import option
from vitgraft.features import entries
from vitgraft.features.cache import Cache
from vitgraft.features.rows import Form
from vitgraft.heads.linear import LinearHead
from vitgraft.machine.memory import written
from vitgraft.machine.placement import Placement
from vitgraft.machine.progress import Display
from vitgraft.methods import Method
from vitgraft.models.planting import planted
from vitgraft.train.limit import would_cache
from vitgraft.train.prepared import data_of
from vitgraft.train.settings import Training


def read_once(
    methods: Iterable[Method],
    task: Task,
    backbone: Backbone,
    preprocessing: Preprocessing,
    settings: Training,
    here: Placement,
) -> str | None:
    """Fill the cache with what these methods read of train and val; the reason where each must see to itself."""
    model = Tuned(
        backbone, Plan(LinearHead(backbone.width, len(task.classes)), taps=_taps(methods, task, backbone))
    )
    model.to(here.device)
    if settings.memory is not None:
        return f"memory is limited to {settings.memory}"
    if settings.cache not in ("auto", "disk"):
        return f"nothing is cached on disk (cache={settings.cache})"
    if not would_cache(model, settings):
        caches = f"{option('views', 4)} caches four views of each"
        return f"augmentation {settings.augment!r} shows other pictures in each epoch; {caches}"
    splits = {name: task.splits[name] for name in ("train", "val")}
    assert model.prefix is not None, "a classifier trains nothing in the backbone"
    pictures = adopted(preprocessing, task.splits["train"].images)
    form = Form.of(backbone, model.prefix.taps, settings.cache_precision, pictures.size)
    views = max(settings.caching().views, 1)
    size = form.row_bytes * (views * len(splits["train"]) + len(splits["val"]))
    room = entries.room(settings.caching().limit)
    if size > room:
        return f"all that they read takes {written(size)}, and on disk there is room for {written(room)}"
    display = Display(1, 1, here.main)
    with closing(display):
        cache = Cache(model, settings.caching(), here, display, backbone.fingerprint())
        data_of(splits, settings, pictures, here, cache)
    return None


def _taps(methods: Iterable[Method], task: Task, backbone: Backbone) -> frozenset[Tap]:
    """All that some methods read, in what they look at first, too."""
    found: set[Tap] = set()

    def saw(model: Tuned) -> float:
        found.update(model.plan.taps)
        return 0.0

    for method in methods:
        looking = Looking(backbone, 1, 1, 1, saw, lambda: 0.0, 0.0)
        findings = method.find(backbone, len(task.classes), looking) if method.looks() else {}
        saw(planted(backbone, method, len(task.classes), 0, findings))
    return frozenset(found)
