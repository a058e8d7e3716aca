"""softmax(q kᵀ / √d + bias) v, by the kernel that is fastest where it runs."""

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of every head: q (B, heads, M, d), k and v (B, heads, N, d) -> (B, heads, M, d).

    `bias`, of any shape that spreads to (B, heads, M, N), is added to the scores.

    torch's fused kernel, except for training in bf16 on a CPU: its backward pass there takes three to six times
    as long as plain products do, which keep the map of scores (B, heads, M, N) in exchange.
    """
    learns = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if not (learns and q.dtype is torch.bfloat16 and q.device.type == "cpu"):
        return F.scaled_dot_product_attention(q, k, v, None if bias is None else bias.to(q.dtype))
    with torch.autocast("cpu", enabled=False):
        scores = (q * q.shape[-1] ** -0.5) @ k.to(q.dtype).transpose(-2, -1)
        scores = scores if bias is None else scores + bias.to(q.dtype)
        mixed: Tensor = scores.softmax(-1) @ v.to(q.dtype)
        return mixed
