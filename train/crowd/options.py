"""What the crowd paper leaves open, as named options, and the two presets.

Sajid, Chen, Sajid, Kim, Wang, "Audio-Visual Transformer Based Crowd Counting", ICCVW 2021, cannot be built exactly as
printed: some of its sizes contradict each other and one equation is degenerate. Each such place is an option here.
The default is the form that trains; the literal form stays selectable.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from train.errors import TrainError
from train.settings import PICTURE_HEIGHT, PICTURE_WIDTH, exact_div

AttentionReading = Literal["channel_matrix", "channels"]
Scale = Literal["paper", "sqrt"]
Residual = Literal["convex", "add", "none"]
CoAttention = Literal["query_add", "mul", "gate", "paper"]
Reduction = Literal["average", "unshuffle"]


@dataclass(frozen=True)
class CrowdOptions:
    """Every choice in the network; the strings below each field say where it comes from."""

    picture_reduction: int = 1
    """The picture is made so many times smaller before the stem: 1 as in section 4 (1024x576), 2 for 512x288."""
    reduction: Reduction = "average"
    """How: `average` takes the mean of each block of pixels; `unshuffle` keeps all of them as channels (space to
    depth), so that heads of a few pixels lose no detail and only the stem's first convolution grows."""
    widths: tuple[int, int, int] = (32, 64, 128)
    """Channels of the three branches, section 3.2."""
    bottleneck_ratio: int = 4
    """A residual unit's inner width is its width over this: ResNet's expansion; section 3.2 says three layers, no
    width."""
    units_per_structure: int = 4
    """Residual units in each RS block, section 3.2."""
    fusion_stages: int = 2
    """Three-branch stages, each RS and fusion. Figure 3 alone shows the number; the text implies more than one."""
    attention_reading: AttentionReading = "channel_matrix"
    """Eq. 2-4 multiply feature maps. `channel_matrix`: per channel, W x H times H x W, needs no reshape and keeps
    channel paired with channel as the text does. `channels`: maps flattened to C x N, so that channels attend to
    channels."""
    attention_scale: Scale = "sqrt"
    """Logits of Eq. 2-4: `paper` as printed, whose softmax was one-hot for unit-variance features (the fusion then
    does nothing and passes no gradient); `sqrt` divides by the square root of the row length, as in "Attention is all
    you need"."""
    fusion_residual: bool = True
    """Add the target branch to its attended self. As printed (False) positions smear: patch correlation 0.03 after
    100 steps against 0.34 with it, ShanghaiTech A, one seed."""
    fusion_audio: bool = True
    """Sound in the three-branch fusions, section 3.2.1; False is the ablation "w/o A^T in the MSB fusion"."""
    merge_channels: int = 256
    """Channels after the merge, section 3.2.2."""
    merge_stride: int = 2
    """Of the merge's 3x3 convolution: W/16 to W/32 as section 3.2.2 needs; 1 where the picture was reduced."""
    merge_rows: Literal["overlap", "paper"] = "overlap"
    """Nine rows of features become the eight rows of patches. `paper`: stride 2 and padding 4 (stride 1, as printed,
    does not give 8x8 at all); its first and last rows then see nothing but padding. `overlap`: the same kernels with
    stride 1 down the picture, then each patch row is the mean of the rows it covers."""
    dropout: float = 0.3
    """After linear layers inside the network, section 4."""
    head_dropout: bool = False
    """Also after the PIR and PCE heads, as section 4 reads literally; it would zero supervised outputs at random."""
    patch_logit_scale: Scale = "sqrt"
    """Products over the Z values of a patch (Eq. 6, 9, 11): `paper` as printed gave gradient norms of 900 to 12,000."""
    co_attention: CoAttention = "query_add"
    """Eq. 11 with A repeated P times has equal logits along each row, so its result has rank 1 (`paper`). `query_add`
    adds A to the queries and equals the paper's own CC-V form where there is no sound; `mul` multiplies the keys by
    A; `gate` weighs each patch by its agreement with A."""
    co_attention_residual: Residual = "convex"
    """`none` is Eq. 11 as printed, which averages the patches (row entropy 4.1 of ln 64 = 4.16); `add` is V +
    softmax(.) V, which trains but leaves the mean density of all patches in empty ones; `convex` is (1 - g) V + g
    softmax(.) V with one learned g, 0.1 at first: the start that DANet gives its attention, kept non-negative."""
    density_view: Literal["patch_aligned", "raw_view"] = "patch_aligned"
    """Section 3.5 "reshaped": each patch's 144 values fill its own 9x16 cells, or the numbers are merely laid out in
    rows."""
    density_scale: float = 1.0
    """People per cell for one unit of DM_PRE. Not in the paper: without one (1.0) an untrained network counts about
    3,700 people and cannot come down at the paper's learning rate. Taken from the training set
    (`train.crowd.training`)."""
    audio_widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    """Channels of the audio ResNet. Section 3.1 says "ResNet-like", cites VGGish, and gives no sizes."""
    audio_units: int = 2
    """Residual units per stage of the audio ResNet."""

    def __post_init__(self) -> None:
        """Refuse sizes that do not lead to 8x8 patches."""
        if (self.picture_reduction, self.merge_stride) not in ((1, 2), (2, 1)):
            raise ValueError(
                f"picture_reduction {self.picture_reduction} with merge_stride {self.merge_stride} does not give a "
                "merge of 32x18; use 1 with 2 (1024x576) or 2 with 1 (512x288)"
            )

    @property
    def branch_sizes(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """(height, width) of the three branches: a quarter, an eighth and a sixteenth of the reduced picture."""
        height = exact_div(PICTURE_HEIGHT, 4 * self.picture_reduction)
        width = exact_div(PICTURE_WIDTH, 4 * self.picture_reduction)
        return (height, width), (height // 2, width // 2), (height // 4, width // 4)


PRESETS: dict[str, CrowdOptions] = {
    "paper": CrowdOptions(),
    "compact": CrowdOptions(
        picture_reduction=2,
        widths=(16, 32, 64),
        bottleneck_ratio=2,
        units_per_structure=2,
        fusion_stages=1,
        merge_channels=128,
        merge_stride=1,
        dropout=0.1,
        audio_widths=(16, 32, 64, 64),
        audio_units=1,
    ),
}


def options_of(preset: str, **changes: Any) -> CrowdOptions:
    """A preset with some of its options changed.

    Raises:
        TrainError: no such preset, or no such option.
    """
    if preset not in PRESETS:
        raise TrainError(f"Saw preset {preset!r}; wanted one of {', '.join(PRESETS)}. Name one of these.")
    known = {field.name for field in fields(CrowdOptions)}
    if unknown := set(changes) - known:
        raise TrainError(
            f"Saw options {sorted(unknown)}; the crowd network has {sorted(known)}. Remove or rename them."
        )
    values = asdict(PRESETS[preset]) | changes
    for name in ("widths", "audio_widths"):  # lists, where they come from JSON or YAML
        values[name] = tuple(values[name])
    return CrowdOptions(**values)
