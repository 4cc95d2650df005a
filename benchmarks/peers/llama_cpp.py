"""llama.cpp, by its own benchmark program: a process for each measurement, which loads, warms up and times itself."""

import json
import subprocess
from pathlib import Path

from benchmarks.peers.workload import Speed, Workload

CELLS = 256  # the room of a sequence in the KV cache is a multiple of this


class LlamaCpp:
    """One GGUF file on `threads` threads."""

    def __init__(self, program: Path, model: Path, threads: int, version: str) -> None:
        self._command = [program, "-m", model, "-t", str(threads), "-tb", str(threads), "--output-format", "jsonl"]
        self.versions = {"llama.cpp": version}

    def measure(self, workload: Workload) -> Speed:
        """The program makes random tokens of its own."""
        room = -(-(workload.prompt_len + workload.new_tokens) // CELLS) * CELLS
        values = {
            "-c": workload.batch * room,
            "-npp": workload.prompt_len,
            "-ntg": max(1, workload.new_tokens - 1),
            "-npl": workload.batch,
        }
        arguments = [str(word) for pair in values.items() for word in pair]
        output = subprocess.run([*self._command, *arguments], check=True, capture_output=True, text=True).stdout
        (line,) = (line for line in output.splitlines() if line.startswith("{"))
        times = json.loads(line)
        return Speed(times["speed_pp"], times["speed_tg"])

    def close(self) -> None:
        """Nothing is kept between measurements."""
