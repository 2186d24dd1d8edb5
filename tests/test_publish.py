"""Publishing and rollback: all models or none, whole or not at all, wherever they are killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from onnx import helper
from toy_repository import DIGEST, FLOATS, add_doubling, add_doubling_twice, onnx_graph

from export import publish, releases
from export.errors import ExportError
from export.rollback import roll_back
from serve.checks import check_repository
from serve.errors import ServeError
from serve.launcher import EmbeddedTriton

NAMES = ("double", "other")


def times(factor: float) -> bytes:
    """y = factor x, so that an answer tells its release."""
    nodes = [helper.make_node("Mul", ["x", "factor"], ["y"])]
    return onnx_graph(nodes, {"x": (FLOATS, 4)}, {"y": (FLOATS, 4)}, {"factor": [factor]}).SerializeToString()


def give_out(repository: Path, content: bytes = b"", names: tuple[str, ...] = NAMES) -> int:
    facts = {"contract_digest": DIGEST, "git_commit": "abc123"}
    staged = {n: publish.stage(repository / n, {"model.onnx": content or times(1)}, facts) for n in names}
    try:
        return publish.publish(repository, staged)
    except ExportError:
        publish.discard(staged)
        raise


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two models and an ensemble of one of them; releases 1 (made by hand), 2 and 3."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for name in NAMES:
        add_doubling(folder, name)
    add_doubling_twice(folder)
    assert (give_out(folder, times(2)), give_out(folder, times(3))) == (2, 3)
    return folder


def out(repository: Path) -> dict[str, list[int]]:
    return {name: publish.versions(repository / name) for name in NAMES}


def all_out(*numbers: int) -> dict[str, list[int]]:
    return {name: list(numbers) for name in NAMES}


def leftovers(repository: Path) -> list[str]:
    return sorted(path.name for name in NAMES for path in (repository / name).glob(".*"))


def contents(repository: Path) -> dict[str, bytes]:
    files = (p for p in repository.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(repository)): p.read_bytes() for p in files}


# Publishing


def test_all_models_of_an_export_share_a_number_and_the_newest_three_are_kept(repository: Path) -> None:
    for number in range(4, 8):
        assert give_out(repository) == number
        assert out(repository) == all_out(number - 2, number - 1, number)
    assert leftovers(repository) == []
    assert publish.versions(repository / "quadruple") == [1]  # an ensemble's version is nobody's release


def test_the_first_release_is_number_one_and_gives_ensembles_their_version(tmp_path: Path) -> None:
    (tmp_path / "facefilter").mkdir()
    assert give_out(tmp_path, names=("crowd_v",)) == 1
    assert (tmp_path / "facefilter" / "1").is_dir()  # Triton wants a version of an ensemble too
    assert not (tmp_path / "crowd_counting").exists()
    assert give_out(tmp_path, names=("crowd_av", "crowd_v")) == 2
    assert publish.versions(tmp_path / "crowd_av") == [2]


def test_a_version_says_what_it_is_and_no_file_of_it_can_be_written(repository: Path) -> None:
    manifest = publish.newest_manifest(repository / "double")
    assert manifest is not None and manifest["git_commit"] == "abc123"
    files = list((repository / "double" / "3").iterdir())
    assert {path.name for path in files} == {"model.onnx", "manifest.json"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o444}
    (repository / "double" / "3" / "model.onnx").unlink()
    assert publish.newest_manifest(repository / "double") is None


def test_a_number_that_is_taken_is_never_rewritten(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(repository)
    monkeypatch.setattr(releases, "next_version", lambda *_: 3)
    with pytest.raises(ExportError, match=r"double/3 is there already, and a published version is never rewritten"):
        give_out(repository, times(9))
    assert contents(repository).items() >= before.items()
    monkeypatch.undo()
    assert give_out(repository) == 4 and out(repository) == all_out(2, 3, 4) and leftovers(repository) == []


def test_a_version_put_there_by_hand_is_neither_served_over_nor_removed(repository: Path) -> None:
    shutil.copytree(repository / "double" / "1", repository / "double" / "99")
    with pytest.raises(ExportError, match=r"double/99 is no release of this repository \(1, 2, 3 are\)"):
        give_out(repository)
    assert (repository / "double" / "99" / "model.onnx").is_file() and out(repository)["other"] == [1, 2, 3]


def test_an_unwritable_repository_is_refused_and_left_clean(tmp_path: Path) -> None:
    blocked = tmp_path / "crowd_v"
    blocked.write_text("a file where a folder should be")
    with pytest.raises(ExportError, match="nothing published"):
        publish.stage(blocked, {"model.onnx": b"x"}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "crowd_v"]


def test_what_is_staged_is_no_version_and_what_is_discarded_is_gone(repository: Path) -> None:
    staged = publish.stage(repository / "double", {"model.onnx": b"x"}, {})
    assert publish.versions(repository / "double") == [1, 2, 3]
    publish.discard({"double": staged})
    assert leftovers(repository) == []


def test_another_export_in_progress_is_left_alone_and_a_dead_ones_leftovers_go(repository: Path) -> None:
    living = publish.stage(repository / "double", {"model.onnx": times(5)}, {"contract_digest": DIGEST})
    dead = repository / "double" / ".tmp-dead"
    dead.mkdir()
    (dead / "model.onnx").write_bytes(b"half")
    assert give_out(repository) == 4
    assert living.is_dir() and not dead.exists()
    assert publish.publish(repository, {"double": living}) == 5


def test_exports_at_once_get_numbers_of_their_own(repository: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda _: give_out(repository), range(12)))
    assert sorted(numbers) == list(range(4, 16))
    assert out(repository) == all_out(13, 14, 15) and leftovers(repository) == []
    check_repository(repository, "onnxruntime")


@pytest.mark.parametrize("content", ["{", "[1]", '{"released": {}}', '{"released": {"a": []}, "withdrawn": {}}'])
def test_a_damaged_record_is_refused_and_nothing_moves(repository: Path, content: str) -> None:
    (repository / "releases.json").write_text(content)
    for act in (give_out, roll_back, publish.finish_interrupted):
        with pytest.raises(ExportError, match=r"releases\.json cannot be read.*Remove it"):
            act(repository)
    assert out(repository) == all_out(1, 2, 3)
    (repository / "releases.json").unlink()
    assert give_out(repository) == 4


# Rollback


def test_a_rollback_withdraws_the_newest_release_and_undo_brings_it_back_unchanged(repository: Path) -> None:
    before = contents(repository)
    done = roll_back(repository)
    assert (done.newest, sorted(done.withdrawn)) == (2, [3])
    assert out(repository) == all_out(1, 2)
    check_repository(repository, "onnxruntime")
    assert roll_back(repository, undo=True).newest == 3
    assert contents(repository) == before


def test_a_rollback_goes_to_any_kept_release_and_forward_again(repository: Path) -> None:
    assert roll_back(repository, to=1).newest == 1 and out(repository) == all_out(1)
    assert roll_back(repository, to=2).newest == 2 and out(repository) == all_out(1, 2)
    assert roll_back(repository, to=3).newest == 3 and out(repository) == all_out(1, 2, 3)
    assert roll_back(repository, to=3).newest == 3  # where it is already


def test_a_withdrawn_number_is_never_used_again_and_stays_withdrawn(repository: Path) -> None:
    roll_back(repository)
    assert give_out(repository) == 4 and out(repository) == all_out(1, 2, 4)
    with pytest.raises(ExportError, match=r"No release newer than 4 is withdrawn.*--to 3"):
        roll_back(repository, undo=True)
    assert roll_back(repository).newest == 2  # not 3, which was taken back
    assert roll_back(repository, undo=True).newest == 4
    assert (give_out(repository), give_out(repository)) == (5, 6)
    assert out(repository) == all_out(4, 5, 6) and leftovers(repository) == []  # 3 is older than the oldest kept


def test_there_must_be_a_release_to_go_to(repository: Path) -> None:
    with pytest.raises(ExportError, match=r"no release 7 here; out are 1, 2, 3, withdrawn none"):
        roll_back(repository, to=7)
    roll_back(repository, to=1)
    with pytest.raises(ExportError, match=r"no older release here; out are 1, withdrawn 2, 3"):
        roll_back(repository)


@pytest.mark.parametrize("harm", ["model.onnx", "manifest.json", "missing"])
def test_a_damaged_release_is_not_gone_back_to(repository: Path, harm: str) -> None:
    folder = repository / "other" / "2"
    if harm == "missing":
        (folder / "model.onnx").unlink()
    else:
        (folder / harm).chmod(0o644)
        (folder / harm).write_bytes(b"\0" + (folder / harm).read_bytes()[1:])
    before = contents(repository)
    with pytest.raises(ExportError, match=r"other/2/.*(damaged|missing|cannot be read)"):
        roll_back(repository)
    assert contents(repository) == before


def test_a_release_of_another_contract_is_refused_with_the_commit_that_has_its_configs(repository: Path) -> None:
    for name in NAMES:
        config = repository / name / "configs" / "onnxruntime.pbtxt"
        (repository / name / "config.pbtxt").write_text(config.read_text().replace(DIGEST, "feedfeed"))
    with pytest.raises(ExportError, match=rf"contract {DIGEST}, .* of feedfeed.*commit abc123 .*--configs-only"):
        roll_back(repository)
    assert out(repository) == all_out(1, 2, 3)


# Killed


def damaged_versions(repository: Path) -> list[str]:
    return [f for name in NAMES for n in out(repository)[name] if (f := releases.damage(repository / name / str(n)))]


def killed_at_every_step(act: str, base: Path, folder: Path, root: Path) -> Iterator[Path]:
    """Copies of the repository, the act killed in each at another step."""
    folder.mkdir()
    script = root / "tests" / "kill_points.py"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, str(script), act, str(base), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    killed = int(done.stdout)
    assert killed > 30
    for step in range(1, killed + 1):
        yield folder / str(step)
        shutil.rmtree(folder / str(step))


def served(repository: Path) -> int | None:
    """Release that the server's own check lets through, for all models; None where it refuses."""
    try:
        models = {model.name: model.versions[-1] for model in check_repository(repository, "onnxruntime")}
    except ServeError as error:
        if error.exit_code != 6 or "avedge rollback --repository" not in str(error):
            raise
        return None
    assert models["double"] == models["other"]
    return models["double"]


@pytest.mark.parametrize(("act", "before", "after"), [("publish", 3, 4), ("rollback", 3, 2), ("undo", 2, 3)])
def test_killed_at_any_step_only_whole_versions_of_one_release_are_served(
    repository: Path, tmp_path: Path, root: Path, act: str, before: int, after: int
) -> None:
    if act == "undo":
        roll_back(repository)
    seen = []
    for killed in killed_at_every_step(act, repository, tmp_path / "killed", root):
        assert damaged_versions(killed) == []
        seen.append(served(killed))
        done = publish.finish_interrupted(killed)
        assert served(killed) == done.newest and done.newest in (before, after)
        if seen[-1] is not None:
            assert done.newest == seen[-1] or (seen[-1], done.newest) == (before, after)
        assert [name for name in leftovers(killed) if name.startswith(".tmp-")] == []
        number = give_out(killed)
        assert served(killed) == number and damaged_versions(killed) == []
        assert len(out(killed)["double"]) <= publish.KEPT_VERSIONS
    assert seen[0] == before and seen[-1] == after  # killed at the first step and after the last
    assert None in seen  # some stood between two models, and the server refused


def test_a_mixture_is_put_right_by_the_command_that_the_refusal_names(repository: Path, root: Path) -> None:
    (repository / "other" / "3").rename(repository / "other" / ".hidden-3")
    with pytest.raises(ServeError, match="other loads 2; wanted that release of every model") as refused:
        check_repository(repository, "onnxruntime")
    words = str(refused.value).rsplit("avedge ", 1)[1].rstrip(".").split()
    assert words == ["rollback", "--repository", str(repository), "--to", "3"]
    done = subprocess.run(
        [sys.executable, "-c", "import sys, argparse; from export import rollback as r; p = argparse.ArgumentParser();"
         "r.add_arguments(p); sys.exit(r.run(p.parse_args(sys.argv[1:])))", *words[1:], "--json"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"version": 3, "released": [1, 2, 3], "withdrawn": []}
    assert served(repository) == 3


# A real server


def answer(url: str, name: str) -> float:
    with grpcclient.InferenceServerClient(url) as client:
        tensor = grpcclient.InferInput("x", [1, 4], "FP32")
        tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
        result = client.infer(name, [tensor], client_timeout=10).as_numpy("y")
    assert result is not None
    return float(result[0, 0])


def test_a_server_loads_what_is_out_keeps_it_while_it_runs_and_restarts_within_seconds_on_the_older_one(
    repository: Path,
) -> None:
    with EmbeddedTriton(repository, stop_timeout_s=0) as server:
        assert (answer(server.grpc_url, "double"), answer(server.grpc_url, "quadruple")) == (3, 9)
        started = time.monotonic()
        roll_back(repository)
        assert time.monotonic() - started < 5
        assert answer(server.grpc_url, "double") == 3  # loaded is loaded
    # The record, the lock and the withdrawn version lie in Triton's way and are no models of it.
    assert {path.name for path in repository.iterdir()} > {"releases.json", ".lock"}
    assert (repository / "double" / ".hidden-3").is_dir()
    with EmbeddedTriton(repository, stop_timeout_s=0) as server:
        assert server.models == ["double", "other", "quadruple"]
        assert (answer(server.grpc_url, "double"), answer(server.grpc_url, "quadruple")) == (2, 4)
