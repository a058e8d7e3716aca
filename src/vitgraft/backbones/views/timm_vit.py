"""Views of timm's VisionTransformer family: the parts of its model and block, by name.

Covered: class, register and distillation tokens, pooling by token, average (with fc_norm) or attention,
pre-norm embedding, LayerScale, qk-norm, normalised attention output or mlp hidden layer, plain, GLU and
SwiGLU mlps, hybrid stems, any size.
"""

from timm.layers import Attention
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from vitgraft.backbones.views.parts import Fused, ModelStage, by_head, together, unknown_mlp
from vitgraft.backbones.views.timm_block import TimmBlock
from vitgraft.backbones.views.timm_model import TimmModel, TimmTail
from vitgraft.core.attention import attention
from vitgraft.core.model_view import StemView


class VitBlock(TimmBlock):
    """timm's `Block`."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(block, Fused(block.attn.qkv))  # type: ignore[union-attr, arg-type]

    def scale1(self, y: Tensor) -> Tensor:
        return self.block.ls1(y)

    def scale2(self, y: Tensor) -> Tensor:
        return self.block.ls2(y)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, placed: bool = True) -> Tensor:
        attn = self.block.attn
        q, k, v = (by_head(part, attn.num_heads) for part in (q, k, v))
        return self.after_attention(together(attention(attn.q_norm(q), attn.k_norm(k), v)))

    @property
    def absorbs(self) -> bool:
        return isinstance(self.block.attn.q_norm, nn.Identity) and isinstance(self.block.attn.k_norm, nn.Identity)

    def after_attention(self, a: Tensor) -> Tensor:
        return self.block.attn.norm(a)


class _Stem(ModelStage, StemView):
    def __init__(self, model: VisionTransformer) -> None:
        tokens = (model.cls_token, model.reg_token, getattr(model, "dist_token", None), model.pos_embed)
        super().__init__(model, (model.patch_embed, *tokens, model.norm_pre))

    def embed(self, images: Tensor) -> Tensor:
        return self.model.patch_embed(images)

    def placed(self, patches: Tensor, size: tuple[int, int]) -> Tensor:
        return self.model._pos_embed(patches)

    def settle(self, x: Tensor) -> Tensor:
        return self.model.norm_pre(x)


class _DistilledTail(TimmTail):
    """A distilled DeiT averages its two heads; with one head, their tokens."""

    @property
    def reads(self) -> int | None:
        return 2

    def pool(self, tokens: Tensor) -> Tensor:
        return tokens[:, :2].mean(dim=1)


class TimmViT(TimmModel):
    """A timm VisionTransformer as stages."""

    models = (VisionTransformer, VisionTransformerDistilled)
    heads = ("head", "head_dist")

    def __init__(self, model: VisionTransformer) -> None:
        tail = _DistilledTail if isinstance(model, VisionTransformerDistilled) else TimmTail
        super().__init__(model, _Stem(model), [VitBlock(block) for block in model.blocks], tail(model))

    @staticmethod
    def lacks(model: VisionTransformer) -> str | None:
        for block in model.blocks:
            if type(block) is not Block:
                return f"with {type(block).__name__} blocks"
            if type(block.attn) is not Attention:
                return f"with {type(block.attn).__name__}"
            if getattr(block.attn, "gate", None) is not None:
                return "with gated attention"
            if wrong := unknown_mlp(block.mlp):
                return wrong
        return None
