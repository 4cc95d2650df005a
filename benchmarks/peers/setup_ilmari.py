"""ilmari's artifacts of the model, one for each scheme, and for some one more that is served for throughput.

python -m benchmarks.peers.setup_ilmari [CACHE]
"""

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import random_checkpoint
from benchmarks.peers import cache

CONFIGS = Path(__file__).parents[2] / "configs"
B2S = ("--set", "frontend.model_kwargs.b2s=true")  # served for throughput
RECIPES = {
    "w8a16": ["internlm2-chat-1_8b-int8.yaml", "--set", "frontend.quantize.type=w8a16"],
    "w8a8": ["internlm2-chat-1_8b-int8.yaml", "--set", "frontend.quantize.type=w8a8"],
    "w8a16-b2s": ["internlm2-chat-1_8b-int8.yaml", "--set", "frontend.quantize.type=w8a16", *B2S],
    "w8a8-b2s": ["internlm2-chat-1_8b-int8.yaml", "--set", "frontend.quantize.type=w8a8", *B2S],
    "fp16": ["internlm2-chat-1_8b-fp16.yaml"],
    "bf16": ["internlm2-chat-1_8b-fp16.yaml", "--set", "backend.dtype=bf16"],
}


def artifact(cache_folder: Path, scheme: str) -> Path:
    """The folder of the artifact, compiled by the ilmari that is installed if it is not there yet."""
    folder = cache_folder / "ilmari"
    if not (folder / scheme).exists():
        recipe, *overrides = RECIPES[scheme]
        values = {"name": scheme, "frontend.checkpoint": _checkpoint(folder), "workspace.path": folder}
        for key, value in values.items():
            overrides += ["--set", f"{key}={value}"]
        subprocess.run([sys.executable, "-m", "ilmari", "compile", CONFIGS / recipe, *overrides], check=True)
    return folder / scheme


def _checkpoint(folder: Path) -> Path:
    checkpoint = folder / "checkpoint"
    if not checkpoint.exists():
        partial = folder / "checkpoint.partial"
        shutil.rmtree(partial, ignore_errors=True)
        random_checkpoint.write(partial)
        partial.rename(checkpoint)
    return checkpoint


if __name__ == "__main__":
    folder = cache.from_command_line()
    print(*(artifact(folder, scheme) for scheme in RECIPES), sep="\n")
