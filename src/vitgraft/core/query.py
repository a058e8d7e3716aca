"""A frozen block read by queries: keys and values come from the image's tokens, which the queries do not change.

Projecting all N tokens for T queries is waste where T < N. With h the normalised input of the block, a head's
scores are q·(W_k h + b_k) = (W_kᵀ q)·h + q·b_k, and the last term is the same for every token, so softmax drops
it; its values are P (W_v h + b_v) = (P h) W_vᵀ + b_v, as the rows of P sum to one. Nothing of size N is projected.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from vitgraft.core.block import BlockView


def read_block(
    view: BlockView, u: Tensor, h: Tensor, drop: torch.nn.Module, absorb: bool = True
) -> tuple[Tensor, Tensor]:
    """What the two branches of a frozen block add to queries u (B, T, D) that attend to h (B, N, D) alone.

    h is the block's normalised input (the tap `norm1`); `drop` acts on each branch's output. Returns
    (attention branch, mlp branch), each (B, T, D); the block's output is u plus both. `absorb` chooses the form
    without projected tokens, which a block with normalised queries or keys does not allow.
    """
    attended: Tensor = drop(view.scale1(_project(view, "proj", _attend(view, view.norm1(u), h, absorb))))
    middle = u + attended
    hidden = view.activate(_project(view, "fc1", view.norm2(middle)))
    added: Tensor = drop(view.scale2(_project(view, "fc2", hidden)))
    return attended, added


def _project(view: BlockView, group: str, x: Tensor) -> Tensor:
    return view.split(group, [linear(x) for linear in view.linears(group)])[0]


def _attend(view: BlockView, u: Tensor, h: Tensor, absorb: bool) -> Tensor:
    (q_weight, q_bias), (k_weight, k_bias), (v_weight, v_bias) = (view.projection(place) for place in "qkv")
    q = F.linear(u, q_weight, q_bias)
    if not (absorb and view.absorbs):
        return view.attend(q, F.linear(h, k_weight, k_bias), F.linear(h, v_weight, v_bias))
    heads = view.heads
    mixed: Tensor = _AbsorbedAttention.apply(_by_head(q, heads), h, k_weight, v_weight)
    out = _from_heads(mixed, len(h))
    return view.after_attention(out if v_bias is None else out + v_bias)


def _by_head(x: Tensor, heads: int) -> Tensor:
    """(B, T, A) -> (heads, B T, A / heads)."""
    grouped: Tensor = x.flatten(0, 1).unflatten(1, (heads, -1)).transpose(0, 1)
    return grouped


def _from_heads(x: Tensor, batch: int) -> Tensor:
    """(heads, B T, A / heads) -> (B, T, A)."""
    joined: Tensor = x.transpose(0, 1).flatten(1).unflatten(0, (batch, -1))
    return joined


class _AbsorbedAttention(torch.autograd.Function):
    """softmax(q W_k hᵀ / √d) h W_vᵀ a head: q (heads, B T, d), h (B, N, D), weights (heads d, D).

    Keeps h, which the caller holds anyway, and the attention map (B, heads T, N).
    """

    @staticmethod
    def forward(ctx: FunctionCtx, q: Tensor, h: Tensor, k_weight: Tensor, v_weight: Tensor) -> Tensor:
        keys = k_weight.unflatten(0, (len(q), -1)) * q.shape[-1] ** -0.5
        wanted = _by_image(q.to(h.dtype) @ keys.to(h.dtype), len(h))
        exact = torch.promote_types(h.dtype, torch.float32)
        scores = torch.softmax(wanted @ h.transpose(1, 2), -1, dtype=exact).to(h.dtype)
        read = _by_group(scores @ h, len(q))
        ctx.save_for_backward(h, scores, k_weight, v_weight)
        values = v_weight.unflatten(0, (len(q), -1))
        mixed: Tensor = read @ values.to(h.dtype).transpose(1, 2)
        return mixed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        h, scores, k_weight, v_weight = ctx.saved_tensors
        heads = len(grads[0])
        values = v_weight.unflatten(0, (heads, -1)).to(h.dtype)
        keys = k_weight.unflatten(0, (heads, -1)).to(h.dtype)
        d_read = _by_image(grads[0].to(h.dtype) @ values, len(h))
        d_scores = d_read @ h.transpose(1, 2)
        d_scores = torch._softmax_backward_data(d_scores, scores, -1, h.dtype)
        d_wanted = _by_group(d_scores @ h, heads)
        d_q = d_wanted @ keys.transpose(1, 2) * keys.shape[1] ** -0.5
        return d_q.to(grads[0].dtype), None, None, None


def _by_image(x: Tensor, batch: int) -> Tensor:
    """(heads, B T, D) -> (B, heads T, D)."""
    heads, _, width = x.shape
    return x.view(heads, batch, -1, width).transpose(0, 1).reshape(batch, -1, width)


def _by_group(x: Tensor, heads: int) -> Tensor:
    """(B, heads T, D) -> (heads, B T, D)."""
    batch, _, width = x.shape
    return x.view(batch, heads, -1, width).transpose(0, 1).reshape(heads, -1, width)
