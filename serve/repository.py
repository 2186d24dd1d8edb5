"""A model repository as the server will read it on one target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from serve.errors import EXIT_MISMATCH, ServeError


@dataclass(frozen=True)
class ServedModel:
    """One model or ensemble, its config and the versions of it that will be loaded."""

    folder: Path
    config_file: Path
    config: model_config_pb2.ModelConfig
    versions: tuple[int, ...]

    @property
    def name(self) -> str:
        """The folder's name, by which clients ask for it."""
        return self.folder.name

    @property
    def is_ensemble(self) -> bool:
        """Whether the server wires it from other models; it has no file of its own then."""
        return str(self.config.platform) == "ensemble"

    @property
    def contract_digest(self) -> str | None:
        """Fingerprint of the contract that the config was generated from."""
        parameter = self.config.parameters.get("contract_digest")
        return parameter.string_value if parameter else None


def read_repository(repository: Path, target: str) -> list[ServedModel]:
    """Read the config of every model, by the server's own rule: `configs/<target>.pbtxt`, else `config.pbtxt`.

    Raises:
        ServeError: no folder, no models in it, or a config that is missing or that the server could not read.
    """
    if not repository.is_dir():
        raise ServeError(
            f"There is no folder {repository}; wanted a model repository, from which the server loads every model. "
            "Run this in the project's root, or name the repository with --repository.",
            EXIT_MISMATCH,
        )
    folders = sorted(path for path in repository.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise ServeError(
            f"{repository} has no models; wanted one folder for each, else there is nothing to serve. "
            "Run `avedge export`, or name another --repository.",
            EXIT_MISMATCH,
        )
    return [_read_model(folder, target) for folder in folders]


def _read_model(folder: Path, target: str) -> ServedModel:
    chosen = folder / "configs" / f"{target}.pbtxt"
    config_file = chosen if chosen.is_file() else folder / "config.pbtxt"
    config = model_config_pb2.ModelConfig()
    try:
        text_format.Parse(config_file.read_text(encoding="utf-8"), config)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise ServeError(
            f"{config_file} cannot be read ({error}); wanted a Triton model config, without which the server does not "
            "start. Make the configs again: avedge export --configs-only.",
            EXIT_MISMATCH,
        ) from error
    return ServedModel(folder, config_file, config, _loaded_versions(folder, config))


def _loaded_versions(folder: Path, config: model_config_pb2.ModelConfig) -> tuple[int, ...]:
    """Version folders that the config's policy loads; Triton ignores names that are no number or start with 0."""
    names = [path.name for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()]
    present = sorted(int(name) for name in names if not name.startswith("0"))
    policy = config.version_policy
    if policy.HasField("all"):
        return tuple(present)
    if policy.HasField("specific"):
        return tuple(policy.specific.versions)
    return tuple(present[-max(policy.latest.num_versions, 1) :])
