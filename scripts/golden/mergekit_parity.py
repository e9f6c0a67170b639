"""The merge methods against mergekit itself, on many random tensors; prints the table of docs/PARITY.md.

    cargo build -p worker --example merge_method
    python scripts/golden/mergekit_parity.py target/debug/examples/merge_method [--elements 1500000] [--threads 1] [--seed 1]

Needs mergekit 0.1.5, torch 2.6.0 (CPU), numpy 2.x, safetensors. mergekit's own method objects are called, in the type of
their inputs. Of the random methods only torch.bernoulli is replaced: it draws from a restatement of the field that
worker/src/merge/field.rs describes, an element being kept with probability p when its number is at least 1 - p.

--threads is the number of threads that torch runs with, which decides the last bits of its sums over whole tensors.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from mergekit import merge_methods
from mergekit.merge_methods import TensorGroup
from mergekit.merge_methods import generalized_task_arithmetic as tasks
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
from merge_reference import field, key_of  # noqa: E402

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Norms, matrices, odd sizes, a single element, what is just below and above torch's limits of splitting, three dimensions.
SHAPES = [(64,), (1,), (7,), (33,), (128, 64), (257, 129), (1, 100), (100, 1), (61, 7), (4, 30, 17), (300, 110), (1000, 72), (5, 5)]


def words(key, count):
    """The field's words, as field(key, count) of merge_reference.py, for many elements."""
    blocks = -(-count // 4)
    counter = np.zeros((4, blocks), np.uint64)
    counter[0] = np.arange(blocks, dtype=np.uint64)
    low = np.uint64(0xFFFFFFFF)
    k = [np.uint64(key[0]), np.uint64(key[1])]
    for _ in range(10):
        a, b = counter[0] * np.uint64(0xD2511F53), counter[2] * np.uint64(0xCD9E8D57)
        counter = np.stack([(b >> np.uint64(32)) ^ counter[1] ^ k[0], b & low, (a >> np.uint64(32)) ^ counter[3] ^ k[1], a & low])
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return counter.T.reshape(-1)[:count].astype(np.uint32)


assert np.array_equal(words([7, 0xDEADBEEF], 101), field([7, 0xDEADBEEF], 101))


class Masks:
    """Stands in for torch.bernoulli: knows which source's mask is being drawn."""

    def __init__(self):
        self.sparsify, self.bernoulli = tasks.sparsify, torch.bernoulli
        tasks.sparsify = self.next_source
        torch.bernoulli = self.draw

    def begin(self, seed, tensor, sources):
        self.seed, self.tensor, self.sources, self.at = seed, tensor, sources, -1

    def next_source(self, *args, **kwargs):
        self.at += 1
        return self.sparsify(*args, **kwargs)

    def draw(self, probabilities):
        if probabilities.isnan().any():
            raise RuntimeError("Expected p to be a probability")  # as torch does
        key = key_of("independent", self.seed, self.sources[self.at], self.tensor)
        u = (words(key, probabilities.numel()) >> 8).astype(np.float64) * 2.0**-24
        p = probabilities.double().numpy().reshape(-1)
        kept = torch.from_numpy(u >= 1.0 - p)
        return kept.reshape(probabilities.shape).to(probabilities.dtype)


def cases(rng):
    """For each method, endless draws of (shared parameters, parameters of a source, number of sources, base or not)."""

    def pick(*values):
        return values[rng.integers(len(values))]

    weight = lambda: float(pick(1.0, 0.5, 0.3, 0.0, -0.4, round(rng.uniform(-0.5, 1.5), 3)))
    positive = lambda: round(rng.uniform(0.1, 1.5), 3)
    density = lambda: float(pick(0.0, 1.0, 0.5, 0.9, 0.1, round(rng.uniform(0, 1), 3)))
    flag = lambda: bool(rng.integers(2))
    some = lambda: int(pick(1, 2, 2, 3, 3, 4, 6))

    def task(extra=lambda: {}, dens=density):
        shared = {"lambda": float(pick(1.0, 1.0, 0.7, 1.5))}
        for name in ("normalize", "rescale", "int8_mask"):
            if flag():
                shared[name] = flag()
        per = lambda: {"weight": weight(), "density": dens(), **extra()}
        return shared, per, some(), True

    def outliers():
        return {"gamma": float(pick(0.01, 0.0, 0.1, 0.3))} if flag() else {}

    def ranked():
        return {"epsilon": float(pick(0.05, 0.1, 0.02))}

    middle = lambda: float(pick(0.5, 0.3, 0.7, 0.15, 0.85, 1.0, 0.0))
    return {
        "linear": lambda: ({"normalize": flag()}, lambda: {"weight": positive()}, some() + 1, flag()),
        "slerp": lambda: ({"t": float(pick(0.0, 1.0, 0.5, 0.3, round(rng.uniform(0, 1), 3)))}, lambda: {}, 1, True),
        "nuslerp": lambda: ({"nuslerp_flatten": flag(), "nuslerp_row_wise": flag()}, lambda: {"weight": positive()}, 2, flag()),
        "task_arithmetic": task,
        "ties": task,
        "dare_linear": task,
        "dare_ties": task,
        "della": lambda: task(ranked, middle),
        "della_linear": lambda: task(ranked, middle),
        "breadcrumbs": lambda: task(outliers),
        "breadcrumbs_ties": lambda: task(outliers),
        "model_stock": lambda: ({"filter_wise": flag()}, lambda: {}, int(pick(2, 2, 3, 4)), True),
        "sce": lambda: ({"select_topk": density()} if flag() else {}, lambda: {}, some(), True),
        "passthrough": lambda: ({}, lambda: ({"scale": weight()} if flag() else {}), 1, False),
    }


def tensors(rng, generator, shape, dtype, count):
    """A base and sources near it, with equal elements, zeros and equal differences among them."""
    base = torch.randn(shape, generator=generator) * 0.05
    out = [base]
    for _ in range(count):
        near = base + torch.randn(shape, generator=generator) * float(rng.choice([0.002, 0.01, 0.03]))
        same = torch.rand(shape, generator=generator) < 0.05
        out.append(torch.where(same, base, near))
    if count > 1 and rng.integers(3) == 0:
        out[2] = 2 * base - out[1]
    out = [t.to(dtype) for t in out]
    if rng.integers(4) == 0:
        out[-1].view(-1)[0] = 0.0
        out[0].view(-1)[-1] = -0.0
    return out


def units(a, b):
    """Distance of two tensors of one type in units in the last place; both zeros are one number."""
    kind = torch.int32 if a.dtype == torch.float32 else torch.int16

    def ordered(t):
        bits = t.contiguous().view(kind).long()
        return torch.where(bits < 0, -(bits & (2 ** (8 * t.element_size() - 1) - 1)), bits)

    distance = (ordered(a) - ordered(b)).abs()
    both = a.isnan() & b.isnan()
    return torch.where(both, 0, torch.where(a.isnan() != b.isnan(), 2**40, distance))


def mergekit(masks, job, data):
    inputs = [data[i["data"]] for i in job["inputs"]]
    method = merge_methods.get(job["method"])
    ids = [i["source"] for i in job["inputs"]]
    parameters = dict(job["parameters"])
    for spec in method.spec.input_parameters:
        given = {i["source"]: i["parameters"][spec.name] for i in job["inputs"] if spec.name in i["parameters"]}
        if given or spec.required:
            parameters[spec.name] = {n: given.get(n, None if spec.required else spec.default) for n in ids}
    group = TensorGroup.from_tensors(inputs, ids=ids, base_index=job["base"], name=job["tensor"])
    masks.begin(job["seed"], job["tensor"], [n for n in ids if n != (None if job["base"] is None else ids[job["base"]])])
    return method((group,), parameters=parameters)[0]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("program")
    arguments.add_argument("--elements", type=int, default=1_500_000)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--methods", default="")
    arguments.add_argument("--show", type=int, default=0, help="how many of the jobs that differ to show")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    masks = Masks()
    rng = np.random.default_rng(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    print("| method | type | elements | calls | equal | largest distance |\n|---|---|---|---|---|---|")
    for method, draw in cases(rng).items():
        if options.methods and method not in options.methods.split(","):
            continue
        for name, dtype in DTYPES.items():
            jobs, data, expected, elements = [], {}, [], 0
            while elements < options.elements:
                shape = SHAPES[len(jobs) % len(SHAPES)]
                shared, per, count, has_base = draw()
                values = tensors(rng, generator, shape, dtype, count if has_base else count)
                inputs = []
                for i in range(0 if has_base else 1, count + 1):
                    at = f"{len(jobs)}/{i}"
                    data[at] = values[i].contiguous()
                    own = per() if i > 0 or method == "linear" else {}
                    inputs.append({"source": f"m{i}", "data": at, "parameters": own})
                base = int(rng.integers(len(inputs))) if has_base else None
                if has_base and base:
                    inputs.insert(base, inputs.pop(0))
                job = {"name": f"{len(jobs)}", "method": method, "tensor": f"model.layers.{len(jobs)}.weight", "base": base,
                       "parameters": shared, "seed": int(rng.integers(2**63)), "threads": options.threads, "inputs": inputs}
                try:
                    expected.append(mergekit(masks, job, data))
                except RuntimeError as error:
                    # Rows of one element have no ranks: mergekit's probabilities are not numbers.
                    assert "p_in" in str(error) or "Expected p" in str(error), error
                    continue
                jobs.append(job)
                elements += values[0].numel()
            with tempfile.TemporaryDirectory() as folder:
                paths = [str(Path(folder) / n) for n in ("jobs.json", "in.safetensors", "out.safetensors")]
                Path(paths[0]).write_text(json.dumps(jobs))
                save_file(data, paths[1])
                subprocess.run([options.program, *paths], check=True)
                found = load_file(paths[2])
            equal = worst = 0
            shown = 0
            for job, theirs in zip(jobs, expected):
                ours = found[job["name"]]
                assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, job
                distance = units(ours, theirs)
                differ = int((distance > 0).sum())
                equal += distance.numel() - differ
                worst = max(worst, int(distance.max()))
                if differ and shown < options.show:
                    shown += 1
                    print(differ, "of", distance.numel(), int(distance.max()), tuple(theirs.shape), json.dumps(job))
            print(f"| {method} | {name} | {elements:,} | {len(jobs)} | {100 * equal / elements:.4f} % | {worst} |", flush=True)


if __name__ == "__main__":
    main()
