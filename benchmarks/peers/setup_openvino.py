"""OpenVINO GenAI in a virtual environment of its own, and the model exported for it.

python -m benchmarks.peers.setup_openvino [CACHE]
"""

import json
import shutil
import subprocess
import venv
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from benchmarks.peers import cache
from benchmarks.peers.model import parts
from benchmarks.random_checkpoint import CONFIG, VOCAB

PACKAGES = (
    "openvino==2026.4.1",
    "openvino-genai==2026.4.1.0",
    "openvino-tokenizers==2026.4.1.0",
    "optimum-intel==2.2.0",
    "torch==2.13.0",
    "matplotlib",  # for plot.py
)
BROKEN = "torchvision"  # comes along, and transformers fails to import with the one that pip finds
INTERNLM_KEYS = {"architectures", "model_type", "bias", "rope_scaling"}  # a short prompt needs no scaling


def python(cache_folder: Path) -> Path:
    """The interpreter that has OpenVINO."""
    folder = cache_folder / "openvino" / "venv"
    program = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([program, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        subprocess.run([program, "-m", "pip", "uninstall", "--quiet", "--yes", BROKEN], check=True)
        done.touch()
    return program


def int8_model(cache_folder: Path) -> Path:
    """The folder of the int8 model: weight compression as `optimum-cli` does it unless told otherwise."""
    folder = cache_folder / "openvino" / "int8"
    if not folder.exists():
        checkpoint, partial = cache_folder / "openvino" / "checkpoint", cache_folder / "openvino" / "int8.partial"
        for leftover in (checkpoint, partial):
            shutil.rmtree(leftover, ignore_errors=True)
        write_llama(checkpoint)
        exporter = python(cache_folder).with_name("optimum-cli")
        command = [exporter, "export", "openvino", "--model", checkpoint, "--task", "text-generation-with-past"]
        subprocess.run([*command, "--weight-format", "int8", partial], check=True)
        partial.rename(folder)
        shutil.rmtree(checkpoint)
    return folder


def write_llama(folder: Path) -> None:
    """A Hugging Face folder with a Llama of the model's shape, one shard for each part."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    index = {}
    for number, part in enumerate(parts()):
        name = f"model-{number:05}.safetensors"
        tensors = {f"{weight.hugging_face}.weight": weight.values(rng).astype(np.float16) for weight in part}
        save_file(tensors, folder / name, metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, name)
    config = {key: value for key, value in CONFIG.items() if key not in INTERNLM_KEYS}
    config |= {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder / "config.json").write_text(json.dumps(config))
    _write_tokenizer(folder)


def _write_tokenizer(folder: Path) -> None:
    """Byte-level, filled up to the model's vocabulary: whatever random weights say can be decoded."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    texts = ["<unk>", "<s>", "</s>", *alphabet]
    texts += [f"filler{number}" for number in range(VOCAB - len(texts))]
    tokenizer = Tokenizer(models.BPE({text: number for number, text in enumerate(texts)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(texts[:3])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


if __name__ == "__main__":
    print(int8_model(cache.from_command_line()))
