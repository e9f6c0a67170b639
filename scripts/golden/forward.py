"""Asks the worker's example `forward` what a model computes. Used by the scripts that hold it against peers side by side."""
import json
import subprocess
import tempfile
from pathlib import Path

from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]


def add_arguments(parser):
    parser.add_argument("--programs", type=Path, default=ROOT / "target" / "debug",
                        help="folder of the built programs (cargo build --workspace --all-targets)")


def forward(programs, requests):
    """The tensors of each request, by name."""
    with tempfile.TemporaryDirectory() as folder:
        asked, out = Path(folder) / "requests.json", Path(folder) / "out.safetensors"
        asked.write_text(json.dumps(requests, ensure_ascii=False), encoding="utf-8")
        run = subprocess.run([programs / "examples" / "forward", asked, out], capture_output=True, text=True)
        if run.returncode != 0:
            raise RuntimeError(run.stderr.strip())
        found = [{} for _ in requests]
        for name, tensor in load_file(out).items():
            index, _, rest = name.partition(".")
            found[int(index)][rest] = tensor
        return found


def worker(programs, *args):
    run = subprocess.run([programs / "jradievo-worker", *map(str, args)], capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError(run.stderr.strip())
    return run.stdout


def relative(got, want):
    """Largest absolute difference over the largest absolute value of the reference."""
    got, want = got.double(), want.double()
    assert got.shape == want.shape, (got.shape, want.shape)
    assert bool(got.isfinite().all()) and bool(want.isfinite().all())
    return float((got - want).abs().max() / want.abs().max())
