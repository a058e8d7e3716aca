"""Views of timm's VisionTransformer family: the parts of its model and block, by name.

Covered: class, register and distillation tokens, pooling by token, average (with fc_norm) or attention,
pre-norm embedding, LayerScale, qk-norm, normalised attention output or mlp hidden layer, plain, GLU and
SwiGLU mlps, hybrid stems, any size.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import GELU, Attention, GELUTanh, GluMlp, Mlp, SwiGLU
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from vitgraft.core.attention import attention
from vitgraft.core.backbone import Backbone
from vitgraft.core.block import BlockView, Rows, StageView, Visitor
from vitgraft.core.model_view import ModelView, StemView, TailView
from vitgraft.errors import BackboneError

MODELS = (VisionTransformer, VisionTransformerDistilled)
MLPS = (Mlp, GluMlp, SwiGLU)
GELUS = (nn.GELU, GELU, GELUTanh)


def wrap(model: nn.Module, name: str, config: dict[str, object] | None = None) -> Backbone:
    """A Backbone over a timm model, which itself stays as it is; the two share their weights.

    Raises:
        BackboneError: the model's class, or a part of its blocks, has no view.
    """
    return Backbone(TimmViT(_share_storage(_checked(model, name))), name, config)


def _share_storage(model: VisionTransformer) -> VisionTransformer:
    """A copy of `model` that shares its tensors but not its modes, hooks or `requires_grad`."""
    memo: dict[int, object] = {
        id(value): nn.Parameter(value.detach(), requires_grad=False) for value in model.parameters()
    }
    memo.update({id(value): value.detach() for value in model.buffers()})
    return copy.deepcopy(model, memo)


def _checked(model: nn.Module, name: str) -> VisionTransformer:
    def refuse(what: str) -> BackboneError:
        return BackboneError(
            f"{name} is a {type(model).__name__} {what}, which vitgraft has no view of. Supported are timm's "
            "VisionTransformer models with plain pre-norm blocks (ViT, DeiT, DINO, DINOv2, MAE, CLIP, SigLIP "
            "and their like); `vitgraft backbones` lists well-known ones."
        )

    if type(model) not in MODELS:
        raise refuse("model")
    assert isinstance(model, VisionTransformer)
    for block in model.blocks:
        if type(block) is not Block:
            raise refuse(f"with {type(block).__name__} blocks")
        if type(block.attn) is not Attention:
            raise refuse(f"with {type(block.attn).__name__}")
        if getattr(block.attn, "gate", None) is not None:
            raise refuse("with gated attention")
        if type(block.mlp) not in MLPS or not isinstance(block.mlp.fc2, nn.Linear):
            raise refuse(f"with {type(block.mlp).__name__} as its mlp")
    return model


class TimmBlock(BlockView):
    """timm's pre-norm `Block`."""

    block: Any  # torch types every attribute of a module as "tensor or module"

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def norm1(self, x: Tensor) -> Tensor:
        return self.block.norm1(x)

    def norm2(self, x: Tensor) -> Tensor:
        return self.block.norm2(x)

    def scale1(self, y: Tensor) -> Tensor:
        return self.block.ls1(y)

    def scale2(self, y: Tensor) -> Tensor:
        return self.block.ls2(y)

    def activate(self, y: Tensor) -> Tensor:
        mlp = self.block.mlp
        if isinstance(mlp, SwiGLU):
            gate, value = y.chunk(2, dim=-1)
            return mlp.norm(mlp.act(gate) * value)
        if isinstance(mlp, GluMlp):
            first, second = y.chunk(2, dim=-1)
            return mlp.norm(first * mlp.act(second) if mlp.gate_last else mlp.act(first) * second)
        return mlp.norm(mlp.act(y))

    @property
    def activates_by_value(self) -> bool:
        mlp = self.block.mlp
        return type(mlp) is Mlp and type(mlp.act) in GELUS and isinstance(mlp.norm, nn.Identity)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        attn = self.block.attn
        q, k, v = (part.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for part in (q, k, v))
        mixed = attention(attn.q_norm(q), attn.k_norm(k), v)
        return self.after_attention(mixed.transpose(1, 2).flatten(2))

    @property
    def heads(self) -> int:
        return self.block.attn.num_heads

    @property
    def absorbs(self) -> bool:
        return isinstance(self.block.attn.q_norm, nn.Identity) and isinstance(self.block.attn.k_norm, nn.Identity)

    def after_attention(self, a: Tensor) -> Tensor:
        return self.block.attn.norm(a)

    def linears(self, group: str) -> tuple[nn.Linear, ...]:
        attn, mlp = self.block.attn, self.block.mlp
        if group == "fc1" and isinstance(mlp, SwiGLU):
            return mlp.fc1_g, mlp.fc1_x
        return ({"qkv": attn.qkv, "proj": attn.proj, "fc2": mlp.fc2}[group] if group != "fc1" else mlp.fc1,)

    def split(self, group: str, outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if group == "qkv":
            return tuple(outputs[0].unflatten(-1, (3, -1)).unbind(-2))
        return (outputs[0] if len(outputs) == 1 else torch.cat(tuple(outputs), dim=-1),)

    def rows(self, place: str) -> tuple[Rows, ...]:
        if place == "qkv":
            (qkv,) = self.linears(place)
            return (Rows(qkv, 0, qkv.out_features),)
        if place in ("q", "k", "v"):
            (qkv,) = self.linears("qkv")
            third = qkv.out_features // 3
            start = ("q", "k", "v").index(place) * third
            return (Rows(qkv, start, start + third),)
        if place in ("proj", "fc1", "fc2"):
            return tuple(Rows(linear, 0, linear.out_features) for linear in self.linears(place))
        if place in ("norm1", "norm2"):
            (norm,) = self.parts(place)
            return _weight_rows(norm)
        return ()

    def parts(self, place: str) -> tuple[nn.Module, ...]:
        block = self.block
        return {"norm1": (block.norm1,), "norm2": (block.norm2,), "act": (block.mlp.act, block.mlp.norm)}[place]


def _weight_rows(module: nn.Module | None) -> tuple[Rows, ...]:
    """All rows of a module; none if it has no weight, as an Identity or a norm without scale."""
    weight = getattr(module, "weight", None)
    return () if module is None or weight is None else (Rows(module, 0, weight.shape[0]),)


class _ModelStage(StageView):
    """A stage that runs some modules and parameters of the whole model."""

    model: Any

    def __init__(self, model: VisionTransformer, parts: Sequence[nn.Module | nn.Parameter | None]) -> None:
        super().__init__()
        self.model = model
        modules = [part for part in parts if isinstance(part, nn.Module)]
        own = [value for module in modules for value in module.parameters()]
        own += [part for part in parts if isinstance(part, nn.Parameter)]
        self._own = {id(value) for value in own}

    def own_parameters(self) -> dict[str, nn.Parameter]:
        return {name: value for name, value in self.named_parameters() if id(value) in self._own}


class _Stem(_ModelStage, StemView):
    def __init__(self, model: VisionTransformer) -> None:
        tokens = (model.cls_token, model.reg_token, getattr(model, "dist_token", None), model.pos_embed)
        super().__init__(model, (model.patch_embed, *tokens, model.norm_pre))

    def forward(self, images: Tensor, at: Visitor) -> Tensor:
        patches = self.model.patch_embed(images)
        patches = at("patch", patches, patches)
        return self.model.norm_pre(self.model._pos_embed(patches))


class _Tail(_ModelStage, TailView):
    def __init__(self, model: VisionTransformer) -> None:
        super().__init__(model, (model.norm, model.attn_pool, model.fc_norm))

    @property
    def reads(self) -> int | None:
        if isinstance(self.model, VisionTransformerDistilled):
            return 2
        return 1 if self.model.global_pool == "token" else None

    def forward(self, x: Tensor, at: Visitor) -> tuple[Tensor, Tensor]:
        model = self.model
        after_pool = not isinstance(model.fc_norm, nn.Identity)
        tokens = model.norm(x) if after_pool else at.through("norm", x, model.norm)
        pooled = self._pool(tokens)
        if after_pool:
            pooled = at.through("norm", pooled, model.fc_norm)
        return tokens, at("pooled", pooled, pooled)

    def _pool(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, D). A distilled DeiT averages its two heads; with one head, their tokens."""
        if isinstance(self.model, VisionTransformerDistilled):
            return tokens[:, :2].mean(dim=1)
        return self.model.pool(tokens)


class TimmViT(ModelView):
    """A timm VisionTransformer as stages."""

    model: Any

    def __init__(self, model: VisionTransformer) -> None:
        self.model = model
        self.stem = _Stem(model)
        self.blocks = [TimmBlock(block) for block in model.blocks]
        self.tail = _Tail(model)
        self.width = model.embed_dim
        self.prefix_tokens = model.num_prefix_tokens
        self.channels = model.in_chans
        self.class_token = None if model.cls_token is None else "cls_token"
        (patch_height, patch_width) = model.patch_embed.patch_size
        self.patch_values = model.in_chans * patch_height * patch_width
        height, width = model.patch_embed.img_size or (224, 224)
        self.image_size = (height, width)

    def library_pass(self, images: Tensor) -> Tensor:
        return self.model.forward_head(self.model.forward_features(images), pre_logits=True)

    def rows(self, place: str) -> tuple[Rows, ...]:
        if place == "norm":
            norms = (self.model.norm, self.model.fc_norm)
            return tuple(rows for norm in norms for rows in _weight_rows(norm))
        if place == "patch":
            embed = self.model.patch_embed
            return _weight_rows(getattr(embed, "norm", None)) or _weight_rows(embed.proj)
        return ()

    def head_names(self) -> frozenset[str]:
        heads = [name for name in ("head", "head_dist") if isinstance(getattr(self.model, name, None), nn.Module)]
        return frozenset(
            f"{head}.{name}" for head in heads for name, _ in getattr(self.model, head).named_parameters()
        )

    def with_head(self, model: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
        plain: Any = model
        plain.reset_classifier(weight.shape[0])
        heads = [plain.head] + ([plain.head_dist] if isinstance(model, VisionTransformerDistilled) else [])
        with torch.no_grad():
            for head in heads:
                head.to(weight)
                head.weight.copy_(weight)
                head.bias.zero_() if bias is None else head.bias.copy_(bias)
        return model
