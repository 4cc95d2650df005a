"""GPTQ on the real demo weights: what every projection's output loses on real text, beside rounding to nearest."""

from pathlib import Path

import pytest

from ilmari.checkpoint.checkpoint import Checkpoint
from ilmari.checkpoint.tokenizer import tokenizer_files
from ilmari.compile.calibrator import Calibrator
from ilmari.compile.config import Gptq
from ilmari.compile.samples import draw_samples
from ilmari.compile.work_folder import WorkFolder
from ilmari.datasets.calibration import Calibration, Source

pytestmark = [pytest.mark.demo_model, pytest.mark.shared, pytest.mark.slow]


def test_every_projection_gains(demo_checkpoint: Path, shared: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(demo_checkpoint)
    for name, data in tokenizer_files(checkpoint.path, checkpoint.config.vocab_size).items():
        (tmp_path / name).write_bytes(data)
    calibration = Calibration((Source("c4", shared / "data" / "c4_en_sample.jsonl"),), nsamples=8, seqlen=256)
    samples = draw_samples(calibration, tmp_path, 2048, lambda *_: None)
    layers = checkpoint.config.num_hidden_layers
    with WorkFolder(tmp_path / "artifact") as work:
        work.begin({})
        Calibrator(checkpoint, Gptq(), samples, work.folder).run(work, lambda *_: None)
        errors = [error for index in range(layers) for error in work.layer(index).errors]
    assert len(errors) == 7 * layers
    gains = {each.name: (each.rounded_output or 0) / (each.output or 1) for each in errors}
    least = min(gains, key=lambda name: gains[name])
    print(f"\nleast gain {gains[least]:.2f} of {least}, {sum(gains.values()) / len(gains):.2f} on average")
    assert gains[least] > 1
