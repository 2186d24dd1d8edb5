"""What every counting network has in common: CC-AV, CC-V, their ablations and the baselines of Table 1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

from torch import Tensor, nn

from train.crowd.geometry import Geometry
from train.crowd.names import MODELS, TITLES
from train.crowd.options import PictureOptions
from train.errors import TrainError


def require_model(model: str) -> None:
    """Refuse what is no stored name of a counting network.

    Raises:
        TrainError: naming those there are.
    """
    if model not in MODELS.values():
        known = ", ".join(MODELS.values())
        raise TrainError(f"Saw model {model!r}; the counting networks are {known}. Name one of these.")


class Counter(nn.Module, ABC):
    """A counting network: a UINT8 picture, with one second of its sound or without, to a density map.

    B batch, P patches of `geometry`.
    """

    def __init__(self, model: str, options: PictureOptions, *, audio: bool) -> None:
        super().__init__()
        require_model(model)
        self.model = model  # name under which the weights are stored
        self.options = options
        self.audio = audio  # whether it listens

    @abstractmethod
    def forward(self, picture: Tensor, log_mel: Tensor | None = None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Count.

        Args:
            picture: UINT8 (B, H, W, 3), RGB, of the size that `geometry` names.
            log_mel: (B, 1, 96, 64), frames by bands, of the second of sound (`train.dsp.CrowdLogMel`); only where
                `audio`.

        Returns:
            Density (B, rows, columns) of `geometry`, people per cell; patch importance PIR (B, P), a share of the
            people each, summing to 1, and patch estimates PCE (B, P), people, which training may leave slightly below
            0: each None in a network that has none.

        Raises:
            ValueError: sound is missing, or nobody listens to it.
        """

    @property
    @abstractmethod
    def untrained_mean(self) -> float:
        """Mean over the cells, before training and with `density_scale` 1."""

    @property
    def geometry(self) -> Geometry:
        """Sizes of picture, density and patches."""
        return self.options.geometry

    @property
    def title(self) -> str:
        """As papers print it."""
        return next(TITLES[name] for name, stored in MODELS.items() if stored == self.model)

    def scale_to(self, mean_people: float) -> None:
        """Choose `density_scale` such that the untrained network answers so many people in a picture."""
        cells = self.geometry.density_height * self.geometry.density_width
        self.options = replace(self.options, density_scale=mean_people / (self.untrained_mean * cells))

    def require_sound(self, log_mel: Tensor | None) -> None:
        """Refuse sound that nobody hears, and silence where sound is awaited.

        Raises:
            ValueError: naming the network.
        """
        if (log_mel is not None) != self.audio:
            wanted = "with a log-mel" if self.audio else "without one"
            raise ValueError(
                f"{self.title} is called {wanted}; count silent pictures with a network that does not listen, "
                "and sound with one that does"
            )
