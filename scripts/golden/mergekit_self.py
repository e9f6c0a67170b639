"""mergekit against itself: nuslerp in float32 by one torch under settings of the machine; prints the table of docs/PARITY.md.

    python scripts/golden/mergekit_self.py [--elements 1200000] [--seed 11] [--method nuslerp]

Needs what mergekit_parity.py needs: mergekit 0.1.5, torch 2.6.0 (CPU, with its MKL 2024.2), numpy 2.x, safetensors. The inputs are
those of mergekit_parity.py (the draws differ, since each method draws from the same stream there), made once; every
setting computes them in a process of its own. The first setting is what docs/PARITY.md compares with. Also printed: how many of a million
arc cosines of one process differ from another's, and from the correctly rounded ones.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
from mergekit_parity import DTYPES, SHAPES, Masks, cases, mergekit, tensors, units  # noqa: E402

# Name, number of torch's threads, environment.
SETTINGS = [
    ("one thread", 1, {}),
    ("one thread, again", 1, {}),
    ("two threads", 2, {}),
    ("four threads", 4, {}),
    ("ATEN_CPU_CAPABILITY=default", 1, {"ATEN_CPU_CAPABILITY": "default"}),
    ("ATEN_CPU_CAPABILITY=avx2", 1, {"ATEN_CPU_CAPABILITY": "avx2"}),
    ("MKL_ENABLE_INSTRUCTIONS=SSE4_2", 1, {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}),
    ("MKL_ENABLE_INSTRUCTIONS=AVX2", 1, {"MKL_ENABLE_INSTRUCTIONS": "AVX2"}),
    ("MKL_CBWR=COMPATIBLE", 1, {"MKL_CBWR": "COMPATIBLE"}),
    ("MKL_CBWR=AVX2", 1, {"MKL_CBWR": "AVX2"}),
]
ANGLES = 1_000_000


def draw(method, elements, seed):
    """Jobs and their inputs, in float32."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    case = cases(rng)[method]
    jobs, data, total = [], {}, 0
    while total < elements:
        shape = SHAPES[len(jobs) % len(SHAPES)]
        shared, per, count, has_base = case()
        values = tensors(rng, generator, shape, DTYPES["float32"], count)
        inputs = []
        for i in range(0 if has_base else 1, count + 1):
            at = f"{len(jobs)}/{i}"
            data[at] = values[i].contiguous()
            inputs.append({"source": f"m{i}", "data": at, "parameters": per() if i > 0 else {}})
        jobs.append({"method": method, "tensor": f"model.layers.{len(jobs)}.weight", "base": 0 if has_base else None,
                     "parameters": shared, "seed": seed, "inputs": inputs})
        total += values[0].numel()
    cosines = np.random.default_rng(seed).uniform(-1, 1, ANGLES).astype(np.float32)
    data["cosines"] = torch.from_numpy(cosines)
    return jobs, data


def compute(folder, threads, out):
    """What one setting gives; runs in a process of its own."""
    torch.set_num_threads(threads)
    masks = Masks()
    data = load_file(f"{folder}/in.safetensors")
    jobs = json.loads(Path(f"{folder}/jobs.json").read_text())
    results = {str(i): mergekit(masks, job, data).contiguous() for i, job in enumerate(jobs)}
    results["angles"] = torch.acos(data["cosines"])
    save_file(results, out)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--elements", type=int, default=1_200_000)
    arguments.add_argument("--seed", type=int, default=11)
    arguments.add_argument("--method", default="nuslerp")
    arguments.add_argument("--compute", nargs=3, metavar=("FOLDER", "THREADS", "OUT"), help="for the script's own processes")
    options = arguments.parse_args()
    if options.compute:
        folder, threads, out = options.compute
        return compute(folder, int(threads), out)
    jobs, data = draw(options.method, options.elements, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        save_file(data, f"{folder}/in.safetensors")
        Path(f"{folder}/jobs.json").write_text(json.dumps(jobs))
        first = None
        print(f"{options.method}, float32, torch {torch.__version__}, {len(jobs)} merges\n")
        print("| setting | equal | largest distance | arc cosines that differ |\n|---|---|---|---|")
        for i, (name, threads, environment) in enumerate(SETTINGS):
            out = f"{folder}/{i}.safetensors"
            subprocess.run([sys.executable, __file__, "--compute", folder, str(threads), out],
                           check=True, env={**os.environ, **environment})
            found = load_file(out)
            first = first or found
            distances = torch.cat([units(found[str(j)], first[str(j)]).reshape(-1) for j in range(len(jobs))])
            angles = int((units(found["angles"], first["angles"]) > 0).sum())
            equal = 100 * float((distances == 0).double().mean())
            print(f"| {name} | {equal:.4f} % of {distances.numel():,} | {int(distances.max())} | {angles} |", flush=True)
        true = torch.from_numpy(np.arccos(data["cosines"].double().numpy()).astype(np.float32))
        off = float((units(first["angles"], true) > 0).double().mean())
        print(f"\narc cosines that are not the correctly rounded ones: {100 * off:.2f} %")


if __name__ == "__main__":
    main()
