"""Dashboard and alerts: every metric and label in them is one that a live server gives, and Prometheus takes it all."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import promql_parser
import pytest
import tritonclient.grpc as grpcclient
from deploy_files import (
    ALERTS,
    DASHBOARD,
    DEPLOY,
    alert_expressions,
    dashboard_expressions,
    panels,
    read_compose,
    read_yaml,
    server_arguments,
)
from toy_repository import add_doubling, add_doubling_twice

from serve.launcher import EmbeddedTriton

# Metrics that this server cannot show, from docs/user_guide/metrics.md of triton-inference-server/server.
GPU_ONLY = {
    "nv_gpu_utilization": "DCGM",
    "nv_gpu_memory_used_bytes": "DCGM",
    "nv_gpu_memory_total_bytes": "DCGM",
    "nv_gpu_power_usage": "DCGM",
}
FROM_PROMETHEUS = {"up": {"job", "instance", "target"}}  # made by the scrape itself
FROM_THE_SCRAPE = {"job", "instance", "target"}  # labels that every scraped metric gets
ANSWER_TIMEOUT_S = 30.0

Samples = dict[str, list[dict[str, str]]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    """With the deployment's own options for metrics, after a few requests."""
    repository = tmp_path_factory.mktemp("repository")
    add_doubling(repository)
    add_doubling_twice(repository)
    add_doubling(repository, "cached", extra="response_cache { enable: true }")
    arguments = server_arguments(tmp_path_factory.mktemp("arguments"))
    options = [word for word in arguments if word.startswith("--metrics-config")]
    with EmbeddedTriton(repository, stop_timeout_s=0, more_options=options) as running:
        send_requests(running)
        yield running


def send_requests(server: EmbeddedTriton) -> None:
    tensor = grpcclient.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        for model in ("double", "quadruple", "cached", "cached"):
            client.infer(model, [tensor])


@pytest.fixture(scope="module")
def samples(server: EmbeddedTriton) -> Samples:
    """Labels of every sample of each metric of the live server."""
    with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
        text = answer.read().decode()
    found: Samples = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", text, flags=re.MULTILINE):
        found.setdefault(name, []).append(dict(re.findall(r'(\w+)="([^"]*)"', labels)))
    return found


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """Every metric that an expression asks for."""
    found = []

    def walk(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        for name in ("expr", "lhs", "rhs", "vector_selector"):
            if hasattr(node, name):
                walk(getattr(node, name))
        for argument in getattr(node, "args", ()):
            walk(argument)

    walk(promql_parser.parse(expression))
    assert len(found) == len(re.findall(r"\b(?:nv_\w+|up)\b", expression))
    return found


EXPRESSIONS = [*dashboard_expressions(), *alert_expressions()]


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_what_is_asked_for_is_what_a_live_server_gives(where: str, expression: str, samples: Samples) -> None:
    asked = selectors(expression)
    assert asked
    for selector in asked:
        name = str(selector.name)
        if name in GPU_ONLY:
            assert name not in samples
            continue
        there = samples.get(name) or ([dict.fromkeys(FROM_PROMETHEUS[name], "")] if name in FROM_PROMETHEUS else [])
        assert there, f"{where}: no metric {name}"
        for matcher in selector.matchers.matchers:
            assert matcher.name in {*there[0], *FROM_THE_SCRAPE}, f"{where}: {name} has no label {matcher.name}"
            if matcher.name not in FROM_THE_SCRAPE and matcher.op == promql_parser.MatchOp.Equal:
                assert matcher.value in {labels[matcher.name] for labels in there}, f"{where}: {matcher.value}"


def test_the_reasons_of_failures_are_the_servers(samples: Samples) -> None:
    reasons = {labels["reason"] for labels in samples["nv_inference_request_failure"]}
    assert reasons == {"REJECTED", "CANCELED", "BACKEND", "OTHER"}
    texts = [panel["description"] for panel in panels() if "reason" in panel["title"]]
    assert len(texts) == 1 and all(reason in texts[0] for reason in reasons)


def test_labels_that_results_are_grouped_or_named_by_are_there(samples: Samples) -> None:
    for panel in panels():
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            grouped = re.search(r"^(?:sum|max) by \(([^)]*)\)", target["expr"])
            by = set(re.split(r",\s*", grouped[1])) if grouped else {"instance", "gpu_uuid"}
            assert shown <= by, panel["title"]
    labels = {label for name, rows in samples.items() if name.startswith("nv_inference") for label in rows[0]}
    assert {"model", "version", "reason"} <= labels


def test_panels_cover_what_operators_ask_for_and_do_not_overlap() -> None:
    asked = {str(one.name) for _, expression in dashboard_expressions() for one in selectors(expression)}
    assert {
        "nv_inference_request_success", "nv_inference_request_failure", "nv_inference_queue_duration_us",
        "nv_inference_compute_infer_duration_us", "nv_inference_count", "nv_inference_exec_count",
        "nv_inference_pending_request_count", "nv_cache_num_hits_per_model", "nv_cache_hit_duration_per_model",
        "nv_cpu_utilization", "nv_cpu_memory_used_bytes", "nv_gpu_utilization", "nv_gpu_memory_used_bytes",
    } <= asked  # fmt: skip
    every = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in every):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and max(x for x, _ in cells) < 24
        taken |= cells
    assert all(panel["description"] and panel["fieldConfig"]["defaults"]["unit"] for panel in panels())


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = read_yaml(provisioning / "datasources" / "prometheus.yml")["datasources"]
    (provider,) = read_yaml(provisioning / "dashboards" / "avedge.yml")["providers"]
    services = read_compose()["services"]
    assert source["type"] == "prometheus" and source["url"] == "http://prometheus:9090" and "prometheus" in services
    mounts = dict(mount.split(":")[:2][::-1] for mount in services["grafana"]["volumes"])
    assert (DEPLOY / mounts[provider["options"]["path"]]).resolve() == DASHBOARD.parent.resolve()
    dashboard = json.loads(DASHBOARD.read_text())
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", DASHBOARD.read_text()))
    assert used <= set(variables) and variables["datasource"]["type"] == "datasource"
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/{DASHBOARD.name}"


def test_every_alert_says_what_and_what_to_do() -> None:
    rules = [rule for group in read_yaml(ALERTS)["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 7
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical") and rule["for"]
        assert rule["annotations"]["summary"] and rule["annotations"]["description"]


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} on this machine; Debian's package `prometheus` has it")
    return path


def test_promtool_takes_the_files_and_their_own_tests_pass() -> None:
    folder = DEPLOY / "prometheus"
    for words in (
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
        ("check", "config", "prometheus.yml"),
    ):
        done = subprocess.run([tool("promtool"), *words], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def prometheus(server: EmbeddedTriton, tmp_path: Path) -> Iterator[str]:
    """A real Prometheus with the deployment's config, every second instead of every ten; its address."""
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("10s", "1s").replace("5s", "1s").replace("alerts.yml", str(ALERTS)))
    (tmp_path / "targets").mkdir()
    target = (DEPLOY / "prometheus" / "onnxruntime.yml").read_text()
    listens = server.metrics_url.split("/")[2]
    (tmp_path / "targets" / "triton.yml").write_text(target.replace("triton:8002", listens))
    port = free_port()
    command = [tool("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    process = subprocess.Popen(
        [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def query(prometheus: str, expression: str) -> list[dict[str, Any]]:
    address = f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(address, timeout=5) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found


def test_a_real_prometheus_has_an_answer_for_every_panel(server: EmbeddedTriton, prometheus: str) -> None:
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    rates = 'rate(nv_cache_num_hits_per_model{job="triton", target="onnxruntime"}[1m]) > 0'
    while time.monotonic() < deadline:
        send_requests(server)
        time.sleep(0.5)
        try:
            if query(prometheus, rates):  # asked at least twice, with requests between
                break
        except OSError:
            continue  # it is starting
    silent = {
        title
        for title, expression in dashboard_expressions()
        if not query(prometheus, expression) and not {str(one.name) for one in selectors(expression)} & set(GPU_ONLY)
    }
    assert silent == set()
    assert query(prometheus, "ALERTS") == []
