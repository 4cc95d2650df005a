"""Asks a real Prometheus, which scrapes a real server at work, all that the dashboard and the alerts ask.

python -m deploy.prometheus.try_dashboard ARTIFACT RECORD

Half a minute of more requests than the server takes, in which its engine is killed once. Every query of the dashboard
must then have a result of finite numbers, and every alert must be one that Prometheus can compute.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import yaml

from benchmarks.serving.processes import engine_of
from benchmarks.serving.servers import Server, ilmari_server

FOLDER: Final = Path(__file__).parent
DASHBOARD: Final = FOLDER.parent / "grafana" / "ilmari.json"
KEY: Final = "a-key-for-this-trial"
SECONDS: Final = 30
VARIABLES: Final = {"$instance": ".*", "$model": ".*", "$__rate_interval": "30s", "$__range": "60s"}
# Two run and two wait: of six clients some are refused.
FLAGS: Final = ("--max-num-seqs", "2", "--max-num-queued-reqs", "2")
CLIENTS: Final = 6


class Prometheus:
    """Asked over its API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> Any:
        """The data of an answer."""
        with urllib.request.urlopen(self._url + path, timeout=10) as answer:
            result = json.load(answer)
        assert result["status"] == "success", result
        return result["data"]

    def values(self, query: str) -> dict[str, float]:
        """The current value of each series of a query, by its labels."""
        result = self.get(f"/api/v1/query?query={quote(query)}")["result"]
        return {", ".join(f"{k}={v}" for k, v in one["metric"].items()): float(one["value"][1]) for one in result}


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[Prometheus]:
    """Prometheus with the committed configuration, but with this server's port, and once a second."""
    shutil.copy(FOLDER / "alerts.yml", folder)
    (folder / "ilmari-api-key").write_text(KEY)
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    process = subprocess.Popen(command)
    try:
        client = Prometheus(port)
        _wait_for_targets(client)
        yield client
    finally:
        process.terminate()
        process.wait()


def _wait_for_targets(client: Prometheus) -> None:
    for _ in range(200):
        try:
            if [target["health"] for target in client.get("/api/v1/targets")["activeTargets"]] == ["up"]:
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.1)
    raise SystemExit("Prometheus cannot scrape the server")


class Load:
    """Clients that ask again and again until `end` is set; what they were answered is counted by status."""

    def __init__(self, server: Server) -> None:
        self.end = threading.Event()
        self.statuses = Counter[int]()
        self._url = f"http://127.0.0.1:{server.address.port}/v1/completions"
        self._lock = threading.Lock()
        for number in range(CLIENTS):
            threading.Thread(target=self._ask, args=(number,), daemon=True).start()

    def wait_for_replies(self) -> None:
        """Until there are more than now."""
        before = self.statuses[200]
        while self.statuses[200] < before + CLIENTS:
            time.sleep(0.1)

    def _ask(self, number: int) -> None:
        # What repeats itself is guessed ahead, and its beginning is found in the prefix cache.
        prompt = "one two three four five six seven eight " * 8 + str(number)
        body = json.dumps({"prompt": prompt, "max_tokens": 48, "temperature": 0}).encode()
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        while not self.end.is_set():
            try:
                with urllib.request.urlopen(urllib.request.Request(self._url, body, headers), timeout=60) as answer:
                    answer.read()
                    status = answer.status
            except urllib.error.HTTPError as error:
                status = error.code
                time.sleep(0.3)
            except urllib.error.URLError:
                return  # the trial is over
            with self._lock:
                self.statuses[status] += 1


def questions() -> Iterator[tuple[str, str, str]]:
    """Panel, legend and query of everything that the dashboard shows."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            for variable, value in VARIABLES.items():
                query = query.replace(variable, value)
            yield panel["title"], target["legendFormat"], query


def ask(client: Prometheus) -> dict[str, Any]:
    """What Prometheus says to each query, and how it finds the alerts."""
    panels: dict[str, dict[str, Any]] = {}
    for panel, legend, query in questions():
        values = client.values(query)
        if not values or not all(map(math.isfinite, values.values())):
            raise SystemExit(f"{panel}, {legend}: {values} for {query}")
        panels.setdefault(panel, {})[legend] = {series: float(f"{value:.4g}") for series, value in values.items()}
    (group,) = client.get("/api/v1/rules")["groups"]
    unwell = [rule for rule in group["rules"] if rule["health"] != "ok"]
    if unwell:
        raise SystemExit(f"rules that cannot be computed: {unwell}")
    return {"panels": panels, "alerts": {rule["name"]: rule["state"] for rule in group["rules"]}}


def main(artifact: Path, record: Path) -> None:
    """Run the trial and write what was seen."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "keys").write_text(KEY)
        server = ilmari_server(artifact, ("--api-key-file", f"{folder}/keys", *FLAGS))
        try:
            with prometheus(folder, server.address.port) as client:
                load = Load(server)
                load.wait_for_replies()
                time.sleep(SECONDS / 2)
                engine = engine_of(server.pid)
                assert engine is not None
                os.kill(engine, signal.SIGKILL)
                load.wait_for_replies()
                time.sleep(SECONDS / 2)
                seen = ask(client)
                version = client.get("/api/v1/status/buildinfo")["version"]
                load.end.set()
        finally:
            server.close()
    if seen["alerts"]["IlmariEngineDied"] != "firing":
        raise SystemExit("the engine was killed, and no alert fires")
    summary = {"prometheus": version, "seconds": SECONDS, "clients": CLIENTS, "answers": load.statuses}
    record.write_text(json.dumps(summary | seen, indent=2).replace(f":{server.address.port}", ":PORT") + "\n")
    print(f"{sum(map(len, seen['panels'].values()))} queries and {len(seen['alerts'])} alerts: {record}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
