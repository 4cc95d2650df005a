"""The forward pass: compiled kernels called one after the other, on each rank those of its own part of the model.

What follows a layer's attention and its feed-forward block is a sum over the ranks. A rank adds its part in place, rank
0 to the residual and the others to zeros, so that the sum over the ranks is the new residual, with the same bits on
each. The embedding is a sum too: rows of which one rank has the token and the others have zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ilmari.artifact.artifact import KERNELS, Artifact
from ilmari.engine.batch import Batch, Segments, Tiles
from ilmari.engine.head import Head
from ilmari.engine.kv_cache import KvCache
from ilmari.engine.linear import Linear
from ilmari.engine.workspace import Views, Workspace
from ilmari.kernels.form import FLOAT32
from ilmari.kernels.library import KernelLibrary, aligned_copy, tensor
from ilmari.parallel.group import ALONE, Group

if TYPE_CHECKING:
    import tvm_ffi


class Layer:
    """One transformer layer's parameters."""

    def __init__(self, runner: Runner, index: int) -> None:
        prefix = f"layers.{index}."
        args = runner.plan, runner.library, runner.params
        self.attention_norm = runner.params[f"{prefix}attention_norm"]
        self.qkv = Linear(*args, "qkv", prefix)
        self.o = Linear(*args, "o", prefix)
        self.ffn_norm = runner.params[f"{prefix}ffn_norm"]
        self.gate_up = Linear(*args, "gate_up", prefix)
        self.down = Linear(*args, "down", prefix)


class Runner:
    """A rank's part of a loaded artifact, ready to turn batches into logits with the other ranks."""

    def __init__(
        self, artifact: Artifact, max_rows: int, library: KernelLibrary | None = None, group: Group = ALONE
    ) -> None:
        """Link the kernels and map the parameters; no step may have more than `max_rows` rows.

        library: the artifact's kernels, if the caller has linked them in a way of its own (to measure them).
        group: as many ranks as the artifact is for.
        """
        self.plan = artifact.manifest.plan
        assert group.size == self.plan.tp, f"{group.size} ranks for an artifact of {self.plan.tp}"
        self._group = group
        self.library = library or KernelLibrary(artifact.folder / KERNELS)
        arrays = artifact.params(group.rank)
        self.params: Mapping[str, tvm_ffi.Tensor] = {name: tensor(array) for name, array in arrays.items()}
        self._layers = [Layer(self, index) for index in range(self.plan.config.num_hidden_layers)]
        self._head = Head(self.plan, self.library, self.params, group)
        self._workspace = Workspace(self.plan, max_rows)
        self._embedding = self.library["embedding"]
        forms = [form for _, form in self.plan.forms]
        self._norm = {form: self.library[f"norm_{form.name}"] for form in forms}
        self._copy = {form: self.library[f"copy_{form.name}"] for form in forms if form is not FLOAT32}
        self._silu = {form: self.library[f"silu_{form.name}"] for form in forms}
        self._rope_append = self.library["rope_append"]
        self._attention_decode = self.library["attention_decode"]
        self._attention_prefill = self.library["attention_prefill"]

    def forward(self, batch: Batch, cache: KvCache) -> NDArray[np.float32]:
        """Logits [outputs, vocab] of the batch's output rows on rank 0, no rows on others; valid until the next call.

        The keys and values of all rows are in the cache afterwards. Every rank is to be given the same batch, and a
        cache of as many blocks. Of a row's logits rank 0 gets what its draw needs, see `Head`.
        """
        views = self._workspace.views(batch.rows)
        self._embed(batch, views)
        for index, layer in enumerate(self._layers):
            self._project(layer, views, batch, cache, index)
            if index == len(self._layers) - 1:
                # Nothing after the last layer's keys and values needs the other rows, nor any row while prompts begin.
                if not len(batch.outputs):
                    return self._head.nothing
                views = self._keep_outputs(batch)
                self._attend(views, batch.table, cache, index, batch.output_segments, None)
            else:
                self._attend(views, batch.table, cache, index, batch.segments, batch.tiles)
            if views.form is not FLOAT32:
                self._copy[views.form](views.attended, *views.mixed)
            self._add(layer.o, views.mixed, views)
            self._feed_forward(layer, views)
        self._norm[views.form](views.hidden, self.params["norm"], *views.normed)
        return self._head(views.form, views.normed, batch.deciding)

    def _embed(self, batch: Batch, views: Views) -> None:
        table = self.params["embedding"]
        if self._group.size == 1:
            self._embedding(batch.token_ids, table, views.hidden)
            return
        tokens = self.plan.sharding.tokens(self._group.rank)
        places: NDArray[np.int32] = np.from_dlpack(batch.token_ids) - np.int32(tokens.start)  # type: ignore[operator]
        foreign = (places < 0) | (places >= len(tokens))
        places[foreign] = 0
        hidden = self._workspace.hidden[: views.rows]
        self._embedding(tensor(aligned_copy(places)), table, views.hidden)
        hidden[foreign] = 0
        self._group.all_reduce(hidden)

    def _add(self, linear: Linear, x: tuple[tvm_ffi.Tensor, ...], views: Views) -> None:
        """Add all ranks' parts of a linear layer to the residual."""
        hidden = self._workspace.hidden[: views.rows]
        if self._group.rank:
            hidden.fill(0)
        linear(views.form, x, views.hidden)
        self._group.all_reduce(hidden)

    def _project(self, layer: Layer, views: Views, batch: Batch, cache: KvCache, index: int) -> None:
        self._norm[views.form](views.hidden, layer.attention_norm, *views.normed)
        layer.qkv(views.form, views.normed, views.qkv)
        self._rope_append(views.qkv, batch.cos, batch.sin, batch.slots, views.q, cache.keys[index], cache.values[index])

    def _attend(
        self,
        views: Views,
        table: tvm_ffi.Tensor,
        cache: KvCache,
        index: int,
        segments: Segments | None,
        tiles: Tiles | None,
    ) -> None:
        inputs = views.q, cache.keys[index], cache.values[index], table
        if segments:
            work = segments.bounds, segments.row, segments.owner, segments.start, segments.stop
            self._attention_decode(*inputs, *work, views.attended)
        if tiles:
            self._attention_prefill(*inputs, tiles.first, tiles.count, tiles.owner, tiles.position, views.attended)

    def _feed_forward(self, layer: Layer, views: Views) -> None:
        self._norm[views.form](views.hidden, layer.ffn_norm, *views.normed)
        layer.gate_up(views.form, views.normed, views.gate_up)
        self._silu[views.form](views.gate_up, *views.activated)
        self._add(layer.down, views.activated, views)

    def _keep_outputs(self, batch: Batch) -> Views:
        for buffer in (self._workspace.hidden, self._workspace.q):
            buffer[: len(batch.outputs)] = buffer[batch.outputs]
        return self._workspace.views(len(batch.outputs))
