"""An engine in a process of its own: JSON lines come in on stdin, and for each of them one goes out on stdout.

Between them the process waits for a line and takes no CPU time.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from benchmarks.peers.workload import Speed, Workload


def serve_workloads(measure: Callable[[Workload], Speed], versions: dict[str, str]) -> None:
    """`serve` workloads: a speed for each."""
    serve(lambda request: asdict(measure(Workload(**request))), versions)


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]], versions: dict[str, str]) -> None:
    """Answer until stdin ends; the first line says that the model is loaded, and by which versions."""
    # Whatever libraries print goes to stderr.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        print(json.dumps(versions), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
