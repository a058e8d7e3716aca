"""`vitgraft methods`, `tasks` and `backbones`: tables that are their own documentation. They import no torch."""

import inspect
import json
from dataclasses import asdict, fields
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

import typer

from vitgraft import methods as registry
from vitgraft.cli import show
from vitgraft.core.shape import Shape
from vitgraft.methods import Method

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@cache
def reference() -> tuple[str, Shape]:
    """The backbone on which trained values are counted: its name and sizes, ViT-B/16's."""
    values = json.loads(files("vitgraft.methods").joinpath("vit_b16.json").read_text())
    name = values.pop("name")
    widths = {place: (inputs, outputs) for place, (inputs, outputs) in values.pop("widths").items()}
    return name, Shape(widths=widths, **values)


def methods(
    name: Annotated[str | None, typer.Argument(help="One method, to read all about it.")] = None,
    as_json: Json = False,
) -> None:
    """List the methods: what each trains and where, what it costs, whether it merges into a plain model.

    The values are those trained on ViT-B/16, classifier excluded, with every field at its default. Gradients
    that cross no block leave a backbone that is run once an image and keeps no activations.

    Example: vitgraft methods lora
    """
    if name is None:
        rows = [_facts(registry.method_named(one)()) for one in registry.names()]
        show.as_json(rows) if as_json else _method_table(rows)
        return
    method = registry.parse(name)
    show.as_json(_facts(method)) if as_json else _one_method(method)


def _facts(method: Method) -> dict[str, Any]:
    backbone, shape = reference()
    values = {"backbone": backbone, "count": method.formula(shape)}
    return {
        "name": method.name,
        "trains": method.trains,
        "where": method.where,
        "gradients_cross": method.crosses,
        "looks_at_data": method.looks(),
        "merges": method.merges,
        "values": values,
        "counts": method.counts,
        "fields": {item.name: getattr(method, item.name) for item in fields(method)},
        "recipe": asdict(method.recipe),
        "source": method.source,
    }


def _method_table(rows: list[dict[str, Any]]) -> None:
    values = f"values on {reference()[0]}"
    show.table(
        "Methods, by the number of values they train",
        ("method", "trains", "where", "gradients cross", "merges", values, "fields", "source"),
        [
            (
                row["name"],
                row["trains"],
                row["where"],
                row["gradients_cross"],
                "yes" if row["merges"] else "no",
                _count(row),
                _fields(row["fields"]) or "-",
                row["source"],
            )
            for row in sorted(rows, key=lambda row: row["values"]["count"])
        ],
        right=(values,),
        spare=("fields", "source"),
    )
    typer.echo("Set fields behind a colon: --method lora:rank=16,places=qkv. More: vitgraft methods lora")


def _count(facts: dict[str, Any]) -> str:
    """How many values are trained, or the limit to it."""
    return f"{'≤ ' if facts['counts'] == 'at most' else ''}{facts['values']['count']:,}"


def _fields(values: dict[str, Any]) -> str:
    return " ".join(f"{key}={'none' if value is None else value}" for key, value in values.items())


def _one_method(method: Method) -> None:
    facts = _facts(method)
    typer.secho(f"{method.name}: {method.trains} ({method.source})", bold=True)
    for kind in type(method).__mro__[: type(method).__mro__.index(Method)]:
        typer.echo(f"\n{inspect.cleandoc(kind.__doc__ or '')}")
    typer.echo()
    crosses = {"no block": "none: the backbone runs once an image and keeps no activations"}
    lines = {
        "where": method.where,
        "gradients cross": crosses.get(method.crosses, method.crosses),
        "looks at data": "training images, before the model is built" if method.looks() else "no",
        "merges": "yes, into a plain model" if method.merges else "no",
        f"values on {reference()[0]}": f"{_count(facts)} and the classifier's",
        "starts as": "the frozen model" if method.fresh else "close to the frozen model, not equal to it",
        "default recipe": f"lr {method.recipe.lr:g} (batch 64), weight decay {method.recipe.weight_decay:g}",
        "fields": _fields(facts["fields"]) or "none",
    }
    show.pairs(lines)


def tasks(as_json: Json = False) -> None:
    """List the built-in tasks: pictures that are drawn on first use, and scikit-learn's digits. No download.

    Any of these names stands for DATA, as does an image folder, a CSV file or a list of paths and labels.

    Example: vitgraft fit glyphs --method vpt-deep
    """
    from vitgraft.data import builtin
    from vitgraft.data.builtin.registry import NORMAL_TEST, TRAIN, VAL

    rows = [builtin.info(name) for name in builtin.names()]
    tests = {row.name: row.most_test or NORMAL_TEST for row in rows}
    if as_json:
        keys = ("name", "group", "description", "imitates", "default")
        show.as_json(
            [
                {key: getattr(row, key) for key in keys}
                | {"classes": list(row.classes), "train": TRAIN, "val": VAL, "test": tests[row.name]}
                for row in rows
            ]
        )
        return
    cells = [
        (row.name, row.group, str(len(row.classes)), row.description, row.imitates, "yes" if row.default else "no")
        for row in rows
    ]
    columns = ("task", "group", "classes", "what to see", "after", "default suite")
    show.table(f"Built-in tasks: {TRAIN} training and {VAL} validation images", columns, cells, right=("classes",))
    counts = sorted(set(tests.values()))
    typer.echo(f"Tests hold {' or '.join(f'{count:,}' for count in counts)} images, which a run reads once.")


def backbones(as_json: Json = False) -> None:
    """List the built-in backbone and well-known models of timm, with what a picture costs on them.

    A short name stands for timm's name at the image size that is listed; timm's name keeps timm's own size. Any
    VisionTransformer, Eva (EVA-02, DINOv3, Perception Encoder, ROPE-ViT), Beit or SwinTransformer of timm works,
    listed or not, and with hf:owner/name transformers' ViT, DeiT, MAE, DINOv2, DINOv3, CLIP and SigLIP; other
    models are refused with a sentence. GFLOPs are those of one image's forward pass, a multiplication and the
    addition after it being two.

    Example: vitgraft fit photos/ --backbone dinov2-s
    """
    from vitgraft.backbones import catalogue

    rows = catalogue.available()
    if as_json:
        show.as_json([row.facts() for row in rows])
        return
    cells = [
        (
            row.name,
            row.short or "-",
            f"{row.image_size}",
            f"{row.tokens():,}",
            f"{row.flops() / 1e9:.3g}",
            f"{row.download:,.0f} MB" if row.download else "-",
            row.licence,
            row.pretraining,
        )
        for row in rows
    ]
    columns = ("backbone", "short name", "px", "tokens", "GFLOPs", "download", "licence", "pretrained")
    numbers = ("px", "tokens", "GFLOPs", "download")
    show.table("Backbones", columns, cells, right=numbers, spare=("licence", "pretrained"))
    typer.echo(
        "A short name means the size under px, a full name timm's own (DINOv2: 518). Licences: as timm has them.\n"
        "Where no hub can be reached, fetch model.safetensors of timm/<backbone> elsewhere, and pass it as\n"
        "--checkpoint FILE. Files of the papers' authors, of transformers and of open_clip are read, too."
    )
