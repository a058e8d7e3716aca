"""A frozen block read by queries: keys and values come from the image's tokens, which the queries do not change.

Projecting all N tokens for a few queries is waste. With h the normalised input of the block, a head's
scores are q·(W_k h + b_k) = (W_kᵀ q)·h + q·b_k, and the last term is the same for every token, so softmax drops
it; its values are P (W_v h + b_v) = (P h) W_vᵀ + b_v, as the rows of P sum to one. Nothing of size N is projected,
but each head's queries are as wide as the tokens: for many of them, projecting the tokens costs less.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vitgraft.core.block import BlockView

CHUNK = 10 * 2**20
"""Bytes of one temporary on a CPU. Larger ones leave its caches, and their pages are fetched anew each time."""


def read_block(
    view: BlockView, u: Tensor, h: Tensor, drop: torch.nn.Module, absorb: bool = True
) -> tuple[Tensor, Tensor]:
    """What the two branches of a frozen block add to queries u that attend to h (B, N, D) alone.

    u is (B, T, D), or (1, T, D) if every image has the same queries.

    h is the block's normalised input (the tap `norm1`); `drop` acts on each branch's output. Returns
    (attention branch, mlp branch), each (B, T, D); the block's output is u plus both. `absorb` allows the form
    without projected tokens, where it `pays`; a block with normalised or rotated queries or keys does not.
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
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    absorb = absorb and view.absorbs and not traced  # TorchScript has no functions of our own
    if not (absorb and pays(q.shape[1], view.heads, h.shape[1], tuple(k_weight.shape))):
        h = h.to(q.dtype)
        return view.attend(q, F.linear(h, k_weight, k_bias), F.linear(h, v_weight, v_bias), placed=False)
    mixed: Tensor = _AbsorbedAttention.apply(q, h, k_weight, v_weight, view.heads)[0]
    return view.after_attention(mixed if v_bias is None else mixed + v_bias)


def pays(queries: int, heads: int, tokens: int, weight: tuple[int, ...]) -> bool:
    """True if absorbing weights (A, D) takes fewer products than projecting the tokens of an image."""
    size = weight[0] * weight[1]
    absorbed = 2 * queries * (size + heads * tokens * weight[1])
    projected = 2 * tokens * (size + queries * weight[0])
    return absorbed < projected


class _AbsorbedAttention(torch.autograd.Function):
    """softmax(q W_k hᵀ / √d) h W_vᵀ a head: q (B or 1, T, A), h (B, N, D), weights (A, D) -> (B, T, A).

    Keeps h, which the caller holds anyway, and the attention map (B, N, T heads). Computes in q's type, a few
    images at a time: what the heads ask for, (T heads, D) an image, stays small, and h is never held twice.
    Queries that are the same for every image (batch 1) are projected once. Returns the maps, too, for that is
    how torch.func lets a function keep them.
    """

    @staticmethod
    def forward(q: Tensor, h: Tensor, k_weight: Tensor, v_weight: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        shared = q.shape[0] < h.shape[0]
        k_rows, v_rows = (_by_head(weight, heads, q.dtype) for weight in (k_weight, v_weight))
        q = q * k_rows.shape[1] ** -0.5
        same = _to_tokens(q, k_rows) if shared else None
        maps, mixed = [], []
        for part in _images_at_a_time(h, q.shape[1] * heads):
            images = h[part].to(q.dtype)
            wanted = _to_tokens(q[part], k_rows) if same is None else same
            scores = _products(images, wanted).softmax(1).to(q.dtype)
            mixed.append(_from_tokens(scores.transpose(1, 2) @ images, v_rows))
            maps.append(scores)
        return torch.cat(mixed), torch.cat(maps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        q, h, k_weight, v_weight, ctx.heads = inputs
        ctx.shared = q.shape[0] < h.shape[0]
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(h, output[1], k_weight, v_weight)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], q: Tensor, h: Tensor, *rest: Any
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, None]]:
        """M sets of queries on the same images are one larger set, for no query sees another."""
        where, *others = in_dims
        assert where is not None, "queries differ"
        assert set(others) == {None}, "the frozen block and its input are shared"
        sets = q.movedim(where, 1)  # (B or 1, M, T, A)
        mixed, maps = _AbsorbedAttention.apply(sets.flatten(1, 2), h, *rest)
        return (mixed.unflatten(1, sets.shape[1:3]), maps), (1, None)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        h, maps, k_weight, v_weight = ctx.saved_tensors
        k_rows, v_rows = (_by_head(weight, ctx.heads, maps.dtype) for weight in (k_weight, v_weight))
        d_wanted = []
        for part in _images_at_a_time(h, maps.shape[2]):
            images, scores = h[part].to(maps.dtype), maps[part]
            d_read = _to_tokens(grads[0][part].to(maps.dtype), v_rows)
            d_scores = torch._softmax_backward_data(_products(images, d_read), scores, 1, scores.dtype)
            if ctx.shared:
                d_wanted.append((d_scores.flatten(0, 1).t() @ images.flatten(0, 1)).unsqueeze(0))
            else:
                d_wanted.append(_from_tokens(d_scores.transpose(1, 2) @ images, k_rows))
        d_q = _from_tokens(torch.stack(d_wanted).sum(0), k_rows) if ctx.shared else torch.cat(d_wanted)
        return d_q * k_rows.shape[1] ** -0.5, None, None, None, None


def _images_at_a_time(h: Tensor, rows: int) -> list[slice]:
    """Even slices of the batch of h (B, N, D), such that neither h nor `rows` vectors an image exceed CHUNK.

    One, on an accelerator and in a graph that torch captures, which is to serve for every size of a batch.
    """
    if h.device.type != "cpu" or torch.compiler.is_compiling():
        return [slice(None)]
    count = -(-len(h) * max(rows, h.shape[1]) * h.shape[2] * 4 // CHUNK)
    size = max(1, -(-len(h) // count))
    return [slice(start, start + size) for start in range(0, len(h), size)]


def _by_head(weight: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
    """weight (A, D) as (heads, d, D)."""
    rows: Tensor = weight.unflatten(0, (heads, -1)).to(dtype)
    return rows


def _products(h: Tensor, wanted: Tensor) -> Tensor:
    """h (B, N, D) with wanted (B or 1, M, D): (B, N, M). In this order a CPU's product is faster."""
    if wanted.shape[0] == h.shape[0]:
        return h @ wanted.transpose(1, 2)
    return h @ wanted[0].t()


def _to_tokens(x: Tensor, weight: Tensor) -> Tensor:
    """x (B, T, A) through each head's rows of weight (heads, d, D): (B, T heads, D)."""
    heads, size, width = weight.shape
    by_head = x.reshape(-1, heads, size).transpose(0, 1)  # (heads, B T, d)
    if torch.compiler.is_compiling():
        return torch.bmm(by_head, weight).transpose(0, 1).reshape(x.shape[0], -1, width)
    out = x.new_empty(by_head.shape[1], heads, width)
    torch.bmm(by_head, weight, out=out.transpose(0, 1))  # straight into the order of tokens
    return out.view(len(x), -1, width)


def _from_tokens(x: Tensor, weight: Tensor) -> Tensor:
    """x (B, T heads, D) through each head's rows of weight (heads, d, D), transposed: (B, T, A)."""
    heads, size, width = weight.shape
    by_head = x.reshape(-1, heads, width).transpose(0, 1)  # (heads, B T, D)
    joined: Tensor = (by_head @ weight.transpose(1, 2)).transpose(0, 1).reshape(x.shape[0], -1, heads * size)
    return joined
