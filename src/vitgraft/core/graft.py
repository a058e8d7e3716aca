"""Graft: a trained edit of one site."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from vitgraft.core.edits import WeightEdit
from vitgraft.errors import NotFoldable


class Graft(nn.Module):
    """A trained edit of one site: reads what the place read and changes what it produced.

    A fresh graft should leave the model unchanged wherever its method allows that. `per_token` says that a
    token's edited output depends on that token alone; only then may the walk leave out tokens that nothing reads.
    `repeatable` says that it is cheap and leaves nothing to chance; then the walk may run it once more rather than
    keep what it produced. `stands_in` says that it does the place's whole work and asks for nothing of what that
    produced: such a graft must be the first of its site. `units` names the dimension of each parameter along which
    a graft can be cut to a size: ranks, hidden values, tokens; a parameter that is not named is needed whole at
    any size.
    """

    per_token: bool = False
    repeatable: ClassVar[bool] = False
    stands_in: ClassVar[bool] = False
    units: ClassVar[Mapping[str, int]] = {}

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The edited output.

        x (B, N, D_in) is what the place read, y (B, N, D_out) what it produced. Only at "in" may N change.
        """
        raise NotImplementedError

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The place's weight, (D_out, D_in) or (D_out,) for a normalisation, and bias with the edit in them.

        Returns new tensors. Raises NotFoldable where no plain weight expresses the edit.
        """
        raise NotFoldable(f"{type(self).__name__} is not a linear change of one weight")

    def weight_edits(self) -> tuple[WeightEdit, ...] | None:
        """The same edit as changes of a linear place's weight and bias, if that is all it does at this moment."""
        return None
