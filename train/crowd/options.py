"""What the crowd paper leaves open, as named options, its ablations, and the two presets.

Sajid, Chen, Sajid, Kim, Wang, "Audio-Visual Transformer Based Crowd Counting", ICCVW 2021, cannot be built exactly as
printed: some of its sizes contradict each other and one equation is degenerate. Each such place is an option here.
The default is the form that trains; the literal form stays selectable.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from train.crowd.geometry import GEOMETRIES, Geometry, Resolution
from train.errors import TrainError
from train.settings import exact_div

AttentionReading = Literal["channel_matrix", "channels"]
Scale = Literal["paper", "sqrt"]
Residual = Literal["convex", "add", "none"]
CoAttention = Literal["query_add", "mul", "gate", "paper"]
PatchStreams = Literal["both", "estimate", "importance"]
Reduction = Literal["average", "unshuffle"]

Options = TypeVar("Options", bound="PictureOptions")

_MERGES = ("regular", 1, 2), ("regular", 2, 1), ("low", 1, 2)  # resolution, picture_reduction, merge_stride


@dataclass(frozen=True)
class PictureOptions:
    """What every counting network is told of its picture and its density map, the baselines too."""

    resolution: Resolution = "regular"
    """The settings of section 4: `regular` 1024x576 with 8x8 patches, `low` 128x72 with 4x4 (`GEOMETRIES`)."""
    picture_reduction: int = 1
    """The picture is made so many times smaller before the first layer: 1 as in section 4, 2 for 512x288; a `low`
    picture is small enough."""
    reduction: Reduction = "average"
    """How: `average` takes the mean of each block of pixels; `unshuffle` keeps all of them as channels (space to
    depth), so that heads of a few pixels lose no detail and only the stem's first convolution grows."""
    density_scale: float = 1.0
    """People per cell for one unit of the network's output. Not in the paper: without one (1.0) an untrained CC-V
    counts about 3,700 people and cannot come down at the paper's learning rate. Taken from the training set
    (`Counter.scale_to`)."""

    @property
    def geometry(self) -> Geometry:
        """Sizes of picture, density and patches."""
        return GEOMETRIES[self.resolution]


@dataclass(frozen=True)
class CrowdOptions(PictureOptions):
    """Every choice in the network; the strings below each field say where it comes from."""

    branches: int = 3
    """Branches of the MSB module: S1 to S3. 1 is the ablation "Using only single (S1) branch", which has no fusion; 2
    lies between, its later fusions hear the sound as the three-branch ones do."""
    widths: tuple[int, int, int] = (32, 64, 128)
    """Channels of the three branches, section 3.2."""
    bottleneck_ratio: int = 4
    """A residual unit's inner width is its width over this: ResNet's expansion; section 3.2 says three layers, no
    width."""
    units_per_structure: int = 4
    """Residual units in each RS block, section 3.2."""
    fusion_stages: int = 2
    """Stages of all branches, each RS and fusion. Figure 3 alone shows the number; the text implies more than one."""
    attention_reading: AttentionReading = "channel_matrix"
    """Eq. 2-4 multiply feature maps. `channel_matrix`: per channel, W x H times H x W, needs no reshape and keeps
    channel paired with channel as the text does. `channels`: maps flattened to C x N, so that channels attend to
    channels. Pixels that attend to pixels (N x C) would take 5 GiB for the weights of one picture at S1; left out."""
    attention_scale: Scale = "sqrt"
    """Logits of Eq. 2-4: `paper` as printed, whose softmax was one-hot for unit-variance features (the fusion then
    does nothing and passes no gradient); `sqrt` divides by the square root of the row length, as in "Attention is all
    you need"."""
    fusion_residual: bool = True
    """Add the target branch to its attended self. As printed (False) positions smear: patch correlation 0.03 after
    100 steps against 0.34 with it, ShanghaiTech A, one seed."""
    fusion_audio: bool = True
    """Sound in the last stages' fusions, section 3.2.1; False is the ablation "w/o A^T in the MSB fusion"."""
    patch_audio: bool = True
    """Add a linear layer of A to V before its last ReLU: not in the paper (False), where the sound reaches the density
    through attention weights alone. On drawn scenes, the same 1,000 steps, the MAE was 19 with it and 24 without, in
    pictures hidden altogether 25 and 31 (always the mean: 69)."""
    merge_channels: int = 256
    """Channels after the merge, section 3.2.2."""
    merge_stride: int = 2
    """Of the merge's 3x3 convolution: W/16 to W/32 as section 3.2.2 needs; 1 where the picture was reduced."""
    merge_rows: Literal["overlap", "paper"] = "overlap"
    """Nine rows of features become the eight rows of patches (`low`: five become four). `paper`: stride 2 and padding 4
    (stride 1, as printed, does not give 8x8 at all); its first and last rows then see nothing but padding. For `low`
    the padding is 2, because the printed 4 gives six rows. `overlap`: the same kernels with stride 1 down the picture,
    then each patch row is the mean of the rows it covers."""
    dropout: float = 0.3
    """After linear layers inside the network, section 4."""
    head_dropout: bool = False
    """Also after the PIR and PCE heads, as section 4 reads literally; it would zero supervised outputs at random."""
    transformer: bool = True
    """The AVT, section 3.3. False is the ablation "w/o AVT": the co-attention gets V in the place of AV_ATTD, and there
    is neither PIR nor PCE."""
    patch_streams: PatchStreams = "both"
    """Streams of the AVT. `estimate` is the ablation "w/o PIR branch", `importance` the one "w/o PCE branch": the other
    stream has no layers and no output, and AW_AVT's linear layer takes the one value that is left."""
    patch_logit_scale: Scale = "sqrt"
    """Products over the Z values of a patch (Eq. 6, 9, 11): `paper` as printed gave gradient norms of 900 to 12,000."""
    co_attention: Literal[CoAttention, "none"] = "query_add"
    """Eq. 11 with A repeated P times has equal logits along each row, so its result has rank 1 (`paper`). `query_add`
    adds A to the queries and equals the paper's own CC-V form where there is no sound; `mul` multiplies the keys by
    A; `gate` weighs each patch by its agreement with A. `none` is the ablation "w/o CCM": AV_ATTD is DM_PRE, whose
    weights sum to 1 over the patches, so that it starts P times smaller (`CrowdCounter.untrained_mean`)."""
    co_attention_residual: Residual = "convex"
    """`none` is Eq. 11 as printed, which averages the patches (row entropy 4.1 of ln 64 = 4.16); `add` is V +
    softmax(.) V, which trains but leaves the mean density of all patches in empty ones; `convex` is (1 - g) V + g
    softmax(.) V with one learned g, 0.1 at first: the start that DANet gives its attention, kept non-negative."""
    density_view: Literal["patch_aligned", "raw_view"] = "patch_aligned"
    """Section 3.5 "reshaped": each patch's 144 values fill its own 9x16 cells, or the numbers are merely laid out in
    rows."""
    audio_widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    """Channels of the audio ResNet. Section 3.1 says "ResNet-like", cites VGGish, and gives no sizes."""
    audio_units: int = 2
    """Residual units per stage of the audio ResNet."""

    def __post_init__(self) -> None:
        """Refuse sizes that do not lead to the patches, and switches that contradict each other."""
        if (self.resolution, self.picture_reduction, self.merge_stride) not in _MERGES:
            raise ValueError(
                f"picture_reduction {self.picture_reduction} with merge_stride {self.merge_stride} does not give a "
                f"merge of 32x18 (low: 16x9) at resolution {self.resolution!r}; use 1 with 2 (1024x576, and 128x72 for "
                "low) or 2 with 1 (512x288)"
            )
        if self.branches not in (1, 2, 3):
            raise ValueError(f"branches is {self.branches}; the MSB module has 1, 2 or 3")
        if not self.transformer and self.patch_streams != "both":
            raise ValueError(
                f"patch_streams {self.patch_streams!r} with transformer False: the streams are parts of the AVT; "
                "leave out either one of them or the whole"
            )

    @property
    def stem_stride(self) -> int:
        """Of the stem's two convolutions, section 3.2; a low-resolution picture keeps its size."""
        return 1 if self.resolution == "low" else 2

    @property
    def branch_sizes(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """(height, width) of the three branches: the stem's output, its half and its quarter."""
        shrink = self.stem_stride**2 * self.picture_reduction
        height, width = exact_div(self.geometry.height, shrink), exact_div(self.geometry.width, shrink)
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
    """A preset with some of its options changed; `resolution="low"` brings the sizes that belong to it.

    Raises:
        TrainError: no such preset, no such option or value, or options that contradict each other.
    """
    if changes.get("resolution") == "low":
        changes = {"picture_reduction": 1, "merge_stride": 2} | changes
    return changed(preset_of(PRESETS, preset), changes)


def preset_of(presets: dict[str, Options], name: str) -> Options:
    """One of several presets.

    Raises:
        TrainError: no such preset.
    """
    if name not in presets:
        raise TrainError(f"Saw preset {name!r}; wanted one of {', '.join(presets)}. Name one of these.")
    return presets[name]


def changed(options: Options, changes: dict[str, Any]) -> Options:
    """Options with some fields changed, each checked, for they come from files and command lines.

    Raises:
        TrainError: no such field, a word that the field does not know, or fields that contradict each other.
    """
    hints = get_type_hints(type(options))
    if unknown := set(changes) - set(hints):
        raise TrainError(f"Saw options {sorted(unknown)}; this network has {sorted(hints)}. Remove or rename them.")
    values = asdict(options) | changes
    for name, hint in hints.items():
        if get_origin(hint) is Literal and values[name] not in get_args(hint):
            raise TrainError(
                f"Saw {name} {values[name]!r}; wanted one of {', '.join(get_args(hint))}. Name one of these."
            )
        if get_origin(hint) is tuple:  # a list, where it comes from JSON or YAML
            values[name] = tuple(values[name])
    try:
        return type(options)(**values)
    except ValueError as error:
        raise TrainError(f"Options that do not fit together: {error}.") from error
