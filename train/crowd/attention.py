"""Audio-visual transformer (AVT, section 3.3) and cross-modality co-attention (CCM, section 3.4).

B batch, P = 64 patches (16 at low resolution), Z = 144 values: V (B, P, Z) of the patches, A (B, Z) of the sound or
none (CC-V).
"""

import math

import torch
from torch import Tensor, nn

from train.crowd.options import CoAttention, PatchStreams, Residual, Scale
from train.settings import PATCH_EMBEDDING, PATCHES

FIRST_SHARE = 0.1  # of the co-attention in the density map, before training


def _logit_scale(scale: Scale) -> float:
    return 1.0 if scale == "paper" else 1.0 / math.sqrt(PATCH_EMBEDDING)


class AudioVisualTransformer(nn.Module):
    """Patch importance (PIR) and patch counts (PCE), and V weighted by both: the paper's third modality.

    With sound PIR_PRE = Linear(V A), a layer over the patches (P to P). Without it section 5.2 asks for PCE's
    operations, here with weights of their own. Eq. 9 adds A (Z values) to V (P x Z): to each row. AW_AVT is one layer
    from PIR_PRE and PCE to a weight for each patch; a layer to P weights for each would mix all patches into all.
    """

    def __init__(
        self,
        *,
        audio: bool,
        scale: Scale,
        dropout: float,
        head_dropout: bool,
        patches: int = PATCHES,
        streams: PatchStreams = "both",
    ) -> None:
        super().__init__()
        self.with_audio = audio
        self.scale = _logit_scale(scale)
        self.importance = nn.Linear(patches, patches if audio else 1) if streams != "estimate" else None
        self.estimate = nn.Linear(patches, 1) if streams != "importance" else None  # row-wise: one layer for all rows
        self.head_dropout = nn.Dropout(dropout if head_dropout else 0.0)
        self.combine = nn.Sequential(nn.Linear(2 if streams == "both" else 1, 1), nn.Dropout(dropout))

    def forward(self, visual: Tensor, audio: Tensor | None) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Rank and count the patches.

        Args:
            visual: V (B, P, Z).
            audio: A (B, Z), or none in CC-V.

        Returns:
            PIR_PRE (B, P), logits of the importance; PCE (B, P), people per patch, of either sign; AV_ATTD (B, P, Z).
            A stream that was left out is None.
        """
        audio = audio if self.with_audio else None
        importance = self.head_dropout(self._importance(visual, audio)) if self.importance is not None else None
        estimate = self.head_dropout(self._estimate(visual, audio)) if self.estimate is not None else None
        streams = [stream for stream in (importance, estimate) if stream is not None]
        logits = self.combine(torch.stack(streams, dim=2))  # (B, P, streams) -> (B, P, 1)
        weights = torch.softmax(logits.float(), dim=1).to(visual.dtype)
        return importance, estimate, weights * visual

    def _importance(self, visual: Tensor, audio: Tensor | None) -> Tensor:
        assert self.importance is not None
        if audio is None:
            return self._likeness(self.importance, visual, visual)
        out: Tensor = self.importance((visual @ audio[:, :, None] * self.scale).squeeze(2))  # Eq. 6: (B, P)
        return out

    def _estimate(self, visual: Tensor, audio: Tensor | None) -> Tensor:
        assert self.estimate is not None
        return self._likeness(self.estimate, visual if audio is None else visual + audio[:, None], visual)  # Eq. 9

    def _likeness(self, layer: nn.Module, queries: Tensor, visual: Tensor) -> Tensor:
        out: Tensor = layer(queries @ (visual.transpose(1, 2) * self.scale)).squeeze(2)  # (B, P, P) -> (B, P)
        return out


class CoAttentionModule(nn.Module):
    """Eq. 11, DM_PRE = softmax(AV_ATTD A_EXTD) V, in one of the forms that `CrowdOptions.co_attention` describes."""

    def __init__(self, *, form: CoAttention, residual: Residual, scale: Scale) -> None:
        super().__init__()
        self.form = form
        self.residual = residual
        self.scale = _logit_scale(scale)
        first_logit = torch.tensor(math.log(FIRST_SHARE / (1 - FIRST_SHARE)))
        self.share_logit = nn.Parameter(first_logit) if residual == "convex" else None

    def forward(self, attended: Tensor, visual: Tensor, audio: Tensor | None) -> Tensor:
        """AV_ATTD and V (B, P, Z), A (B, Z) or none, to DM_PRE (B, P, Z): never negative where they are not."""
        mixed = self._weights(attended, visual, audio) @ visual
        if self.share_logit is not None:
            return visual + torch.sigmoid(self.share_logit) * (mixed - visual)
        return visual + mixed if self.residual == "add" else mixed

    def _weights(self, attended: Tensor, visual: Tensor, audio: Tensor | None) -> Tensor:
        keys = visual.transpose(1, 2)  # (B, Z, P)
        if audio is None:  # CC-V: V^T in the place of A_EXTD, section 5.2
            return self._softmax(attended @ keys, dim=2)
        if self.form == "query_add":
            return self._softmax((attended + audio[:, None]) @ keys, dim=2)
        if self.form == "mul":
            return self._softmax(attended @ (audio[:, :, None] * keys), dim=2)
        agreement = attended @ audio[:, :, None]  # (B, P, 1)
        if self.form == "gate":
            return torch.diag_embed(self._softmax(agreement, dim=1).squeeze(2))
        # Literal: equal logits along each row. Down the columns, so that the patches at least differ in size.
        return self._softmax(agreement.expand(-1, -1, visual.shape[1]), dim=1)

    def _softmax(self, logits: Tensor, dim: int) -> Tensor:
        return torch.softmax((logits * self.scale).float(), dim=dim).to(logits.dtype)
