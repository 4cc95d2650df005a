"""An engine in a process of its own: workloads come in as JSON lines on stdin, speeds go out on stdout.

Between them the process waits for a line and takes no CPU time.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict

from benchmarks.peers.workload import Speed, Workload


def serve(measure: Callable[[Workload], Speed], versions: dict[str, str]) -> None:
    """Answer until stdin ends; the first line says that the model is loaded, and by which versions."""
    # Whatever libraries print goes to stderr.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        print(json.dumps(versions), file=answers, flush=True)
        for line in sys.stdin:
            speed = measure(Workload(**json.loads(line)))
            print(json.dumps(asdict(speed)), file=answers, flush=True)
