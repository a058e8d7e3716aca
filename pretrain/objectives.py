"""What the encoder learns from: a plain timm ViT with heads that are thrown away after pre-training.

B pictures, N = 64 patches of 4 x 4 pixels of which K are shown to the encoder, C channels.
"""

from collections.abc import Mapping, Set

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from augment import Batch
from figures import IDENTITIES, NO_LABEL, SPECTRA

SIZE, PATCH = 32, 4
PATCHES = (SIZE // PATCH) ** 2
WEIGHTS: Mapping[str, float] = {
    "mask": 1.0,  # which pixels of a shown patch are figure, from its own token
    "hidden_mask": 0.5,  # the same for a hidden patch, from the decoder
    "pixels": 1.0,  # a hidden patch's normalised pixels, from the decoder
    "colour": 0.5,  # a hidden patch's mean colour, from the decoder
    "thumbnail": 0.5,  # the whole picture and mask at 8 x 8, from the class token
    "identity": 0.2,  # the plain figure's identity, from the class token
    "spectra": 0.2,  # the noise exponents of figure and ground, from the class token
    "views": 0.0,  # which other picture of the batch is a view of the same figure, from the class token
}
DENSE = {"mask", "hidden_mask", "pixels", "colour"}
"""What is read patch by patch; three of the four from the decoder."""


def encoder(width: int, head_width: int, depth: int = 12) -> VisionTransformer:
    """The backbone. Attention is written out: the fused kernel's bf16 backward is seven times slower here."""
    model = VisionTransformer(**constructor(width, head_width, depth))
    for block in model.blocks:
        block.attn.fused_attn = False
    return model


def constructor(width: int, head_width: int, depth: int = 12) -> dict[str, object]:
    """The arguments of timm's VisionTransformer, which figures.json repeats."""
    return {
        "img_size": SIZE,
        "patch_size": PATCH,
        "embed_dim": width,
        "depth": depth,
        "num_heads": width // head_width,
        "qkv_bias": True,
        "class_token": True,
        "num_classes": 0,
    }


class Pretrainer(nn.Module):
    """The encoder, a small decoder that sees every place, and heads on the class token."""

    def __init__(self, width: int, head_width: int, decoder_width: int = 64) -> None:
        super().__init__()
        pixels = PATCH * PATCH
        self.encoder = encoder(width, head_width)
        self.mask_head = nn.Linear(width, pixels)
        self.enter = nn.Linear(width, decoder_width)
        self.hidden = nn.Parameter(torch.zeros(decoder_width))
        self.places = nn.Parameter(torch.randn(1, 1 + PATCHES, decoder_width) * 0.02)
        blocks = [Block(decoder_width, num_heads=2, qkv_bias=True) for _ in range(2)]
        for block in blocks:
            block.attn.fused_attn = False
        self.decoder = nn.Sequential(*blocks, nn.LayerNorm(decoder_width))
        self.decoder_head = nn.Linear(decoder_width, 3 * pixels + 3 + pixels)
        self.thumbnail = nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, 4 * PATCHES))
        self.identity = nn.Linear(width, IDENTITIES)
        self.spectra = nn.Linear(width, 2 * len(SPECTRA))
        self.projector = nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, 64))

    def encode(self, pixels: Tensor, shown: Tensor) -> Tensor:
        """Tokens (B, 1 + K, C) after the final norm: class token, then the patches `shown` (B, K)."""
        model = self.encoder
        x = model.patch_embed(pixels) + model.pos_embed[:, 1:]
        x = x.gather(1, shown.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        first = (model.cls_token + model.pos_embed[:, :1]).expand(len(x), -1, -1)
        return model.norm(model.blocks(torch.cat([first, x], dim=1)))

    def decode(self, tokens: Tensor, shown: Tensor) -> Tensor:
        """Predictions (B, N, 48 + 3 + 16) for every patch from the shown ones."""
        x = self.enter(tokens)
        places = shown.unsqueeze(-1).expand(-1, -1, x.shape[-1])
        full = self.hidden.to(x.dtype).expand(len(x), PATCHES, -1).scatter(1, places, x[:, 1:])
        full = torch.cat([x[:, :1], full], dim=1) + self.places
        return self.decoder_head(self.decoder(full))[:, 1:]

    def losses(self, batch: Batch, shown: Tensor, bf16: bool, wanted: Set[str]) -> dict[str, Tensor]:
        """Mean losses by their names in `WEIGHTS`: of those that are `wanted`, and of others that cost little."""
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            tokens = self.encode(batch.pixels, shown)
            own_mask = self.mask_head(tokens[:, 1:])
            decoded = self.decode(tokens, shown) if wanted & DENSE else None
            first = tokens[:, 0]
            thumbnail, projected = self.thumbnail(first), self.projector(first)
            identity, spectra = self.identity(first), self.spectra(first)
        patches, masks = to_patches(batch.pixels), to_patches(batch.masks)
        dense = {} if decoded is None else _dense_losses(patches, masks, shown, own_mask.float(), decoded.float())
        return {
            **dense,
            "thumbnail": _thumbnail_loss(thumbnail.float(), patches, masks),
            "identity": _labelled(identity.float(), batch.identities),
            "spectra": _labelled(spectra.float().unflatten(-1, (2, -1)).flatten(0, 1), batch.spectra.flatten()),
            "views": _views_loss(projected.float()),
        }


def to_patches(pictures: Tensor) -> Tensor:
    """(B, c, 32, 32) to (B, N, c * 16), channel first."""
    b, c, size, _ = pictures.shape
    cut = pictures.reshape(b, c, size // PATCH, PATCH, size // PATCH, PATCH)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(b, PATCHES, c * PATCH * PATCH)


def _dense_losses(
    patches: Tensor, masks: Tensor, shown: Tensor, own_mask: Tensor, decoded: Tensor
) -> dict[str, Tensor]:
    colours = patches.unflatten(-1, (3, -1))
    mean = colours.mean(dim=-1)
    centred = (colours - mean.unsqueeze(-1)).flatten(2)
    normalised = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-3).sqrt()
    hidden = torch.ones(masks.shape[:2]).scatter(1, shown, 0.0)
    count = hidden.sum().clamp(min=1)

    def over_hidden(loss: Tensor) -> Tensor:
        return (loss.mean(dim=-1) * hidden).sum() / count

    pixels, colour, hidden_mask = decoded.split([normalised.shape[-1], 3, masks.shape[-1]], dim=-1)
    shown_masks = masks.gather(1, shown.unsqueeze(-1).expand(-1, -1, masks.shape[-1]))
    return {
        "mask": F.binary_cross_entropy_with_logits(own_mask, shown_masks),
        "hidden_mask": over_hidden(F.binary_cross_entropy_with_logits(hidden_mask, masks, reduction="none")),
        "pixels": over_hidden((pixels - normalised).square()),
        "colour": over_hidden((colour - mean).square()) * 4,  # the colours' variance is about 1/4
    }


def _thumbnail_loss(predicted: Tensor, patches: Tensor, masks: Tensor) -> Tensor:
    mean = patches.unflatten(-1, (3, -1)).mean(dim=-1)  # (B, N, 3)
    colour, mask = predicted.unflatten(-1, (PATCHES, 4)).split([3, 1], dim=-1)
    covered = masks.mean(dim=-1, keepdim=True)
    return (colour - mean).square().mean() * 4 + F.binary_cross_entropy_with_logits(mask, covered)


def _labelled(scores: Tensor, labels: Tensor) -> Tensor:
    loss = F.cross_entropy(scores, labels, ignore_index=NO_LABEL, reduction="sum")
    return loss / (labels != NO_LABEL).sum().clamp(min=1)


def _views_loss(projected: Tensor, temperature: float = 0.2) -> Tensor:
    """InfoNCE (van den Oord et al., 2018): the first half of the batch against its second views."""
    first, second = F.normalize(projected, dim=-1).chunk(2)
    similarity = first @ second.T / temperature
    target = torch.arange(len(first))
    return (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2
