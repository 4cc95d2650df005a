"""A worker seen from outside."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.peers.workload import Speed, Workload

ROOT = Path(__file__).parents[2]


class Worker:
    """A process that keeps one model loaded; see `worker.serve`."""

    def __init__(self, python: str | Path, module: str, arguments: Sequence[str], env: Mapping[str, str]) -> None:
        """Start the worker and wait until its model is loaded."""
        self._process = subprocess.Popen(
            [python, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **env},
        )
        self.versions: dict[str, str] = self._answer()

    def measure(self, workload: Workload) -> Speed:
        """One measurement in the worker."""
        return Speed(**self.ask(asdict(workload)))

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What the worker answers."""
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args[2]} ended with exit code {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        """End the worker and its memory."""
        self._process.stdin.close()
        self._process.wait()
