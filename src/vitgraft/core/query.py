"""A frozen block read by queries: keys and values come from the image's tokens, which the queries do not change.

Projecting all N tokens for T queries is waste where T < N. With h the normalised input of the block, a head's
scores are q·(W_k h + b_k) = (W_kᵀ q)·h + q·b_k, and the last term is the same for every token, so softmax drops
it; its values are P (W_v h + b_v) = (P h) W_vᵀ + b_v, as the rows of P sum to one. Nothing of size N is projected.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vitgraft.core.block import BlockView


def read_block(
    view: BlockView, u: Tensor, h: Tensor, drop: torch.nn.Module, absorb: bool = True
) -> tuple[Tensor, Tensor]:
    """What the two branches of a frozen block add to queries u that attend to h (B, N, D) alone.

    u is (B, T, D), or (1, T, D) if every image has the same queries.

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
    mixed: Tensor = _AbsorbedAttention.apply(q, h, k_weight, v_weight, view.heads)
    return view.after_attention(mixed if v_bias is None else mixed + v_bias)


class _AbsorbedAttention(torch.autograd.Function):
    """softmax(q W_k hᵀ / √d) h W_vᵀ a head: q (B or 1, T, A), h (B, N, D), weights (A, D) -> (B, T, A).

    Keeps h, which the caller holds anyway, and the attention map (B, heads T, N). Queries that are the same for
    every image (batch 1) are projected once.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, h: Tensor, k_weight: Tensor, v_weight: Tensor, heads: int) -> Tensor:
        wanted = _to_tokens(q.to(h.dtype), k_weight, heads) * (q.shape[-1] // heads) ** -0.5
        exact = torch.promote_types(h.dtype, torch.float32)
        scores = torch.softmax(wanted @ h.transpose(1, 2), -1, dtype=exact).to(h.dtype)
        ctx.save_for_backward(h, scores, k_weight, v_weight)
        ctx.heads, ctx.shared = heads, len(q) < len(h)
        return _from_tokens(scores @ h, v_weight, heads)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        h, scores, k_weight, v_weight = ctx.saved_tensors
        d_read = _to_tokens(grads[0].to(h.dtype), v_weight, ctx.heads)
        d_scores = torch._softmax_backward_data(d_read @ h.transpose(1, 2), scores, -1, h.dtype)
        d_wanted = d_scores @ h
        if ctx.shared:
            d_wanted = d_wanted.sum(0, keepdim=True)
        d_q = _from_tokens(d_wanted, k_weight, ctx.heads) * (len(k_weight) // ctx.heads) ** -0.5
        return d_q.to(grads[0].dtype), None, None, None, None


def _to_tokens(x: Tensor, weight: Tensor, heads: int) -> Tensor:
    """x (B, T, A) through a head's rows of weight (A, D): (B, heads T, D)."""
    grouped = x.flatten(0, 1).unflatten(1, (heads, -1)).transpose(0, 1)  # (heads, B T, d)
    out = grouped @ weight.unflatten(0, (heads, -1)).to(x.dtype)
    tokens: Tensor = out.unflatten(1, x.shape[:2]).transpose(0, 1).flatten(1, 2)
    return tokens


def _from_tokens(x: Tensor, weight: Tensor, heads: int) -> Tensor:
    """x (B, heads T, D) through a head's rows of weight (A, D), transposed: (B, T, A)."""
    grouped = x.unflatten(1, (heads, -1)).transpose(0, 1)  # (heads, B, T, D)
    out = grouped.flatten(1, 2) @ weight.unflatten(0, (heads, -1)).to(x.dtype).transpose(1, 2)
    joined: Tensor = out.transpose(0, 1).flatten(1).unflatten(0, grouped.shape[1:3])
    return joined
