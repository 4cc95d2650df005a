"""How fast an engine could be at most on a machine of known rates: the slower of reading and of multiplying.

Decoding must read every weight once for all sequences, and each sequence's cached keys and values (in float16); linear
layers are all the arithmetic that is counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.peers.model import HEAD_MACS, KV_BYTES, LAYER_MACS
from benchmarks.peers.workload import Workload


@dataclass(frozen=True)
class Arithmetic:
    """A way to multiply weights by activations.

    rate: that of its instruction, by name; products: how many that makes of one multiply-add.
    """

    name: str
    rate: str
    products: int


ARITHMETIC = {
    1: (
        Arithmetic("8-bit activations", "int8_gmac_s", 1),
        Arithmetic("16-bit activations as two bytes", "int8_gmac_s", 2),
        Arithmetic("bfloat16 activations", "bf16_gmac_s", 1),
        Arithmetic("float32 activations", "fp32_gmac_s", 1),
    ),
    2: (
        Arithmetic("bfloat16 activations", "bf16_gmac_s", 1),
        Arithmetic("float32 activations", "fp32_gmac_s", 1),
    ),
}
"""By the bytes of a weight. What the machine's rates lack is left out."""
READ = "read bandwidth"


def bounds(workload: Workload, weight_bytes: int, rates: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """For each figure of the workload, tokens a second by what sets the limit."""
    known = [arithmetic for arithmetic in ARITHMETIC[weight_bytes] if rates.get(arithmetic.rate)]
    context = workload.prompt_len + workload.new_tokens / 2
    step_bytes = (LAYER_MACS + HEAD_MACS) * weight_bytes + workload.batch * context * KV_BYTES
    read = workload.batch * rates["read_gb_s"] * 1e9 / step_bytes
    decode = {a.name: _tok_s(a, LAYER_MACS + HEAD_MACS, rates) for a in known}
    fields = {
        "prefill_tok_s": {a.name: _tok_s(a, LAYER_MACS, rates) for a in known},
        "decode_tok_s": {READ if value > read else name: min(value, read) for name, value in decode.items()}
        or {READ: read},
    }
    return {figure: fields[field] for figure, field in workload.figures.items()}


def _tok_s(arithmetic: Arithmetic, macs: int, rates: Mapping[str, float]) -> float:
    return rates[arithmetic.rate] * 1e9 / (macs * arithmetic.products)
