"""The Compose files: of the right form, of pinned releases, with no more rights than needed, in step with the code."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from deploy_files import COMPOSE, COMPOSE_CPU, DEPLOY, ROOT, Reset, read_compose, server_arguments

import avedge
from export.contract import MODELS
from export.engines.library import Gpu
from export.engines.manifest import engines_fit
from serve.commands import CONTAINER_IMAGE
from serve.runtime import find_wheel, server_environment

SERVICES = ("engines", "triton", "prometheus", "grafana")
# The server's own help names every option; these are of releases after the embedded 2.51.
NEWER_OPTIONS = {
    "--http-max-input-size": "2.59; before, HTTP has no limit that can be set",
    "--grpc-max-response-pool-size": "NVIDIA's secure deployment guide of 2026; 2.51 does not know it",
}


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = read_compose()["services"][name]
    return found


def schema_says(tmp_path: Path, *contents: dict[str, Any]) -> tuple[int, str]:
    """Exit code and words of a check against the schema of the Compose specification."""
    files = []
    for number, content in enumerate(contents):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(content))
    command = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_files_are_of_the_form_that_compose_reads(tmp_path: Path) -> None:
    code, words = schema_says(tmp_path, read_compose(), read_compose(COMPOSE_CPU))
    assert code == 0, words
    misspelt = read_compose()
    misspelt["services"]["triton"]["read_olny"] = misspelt["services"]["triton"].pop("read_only")
    assert schema_says(tmp_path, misspelt)[0] == 1


def test_compose_itself_reads_them(tmp_path: Path) -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("no `docker compose` on this machine")
    command = ["docker", "compose", "--profile", "monitoring", "--file", COMPOSE, "--file", COMPOSE_CPU, "config"]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    merged = json.loads(done.stdout)["services"]
    assert "engines" not in merged and not merged["triton"].get("deploy")
    assert merged["triton"]["environment"]["AVEDGE_TARGET"] == "onnxruntime"


def test_the_servers_image_is_the_one_that_the_code_names() -> None:
    assert service("triton")["image"] == CONTAINER_IMAGE
    assert service("engines")["build"]["args"]["TRITON_IMAGE"] == CONTAINER_IMAGE
    assert f"ARG TRITON_IMAGE={CONTAINER_IMAGE}" in (DEPLOY / "engines.Dockerfile").read_text().splitlines()
    year, month = map(int, re.findall(r":(\d\d)\.(\d\d)-py3$", CONTAINER_IMAGE)[0])
    assert (year, month) >= (26, 9), "before, one request with a wrong header kills the server"


@pytest.mark.parametrize("name", ["triton", "prometheus", "grafana"])
def test_images_are_pinned_to_one_release(name: str) -> None:
    assert re.search(r":v?\d+\.\d+[\w.-]*$", service(name)["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_do_no_more_than_it_must(name: str) -> None:
    one = service(name)
    user, group = map(int, one["user"].split(":"))
    assert user > 0 and group > 0
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"] and "cap_add" not in one
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert one["pids_limit"] > 0 and one["mem_limit"] and one["ulimits"] == {"core": 0}
    assert not {"privileged", "pid", "ipc", "userns_mode", "devices", "volumes_from"} & set(one)
    assert one.get("network_mode", "none") == "none"
    assert "docker.sock" not in json.dumps(one)
    assert all("size=" in mount for mount in one.get("tmpfs", []))


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_watching_takes_no_more_than_a_core_from_serving(name: str) -> None:
    assert service(name)["cpus"] <= 1


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_writes_only_where_its_work_is(name: str) -> None:
    writable = {mount.split(":")[1] for mount in service(name)["volumes"] if not mount.endswith(":ro")}
    wanted = {
        "engines": {"/models", "/cache"},
        "triton": set(),
        "prometheus": {"/prometheus"},
        "grafana": {"/var/lib/grafana"},
    }
    assert writable == wanted[name]


def test_nothing_is_published_beyond_this_machine_and_only_grpc_of_the_server() -> None:
    ports = {name: one.get("ports", []) for name, one in read_compose()["services"].items()}
    assert ports == {
        "engines": [],
        "triton": ["127.0.0.1:8001:8001"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }
    networks = read_compose()["networks"]
    shared = {name for name, one in read_compose()["services"].items() if "metrics" in one.get("networks", [])}
    assert networks["metrics"] == {"internal": True} and shared == {"triton", "prometheus"}
    assert service("engines")["network_mode"] == "none"


def test_the_server_stops_later_than_it_lets_requests_end(tmp_path: Path) -> None:
    arguments = dict(word.split("=", 1) for word in server_arguments(tmp_path) if "=" in word)
    assert int(service("triton")["stop_grace_period"].removesuffix("s")) > int(arguments["--exit-timeout-secs"])


def test_health_is_readiness_of_every_model(tmp_path: Path) -> None:
    check, arguments = service("triton")["healthcheck"]["test"], server_arguments(tmp_path)
    assert check[:2] == ["CMD", "curl"] and check[-1] == "http://127.0.0.1:8000/v2/health/ready"
    assert {"--http-address=127.0.0.1", "--http-port=8000", "--strict-readiness=true"} <= set(arguments)
    assert service("triton")["restart"] == "unless-stopped"


def test_engines_come_before_the_server_by_a_command_that_exists() -> None:
    assert service("triton")["depends_on"] == {"engines": {"condition": "service_completed_successfully"}}
    program, *words = service("engines")["command"]
    asked = avedge.build_parser("export").parse_args(words)
    mounts = {mount.split(":")[1] for mount in service("engines")["volumes"]}
    assert program == "avedge" and asked.target == "tensorrt" and asked.if_needed
    assert {str(asked.repository), str(asked.weights)} <= mounts and asked.task_sets.is_relative_to("/cache")
    assert service("engines")["restart"] == "no"


def test_a_newer_image_or_another_gpu_makes_the_engines_anew(tmp_path: Path) -> None:
    here = Gpu("NVIDIA L4", "8.9", "570.1", "13.0")
    for model in MODELS:
        folder = tmp_path / model.name / "3"
        folder.mkdir(parents=True)
        facts = {"library_version": "11.4.0.106", "gpu": asdict(here)}
        (folder / "model.plan.json").write_text(json.dumps(facts))
    assert engines_fit(tmp_path, "11.4.0.106", here)
    assert not engines_fit(tmp_path, "11.5.0.1", here)
    assert not engines_fit(tmp_path, "11.4.0.106", replace(here, name="NVIDIA H100"))
    (tmp_path / MODELS[-1].name / "4").mkdir()  # newer, and without an engine
    assert not engines_fit(tmp_path, "11.4.0.106", here)


@functools.cache
def options_of_the_embedded_server() -> frozenset[str]:
    wheel = find_wheel()
    command = [str(wheel.tritonserver), "--help"]
    done = subprocess.run(command, env=server_environment(wheel), capture_output=True, text=True, check=False)
    return frozenset(re.findall(r"^\s+(--[a-z0-9-]+)\b", done.stdout + done.stderr, flags=re.MULTILINE))


def test_the_server_knows_every_option(tmp_path: Path) -> None:
    known = options_of_the_embedded_server()
    used = {word.split("=")[0] for word in server_arguments(tmp_path)}
    assert len(known) > 60 and used - known == set(NEWER_OPTIONS)


def test_administration_is_shut_and_what_clients_need_is_open(tmp_path: Path) -> None:
    keys = set()
    for start in range(2):
        arguments = server_arguments(tmp_path / str(start))
        for option in ("--grpc-restricted-protocol", "--http-restricted-api"):
            (value,) = [word.split("=", 1)[1] for word in arguments if word.startswith(f"{option}=")]
            groups, secret = value.split(":", 1)
            assert set(groups.split(",")) == {"model-repository", "shared-memory", "trace", "logging"}
            keys.add(secret.partition("=")[2])
    assert len(keys) == 2 and all(len(key) == 36 for key in keys), "a new key at every start"
    assert {"--model-control-mode=none", "--disable-auto-complete-config"} <= set(arguments)
    assert not any(word.startswith(("--allow-client-shm", "--trace-config", "--load-model")) for word in arguments)


def test_a_target_chooses_the_configs(tmp_path: Path) -> None:
    base, override = service("triton"), read_compose(COMPOSE_CPU)["services"]["triton"]
    for environment in (base["environment"], override["environment"]):
        target = environment["AVEDGE_TARGET"]
        assert f"--model-config-name={target}" in server_arguments(tmp_path, target)
        assert target == "tensorrt" or list((ROOT / "model_repository").glob(f"*/configs/{target}.pbtxt"))
    assert isinstance(override["depends_on"], Reset) and isinstance(override["deploy"], Reset)


def test_secrets_are_files_that_git_does_not_see() -> None:
    files = [Path(secret["file"]) for secret in read_compose()["secrets"].values()]
    assert {file.name for file in files} == {"ca.pem", "server.pem", "server.key", "grafana.password"}
    used = {name for one in read_compose()["services"].values() for name in one.get("secrets", [])}
    assert used == set(read_compose()["secrets"])
    for file in (*files, Path(".env")):
        ignored = subprocess.run(["git", "check-ignore", "-q", DEPLOY / file], cwd=ROOT, check=False).returncode
        if ignored == 128:
            pytest.skip("not a clone: nothing tells what git ignores")
        assert ignored == 0, file
    environment = json.dumps([one.get("environment", {}) for one in read_compose()["services"].values()])
    assert not re.search(r'PASSWORD"|TOKEN|SECRET', environment)


@pytest.mark.parametrize("path", [COMPOSE, COMPOSE_CPU], ids=lambda path: path.name)
def test_what_is_mounted_is_there(path: Path) -> None:
    services = read_compose(path)["services"].values()
    sources = [mount.split(":")[0] for one in services for mount in one.get("volumes", [])]
    assert sources
    for source in (source for source in sources if source.startswith(".")):
        assert (DEPLOY / source).resolve().exists(), source


def test_the_build_sees_every_package_and_no_more(root: Path) -> None:
    lines = (DEPLOY / "engines.Dockerfile").read_text().replace("\\\n", " ").splitlines()
    assert "USER 1000:1000" in lines and lines.index("USER 1000:1000") > max(
        number for number, line in enumerate(lines) if line.startswith("RUN")
    )
    kept = [
        line[1:] for line in (DEPLOY / "engines.Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    project = (root / "pyproject.toml").read_text()
    listed = re.findall(r'"([^"]+)"', re.search(r"packages = \[(.*?)\]", project, flags=re.DOTALL)[1])  # type: ignore[index]
    modules = [f"{name}.py" for name in re.findall(r'"([^"]+)"', re.search(r"py-modules = \[(.*?)\]", project)[1])]  # type: ignore[index]
    for name in {*(package.split(".")[0] for package in listed), *modules, "pyproject.toml", "README.md", "LICENSE"}:
        assert any(fnmatch(name, pattern) for pattern in kept), name
    assert all(any(root.glob(pattern)) for pattern in kept)
