"""Views of timm's Beit: BEiT and BEiT v2.

Covered: positions that are added, a bias of the scores by relative position (each block's own or one for all), q
and v with a bias and k without, LayerScale, plain and SwiGLU mlps, pooling by average or class token.

What stands nowhere in the image (prompts, queries of VQT and SynQT) has no bias of its scores.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.models.beit import Attention, Beit, Block
from torch import Tensor, nn

from vitgraft.backbones.views.parts import BiasApart, Fused, ModelStage, by_head, together, unknown_mlp
from vitgraft.backbones.views.timm_block import TimmBlock
from vitgraft.backbones.views.timm_model import TimmModel, TimmTail
from vitgraft.core.attention import attention
from vitgraft.core.model_view import StemView


class BeitBlock(TimmBlock):
    """timm's `Block` of BEiT, with the model's shared bias by relative position, if it has one."""

    shared: Any

    def __init__(self, block: Any, shared: nn.Module | None) -> None:
        super().__init__(block, Fused(block.attn.qkv) if block.attn.q_bias is None else BiasApart(block.attn))
        self.shared = shared

    def scale1(self, y: Tensor) -> Tensor:
        return y if self.block.gamma_1 is None else self.block.gamma_1 * y

    def scale2(self, y: Tensor) -> Tensor:
        return y if self.block.gamma_2 is None else self.block.gamma_2 * y

    def attend(self, q: Tensor, k: Tensor, v: Tensor, placed: bool = True) -> Tensor:
        bias = self._bias(q.shape[1], k.shape[1]) if placed else None
        q, k, v = (by_head(part, self.heads) for part in (q, k, v))
        return together(attention(q, k, v, bias))

    def _bias(self, rows: int, columns: int) -> Tensor | None:
        """(heads, M, N) for the first M of N tokens, zero at prompts, which stand last."""
        attn = self.block.attn
        found = None if attn.relative_position_bias_table is None else attn._get_rel_pos_bias()[0]
        if self.shared is not None:
            found = self.shared() if found is None else found + self.shared()
        if found is None:
            return None
        tokens = found.shape[-1]
        return F.pad(found[:, :rows], (0, columns - tokens, 0, max(rows - tokens, 0)))

    @property
    def absorbs(self) -> bool:
        return True

    def after_attention(self, a: Tensor) -> Tensor:
        return a


class _Stem(ModelStage, StemView):
    def __init__(self, model: Beit) -> None:
        super().__init__(model, (model.patch_embed, model.cls_token, model.pos_embed))

    def embed(self, images: Tensor) -> Tensor:
        return self.model.patch_embed(images)

    def placed(self, patches: Tensor, size: tuple[int, int]) -> Tensor:
        model = self.model
        x = torch.cat((model.cls_token.expand(len(patches), -1, -1), patches), dim=1)
        return x if model.pos_embed is None else x + model.pos_embed


class _Tail(TimmTail):
    def pool(self, tokens: Tensor) -> Tensor:
        if self.model.global_pool == "avg":
            return tokens[:, self.model.num_prefix_tokens :].mean(dim=1)
        return tokens[:, 0]


class TimmBeit(TimmModel):
    """A timm Beit as stages."""

    models = (Beit,)

    def __init__(self, model: Beit) -> None:
        blocks = [BeitBlock(block, model.rel_pos_bias) for block in model.blocks]
        super().__init__(model, _Stem(model), blocks, _Tail(model))

    @staticmethod
    def lacks(model: Beit) -> str | None:
        if not model.global_pool:
            return "model without pooling"
        for block in model.blocks:
            if type(block) is not Block or type(block.attn) is not Attention:
                return f"with {type(block).__name__} blocks"
            if wrong := unknown_mlp(block.mlp):
                return wrong
        return None
