"""The sizes of a backbone, from which a method's trained values can be counted without building anything."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitgraft.core.sites import LINEAR_PLACES, QKV

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone


@dataclass(frozen=True)
class Shape:
    """The sizes of one transformer.

    `widths` gives (inputs, outputs) of each linear place of a block. The rest counts values: `parameters` of
    the backbone (head excluded), `block_parameters` of one block (those that it
    shares with no other), `bias_values` of all biases,
    `block_norm_values` (outputs of one block's normalisations), `final_norm_parameters`, `stem_width` and
    `final_norm_width` (outputs of the patch embedding and of the final normalisation; 0 where there is none).
    """

    depth: int
    width: int
    widths: dict[str, tuple[int, int]]
    parameters: int
    block_parameters: int
    bias_values: int
    block_norm_width: int
    final_norm_parameters: int
    final_norm_width: int
    stem_width: int


def joined(shape: Shape) -> tuple[int, int]:
    """(inputs, outputs) of q, k and v as one place."""
    return shape.widths[QKV[0]][0], sum(shape.widths[place][1] for place in QKV)


def measure(backbone: "Backbone") -> Shape:
    """The sizes of `backbone`, read off its modules."""
    from vitgraft.core.rows import inputs_of, outputs_of

    def outputs(site: tuple[int, str]) -> int:
        return outputs_of(backbone.rows(site))

    sizes = {name: backbone.parameter(name).numel() for name in backbone.parameter_names()}

    final = backbone.rows((backbone.depth, "norm"))
    return Shape(
        depth=backbone.depth,
        width=backbone.width,
        widths={place: (inputs_of(backbone.rows((0, place))), outputs((0, place))) for place in LINEAR_PLACES},
        parameters=sum(sizes.values()),
        block_parameters=sum(sizes[name] for name in backbone.parameter_names(0)),
        bias_values=sum(sizes[name] for name in backbone.bias_names()),
        block_norm_width=outputs((0, "norm1")) + outputs((0, "norm2")),
        final_norm_parameters=sum(value.numel() for rows in final for value in rows.module.parameters()),
        final_norm_width=outputs_of(final),
        stem_width=outputs((-1, "patch")),
    )
