"""The sizes of a backbone, from which a method's trained values can be counted without building anything."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitgraft.core.sites import LINEAR_PLACES, QKV

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone


@dataclass(frozen=True)
class BlockShape:
    """The sizes of one block: `width` of its stream, (inputs, outputs) of each linear place, and counts of values.

    `parameters` are those that it shares with no other stage, `norm_width` the outputs of its normalisations.
    """

    width: int
    widths: dict[str, tuple[int, int]]
    parameters: int
    norm_width: int


@dataclass(frozen=True)
class Shape:
    """The sizes of one transformer.

    `widths` gives (inputs, outputs) of each linear place of a block. The rest counts values: `parameters` of
    the backbone (head excluded), `block_parameters` of one block (those that it shares with no other),
    `bias_values` of all biases, `block_norm_width` (outputs of one block's normalisations),
    `final_norm_parameters`, `stem_width` and `final_norm_width` (outputs of the patch embedding and of the final
    normalisation; 0 where there is none). What is said of a block is said of block 0; where others differ, as in
    Swin's later stages, `differing` has each of them.
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
    differing: tuple[BlockShape, ...] = ()

    @property
    def blocks(self) -> tuple[BlockShape, ...]:
        """Every block's sizes, in order."""
        alike = BlockShape(self.width, self.widths, self.block_parameters, self.block_norm_width)
        return self.differing or (alike,) * self.depth


def joined(shape: Shape | BlockShape) -> tuple[int, int]:
    """(inputs, outputs) of q, k and v as one place."""
    return shape.widths[QKV[0]][0], sum(shape.widths[place][1] for place in QKV)


def measure(backbone: "Backbone") -> Shape:
    """The sizes of `backbone`, read off its modules."""
    from vitgraft.core.rows import inputs_of, outputs_of

    sizes = {name: backbone.parameter(name).numel() for name in backbone.parameter_names()}

    def one(block: int) -> BlockShape:
        rows = {place: backbone.rows((block, place)) for place in (*LINEAR_PLACES, "norm1", "norm2")}
        return BlockShape(
            width=inputs_of(rows["fc1"]),
            widths={place: (inputs_of(rows[place]), outputs_of(rows[place])) for place in LINEAR_PLACES},
            parameters=sum(sizes[name] for name in backbone.parameter_names(block)),
            norm_width=outputs_of(rows["norm1"]) + outputs_of(rows["norm2"]),
        )

    blocks = tuple(one(block) for block in range(backbone.depth))
    final = backbone.rows((backbone.depth, "norm"))
    return Shape(
        depth=backbone.depth,
        width=backbone.width,
        widths=blocks[0].widths,
        parameters=sum(sizes.values()),
        block_parameters=blocks[0].parameters,
        bias_values=sum(sizes[name] for name in backbone.bias_names()),
        block_norm_width=blocks[0].norm_width,
        final_norm_parameters=sum(value.numel() for rows in final for value in rows.module.parameters()),
        final_norm_width=outputs_of(final),
        stem_width=outputs_of(backbone.rows((-1, "patch"))),
        differing=() if len({repr(block) for block in blocks}) == 1 else blocks,
    )
