"""Layers quantized by GPTQ on calibration samples, one after the other."""

from __future__ import annotations

from collections.abc import Sequence as Many
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ilmari.artifact.quantization import ProjectionErrors, error_ratio, significant
from ilmari.checkpoint.checkpoint import Checkpoint
from ilmari.compile.config import Gptq
from ilmari.compile.layer_pass import FloatLayer, LayerPass
from ilmari.compile.quantized_layer import QuantizedLayer, matrices, projections, row_energy
from ilmari.compile.weights import ROWS_AT_ONCE
from ilmari.compile.work_folder import WorkFolder
from ilmari.errors import CheckpointError
from ilmari.quant.gptq import Calibrated, Factor, factorize, gptq
from ilmari.quant.hessian import Hessian
from ilmari.quant.round_to_nearest import round_to_nearest
from ilmari.report import Progress

Float32 = NDArray[np.float32]

AT_ONCE = (("qkv", "o", "gate_up", "down"),)
ONE_BY_ONE = (("qkv",), ("o",), ("gate_up",), ("down",))


class Calibrator:
    """Quantizes the layers of a checkpoint; every layer's inputs come from the quantized layers before it."""

    def __init__(self, checkpoint: Checkpoint, settings: Gptq, samples: Many[NDArray[np.int32]], folder: Path) -> None:
        """Calibrate on `samples`, token ids, at least one each; compiles kernels, for a moment into `folder`."""
        self._checkpoint, self._settings = checkpoint, settings
        self._tokens = np.concatenate(samples)
        self._pass = LayerPass(checkpoint.config, samples, folder)

    def run(self, work: WorkFolder, progress: Progress) -> None:
        """Quantize the layers that `work` lacks, each written to it before the next begins; `progress` counts layers.

        Raises:
            CheckpointError: a tensor that cannot be read, or activations that are not finite.
            OutputError: the work folder cannot be written; what it holds stays.
        """
        total = self._checkpoint.config.num_hidden_layers
        begin = work.layers_done(total)
        hidden = work.hidden(begin) if begin else _embed(self._checkpoint, self._tokens)
        for index in range(begin, total):
            progress(index, total)
            layer, quantized = self._quantize(index, hidden)
            work.write_layer(index, quantized)
            if index + 1 < total:
                self._pass.run(layer, hidden)
                work.write_hidden(index + 1, hidden)
        progress(total, total)

    def _quantize(self, index: int, hidden: Float32) -> tuple[FloatLayer, QuantizedLayer]:
        """Layer `index`, whose inputs are `hidden`: with weights as they are after quantization, and quantized."""
        weights = self._checkpoint.layer(index)
        layer = FloatLayer(weights.attention_norm, weights.ffn_norm, matrices(weights, self._pass.plan))
        del weights
        results: dict[str, Calibrated] = {}
        errors: list[ProjectionErrors] = []
        for names in ONE_BY_ONE if self._settings.true_sequential else AT_ONCE:
            hessians = self._hessians(index, layer, hidden, names)
            for name in names:
                factor = factorize(
                    hessians.pop(name).matrix,
                    damp_percent=self._settings.damp_percent,
                    act_order=self._settings.act_order,
                )
                results[name] = gptq(layer.linears[name], factor)
                errors += self._errors(index, name, layer.linears[name], results[name], factor)
                layer.linears[name] = results[name].weight.dequantized()
        linears = {name: result.weight for name, result in results.items()}
        return layer, QuantizedLayer(layer.attention_norm, layer.ffn_norm, linears, tuple(errors))

    def _hessians(self, index: int, layer: FloatLayer, hidden: Float32, names: tuple[str, ...]) -> dict[str, Hessian]:
        hessians = {name: Hessian(layer.linears[name].shape[1]) for name in names}
        with np.errstate(all="ignore"):  # what is not finite is told below
            for piece in self._pass.pieces:
                for name, x in self._pass.inputs(piece, layer, hidden):
                    if name in hessians:
                        hessians[name].add(x)
                    if name == names[-1]:
                        break
        for name in names:
            if not hessians[name].finite:
                raise CheckpointError(
                    f"{self._checkpoint.path}: in layer {index} the inputs of {name} are not finite on the "
                    "calibration data; the checkpoint is damaged, or no InternLM2."
                )
        return hessians

    def _errors(
        self, index: int, name: str, weight: Float32, result: Calibrated, factor: Factor
    ) -> list[ProjectionErrors]:
        rounded = round_to_nearest(weight)
        rounded_output = factor.output_energy(weight - rounded.dequantized())
        lost, rounded_lost, whole = (row_energy(weight, each) for each in (result.weight, rounded, None))
        output = factor.output_energy(weight)
        return [
            ProjectionErrors(
                layer=index,
                projection=part,
                weight=error_ratio(lost[rows].sum(), whole[rows].sum()),
                output=error_ratio(result.energy[rows].sum(), output[rows].sum()),
                rounded_weight=error_ratio(rounded_lost[rows].sum(), whole[rows].sum()),
                rounded_output=error_ratio(rounded_output[rows].sum(), output[rows].sum()),
                clipped=significant(result.clipped[rows].sum() / weight[rows].size),
            )
            for part, rows in projections(self._pass.plan)[name].items()
        ]


def _embed(checkpoint: Checkpoint, tokens: NDArray[np.int32]) -> Float32:
    """The embedding of every token, [tokens, hidden size]; the table is read in pieces."""
    hidden = np.empty((len(tokens), checkpoint.config.hidden_size), np.float32)
    for start in range(0, checkpoint.config.vocab_size, ROWS_AT_ONCE):
        rows = checkpoint.embedding_rows(start, start + ROWS_AT_ONCE)
        here = (tokens >= start) & (tokens < start + ROWS_AT_ONCE)
        hidden[here] = rows[tokens[here] - start]
    return hidden
