"""Statistics of batch normalisation are measured anew for averaged weights."""

import torch
from torch import Tensor, nn

from train.fit import FitSettings, Learner
from train.statistics import settle_statistics


class Normed(Learner):
    """A trained batch norm and a frozen one."""

    def __init__(self) -> None:
        super().__init__(FitSettings(steps=5))
        self.norm = nn.BatchNorm1d(3)
        self.frozen = nn.BatchNorm1d(3).requires_grad_(False)

    def train(self, mode: bool = True) -> "Normed":
        super().train(mode)
        self.frozen.eval()
        return self

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        return {"total": self.frozen(self.norm(batch)).square().mean()}


class Numbered:
    """Batches whose values say their step."""

    def batch(self, step: int, part: int, parts: int) -> Tensor:
        assert (part, parts) == (0, 1)
        return torch.randn(8, 3, generator=torch.Generator().manual_seed(step)) + step


def test_statistics_become_the_mean_over_the_batches_after_the_training() -> None:
    learner = Normed()
    learner.norm.running_mean.fill_(100.0)
    settle_statistics(learner, Numbered(), count=4)
    batches = torch.stack([Numbered().batch(step, 0, 1) for step in range(5, 9)])
    torch.testing.assert_close(learner.norm.running_mean, batches.mean(dim=(0, 1)))
    torch.testing.assert_close(learner.norm.running_var, batches.var(dim=1).mean(dim=0))
    assert learner.norm.momentum == 0.1 and not learner.training


def test_what_is_frozen_keeps_its_statistics() -> None:
    learner = Normed()
    learner.frozen.running_mean.fill_(7.0)
    settle_statistics(learner, Numbered(), count=2)
    assert (learner.frozen.running_mean == 7.0).all()
