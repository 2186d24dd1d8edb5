"""How well a network counts on a folder of scenes; the figures of the model cards come from here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from train.crowd.data import SceneFiles, batches, read_index
from train.crowd.metrics import grid_average_mean_error, mean_absolute_error, root_mean_square_error
from train.crowd.network import CrowdCounter, CrowdDensitySum
from train.dsp import CrowdLogMel

_BATCH = 4
_CROWDS = ((0, 0), (1, 50), (51, 150), (151, 300))  # people in a scene


@torch.no_grad()
def count_scenes(counter: CrowdCounter, files: list[SceneFiles]) -> dict[str, np.ndarray]:
    """Run a network over scenes.

    Args:
        counter: in evaluation mode.
        files: the scenes.

    Returns:
        Arrays over the scenes: `counts` (n,), `patch_counts`, `estimates` and `truth` (n, 64), in people;
        `importance` (n, 64).
    """
    log_mel, density_sum = CrowdLogMel(), CrowdDensitySum()
    rows: dict[str, list[np.ndarray]] = {
        name: [] for name in ("counts", "patch_counts", "importance", "estimates", "truth")
    }
    for batch in batches(files, _BATCH):
        inputs = (batch.picture, log_mel(batch.sound)) if counter.audio else (batch.picture,)
        density, importance, estimates = counter(*inputs)
        count, patch_counts = density_sum(density)
        values = (count[:, 0], patch_counts, importance, estimates, batch.patch_counts)
        for name, value in zip(rows, values, strict=True):
            rows[name].append(value.double().numpy())
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def evaluate_scenes(counter: CrowdCounter, folder: Path, split: str = "test") -> dict[str, float]:
    """Errors of a network on one split, beside those of always answering the mean count of the training split.

    Args:
        counter: in evaluation mode.
        folder: scenes with an index.csv.
        split: which of them.

    Returns:
        `mae`, `rmse`, `game_3` and `estimates_mae` (sum of PCE as the count) in people; `constant_mae` and
        `constant_rmse`; `mae_over_constant`; `count_correlation`; `patch_correlation` of the density's patches;
        `importance_correlation` of PIR with the true shares, over all patches; `mae_<least>_to_<most>` for scenes with
        so many people, where there are any.
    """
    training = np.array([len(scene.points) for scene in read_index(folder, "train")], float)
    seen = count_scenes(counter, read_index(folder, split))
    truth = seen["truth"].sum(axis=1)
    constant = np.full_like(truth, training.mean())
    peopled = truth > 0
    shares = seen["truth"][peopled] / truth[peopled, None]
    mae, constant_mae = mean_absolute_error(seen["counts"], truth), mean_absolute_error(constant, truth)
    return {
        "scenes": len(truth),
        "mean_people": float(truth.mean()),
        "mae": mae,
        "rmse": root_mean_square_error(seen["counts"], truth),
        "game_3": grid_average_mean_error(seen["patch_counts"], seen["truth"]),
        "estimates_mae": mean_absolute_error(seen["estimates"].sum(axis=1), truth),
        "constant_mae": constant_mae,
        "constant_rmse": root_mean_square_error(constant, truth),
        "mae_over_constant": mae / constant_mae,
        "count_correlation": float(np.corrcoef(seen["counts"], truth)[0, 1]),
        "patch_correlation": float(np.corrcoef(seen["patch_counts"].ravel(), seen["truth"].ravel())[0, 1]),
        "importance_correlation": float(np.corrcoef(seen["importance"][peopled].ravel(), shares.ravel())[0, 1]),
    } | _errors_by_crowd(seen["counts"], truth)


def _errors_by_crowd(counts: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    errors = {}
    for least, most in _CROWDS:
        chosen = (truth >= least) & (truth <= most)
        if chosen.any():
            errors[f"mae_{least}_to_{most}"] = mean_absolute_error(counts[chosen], truth[chosen])
    return errors
