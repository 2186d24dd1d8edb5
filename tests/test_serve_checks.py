from __future__ import annotations

import fcntl
import json
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import IO

import pytest
from toy_repository import DIGEST, add_doubling, add_doubling_twice

from serve import checks, release_checks, runtime
from serve.errors import ServeError


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    add_doubling(tmp_path, "double")
    add_doubling(tmp_path, "other")
    add_doubling_twice(tmp_path)
    return tmp_path


def refusal(repository: Path, target: str = "onnxruntime") -> ServeError:
    with pytest.raises(ServeError) as refused:
        checks.check_repository(repository, target)
    return refused.value


def test_a_whole_repository_passes(repository: Path) -> None:
    assert [model.name for model in checks.check_repository(repository, "onnxruntime")] == [
        "double",
        "other",
        "quadruple",
    ]


def test_a_missing_artefact_names_its_model_and_the_command_that_makes_it(repository: Path) -> None:
    (repository / "other" / "1" / "model.onnx").unlink()
    error = refusal(repository)
    assert error.exit_code == 6
    assert "for other;" in str(error) and "avedge export" in str(error)


def test_a_repository_that_was_never_exported_names_all_models(repository: Path) -> None:
    for name in ("double", "other", "quadruple"):
        for file in (repository / name / "1").iterdir():
            file.unlink()
        (repository / name / "1").rmdir()
    assert "double, other, quadruple" in str(refusal(repository))


def test_an_artefact_of_another_contract_is_refused(repository: Path) -> None:
    manifest = repository / "double" / "1" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "contract_digest": "feedfeed"}))
    error = refusal(repository)
    assert error.exit_code == 6
    assert "feedfeed" in str(error) and DIGEST in str(error)


def test_a_version_of_another_model_is_refused(repository: Path) -> None:
    manifest = repository / "double" / "1" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "model": "other"}))
    assert "double/1 is a version of other; wanted one of double" in str(refusal(repository))


def test_configs_of_two_contracts_are_refused(repository: Path) -> None:
    config = repository / "quadruple" / "config.pbtxt"
    config.write_text(config.read_text().replace(DIGEST, "feedfeed"))
    assert "quadruple feedfeed" in str(refusal(repository))


def test_a_config_without_a_contract_is_refused(repository: Path) -> None:
    config = repository / "other" / "configs" / "onnxruntime.pbtxt"
    config.write_text(config.read_text().replace("contract_digest", "intra_op_thread_count"))
    assert "other none" in str(refusal(repository))


def test_a_damaged_artefact_is_refused(repository: Path) -> None:
    artefact = repository / "double" / "1" / "model.onnx"
    content = bytearray(artefact.read_bytes())
    content[len(content) // 2] ^= 1
    artefact.write_bytes(content)
    error = refusal(repository)
    assert error.exit_code == 6 and "digest" in str(error) and "model.onnx" in str(error)


@pytest.mark.parametrize("artefacts", [None, [], {"model.onnx": "abc"}, {"model.onnx": {"sha256": None}}])
def test_a_manifest_without_the_files_digest_is_refused(repository: Path, artefacts: object) -> None:
    manifest = repository / "double" / "1" / "manifest.json"
    manifest.write_text(json.dumps({"contract_digest": DIGEST, "artefacts": artefacts}))
    assert "model.onnx has the digest" in str(refusal(repository))


def record(repository: Path, *released: int, models: tuple[str, ...] = ("double", "other")) -> None:
    numbers = {str(number): list(models) for number in released}
    (repository / "releases.json").write_text(json.dumps({"released": numbers, "withdrawn": {}}))


def copy_version(repository: Path, model: str, number: int) -> None:
    shutil.copytree(repository / model / "1", repository / model / str(number))


def test_one_release_of_all_models_passes(repository: Path) -> None:
    for name in ("double", "other"):
        copy_version(repository, name, 2)
    record(repository, 1, 2)
    assert [model.versions for model in checks.check_repository(repository, "onnxruntime")[:2]] == [(2,), (2,)]


def test_a_mixture_of_two_releases_is_refused_with_the_command_that_ends_it(repository: Path) -> None:
    copy_version(repository, "other", 2)
    for released, odd, remedy in (((1,), "other loads 2;", "--to 1"), ((1, 2), "double loads 1;", "--to 2")):
        record(repository, *released)
        error = refusal(repository)
        assert error.exit_code == 6 and odd in str(error)
        assert f"avedge rollback --repository {repository} {remedy}." in str(error)


def test_a_repository_is_looked_at_when_an_export_has_done_its_renames(repository: Path) -> None:
    record(repository, 1, 2)
    copy_version(repository, "other", 2)

    def finish(lock: IO[bytes]) -> None:
        time.sleep(0.3)
        copy_version(repository, "double", 2)
        lock.close()

    lock = (repository / ".lock").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    exporting = threading.Thread(target=finish, args=(lock,))
    exporting.start()
    assert checks.check_repository(repository, "onnxruntime")[0].versions == (2,)
    exporting.join()


def test_an_export_that_hangs_does_not_hold_the_server_up_for_long(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release_checks, "_REST_TIMEOUT_S", 0.1)
    with (repository / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert len(checks.check_repository(repository, "onnxruntime")) == 3


def test_a_version_beyond_the_record_is_refused_and_a_model_outside_it_is_not(repository: Path) -> None:
    for name in ("double", "other"):
        copy_version(repository, name, 9)
    record(repository, 1, models=("double",))
    assert "but double loads 9;" in str(refusal(repository))


def test_a_pinned_version_may_be_an_older_release_but_no_other(repository: Path) -> None:
    copy_version(repository, "other", 2)
    config = repository / "double" / "configs" / "onnxruntime.pbtxt"
    config.write_text(config.read_text() + "\nversion_policy { specific { versions: 1 } }")
    record(repository, 1, 2)
    assert checks.check_repository(repository, "onnxruntime")[0].versions == (1,)
    record(repository, 2)
    assert "but double loads 1;" in str(refusal(repository))


@pytest.mark.parametrize("content", ["", "{", "[1]", "{}", '{"released": [1]}', '{"released": {"one": []}}'])
def test_a_record_that_cannot_be_read_is_refused(repository: Path, content: str) -> None:
    (repository / "releases.json").write_text(content)
    error = refusal(repository)
    assert error.exit_code == 6 and "releases.json cannot be read" in str(error) and "avedge export" in str(error)


@pytest.mark.parametrize("content", [None, "{", "[1]", "\x00\xff"])
def test_a_manifest_that_cannot_be_read_is_refused(repository: Path, content: str | None) -> None:
    manifest = repository / "double" / "1" / "manifest.json"
    manifest.unlink()
    if content is not None:
        manifest.write_text(content, encoding="latin-1")
    assert "manifest" in str(refusal(repository))


@pytest.mark.parametrize("content", ["no config {", "max_batch_size: many", "unknown_field: 1"])
def test_a_config_that_the_server_could_not_parse_is_refused_by_name(repository: Path, content: str) -> None:
    (repository / "double" / "configs" / "onnxruntime.pbtxt").write_text(content)
    assert "onnxruntime.pbtxt cannot be read" in str(refusal(repository))


def test_only_the_newest_version_must_be_whole_when_the_config_serves_the_newest(repository: Path) -> None:
    (repository / "double" / "1").rename(repository / "double" / "10")
    (repository / "double" / "9").mkdir()
    (repository / "double" / "0100").mkdir()
    models = checks.check_repository(repository, "onnxruntime")
    assert models[0].versions == (10,)


def test_the_versions_of_a_specific_policy_are_the_ones_checked(repository: Path) -> None:
    config = repository / "double" / "configs" / "onnxruntime.pbtxt"
    config.write_text(config.read_text() + "\nversion_policy { specific { versions: 7 } }")
    assert "for double;" in str(refusal(repository))


def test_a_target_takes_its_own_config_and_falls_back_to_the_common_one(repository: Path) -> None:
    assert "double/config.pbtxt cannot be read" in str(refusal(repository, "torchscript"))


def test_a_folder_that_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    assert "There is no folder" in str(refusal(tmp_path / "absent"))
    assert "has no models" in str(refusal(tmp_path))


@pytest.mark.parametrize("version", ["2.0.2", "2.2.6", "3.0.0"])
def test_numpy_two_is_refused_because_outputs_would_be_empty(version: str) -> None:
    with pytest.raises(ServeError, match=f"numpy {version} .*empty outputs.*pip install 'numpy<2'"):
        checks.check_numpy(version)


def test_numpy_one_passes() -> None:
    assert checks.check_numpy("1.26.4") == "1.26.4"


def test_a_python_without_its_shared_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "shared_python_folder", lambda: None)
    with pytest.raises(ServeError, match=r"libpython3\.\d+\.so\.1\.0.*--enable-shared"):
        checks.check_environment("onnxruntime")


def test_a_python_without_a_stub_is_refused_with_those_that_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "PYTHON_VERSION", "3.99")
    with pytest.raises(ServeError, match=r"3\.10, 3\.11"):
        checks.check_environment("onnxruntime")


@pytest.mark.parametrize(("distribution", "version"), [("no-such-distribution", "0.7.0"), ("nvidia-pytriton", "0.6.0")])
def test_another_or_no_server_wheel_is_refused(
    monkeypatch: pytest.MonkeyPatch, distribution: str, version: str
) -> None:
    monkeypatch.setattr(runtime, "DISTRIBUTION", distribution)
    monkeypatch.setattr(runtime, "DISTRIBUTION_VERSION", version)
    with pytest.raises(ServeError, match=f"pip install '{distribution}=={version}'"):
        checks.check_environment("onnxruntime")


def test_the_library_of_the_target_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(checks.EMBEDDED_TARGETS, "torchscript", "no_such_library")
    with pytest.raises(ServeError, match="no_such_library is not installed"):
        checks.check_environment("torchscript")


def test_a_port_in_use_is_refused_by_its_number() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match=f"Port {port} on 127.0.0.1 cannot be had for gRPC"):
            checks.check_port("127.0.0.1", port, "gRPC")


def test_the_report_says_what_fails_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(check.ok and check.detail for check in checks.environment_report())
    monkeypatch.setattr(checks, "shared_python_folder", lambda: None)
    failed = [check for check in checks.environment_report() if not check.ok]
    assert [check.name for check in failed] == ["shared library of this Python"]
    assert "libpython" in failed[0].detail
