"""Golden data of worker/tests/mergekit_golden.rs: what mergekit's merge methods make of inputs that a formula gives.

    python scripts/golden/mergekit_methods.py [worker/tests/data/mergekit_methods]

Needs mergekit 0.1.5, torch 2.6.0 (CPU), numpy 2.x, safetensors. Only torch.bernoulli is replaced, as mergekit_parity.py
says. The inputs are not stored: element e of input i of case c comes from word w of the random field with key (c, i), see
`values` below, which the test restates. Small results are stored; of large ones, a checksum.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from mergekit_parity import DTYPES, Masks, mergekit, words


def values(case, index, base, shape, dtype):
    """The base: multiples of 2^-12 up to 1/8. A source: the base plus multiples of 2^-11 up to 1/64, so that many are equal."""
    count = int(np.prod(shape))
    word = words([case, index], count)
    if base is None:
        flat = ((word >> 22).astype(np.float32) - np.float32(512)) * np.float32(2.0**-12)
    else:
        flat = base.float().numpy().reshape(-1) + ((word >> 26).astype(np.float32) - np.float32(32)) * np.float32(2.0**-11)
    return torch.from_numpy(flat.astype(np.float32)).reshape(shape).to(dtype)


def checksum(tensor):
    bits = tensor.contiguous().view(torch.int32 if tensor.dtype == torch.float32 else torch.int16).numpy().reshape(-1)
    bits = bits.astype(np.int64).astype(np.uint64) & np.uint64(2 ** (8 * tensor.element_size()) - 1)
    with np.errstate(over="ignore"):
        return str(int(((bits + np.uint64(1)) * (np.arange(bits.size, dtype=np.uint64) * np.uint64(2) + np.uint64(1))).sum(dtype=np.uint64)))


W = lambda *weights: [{"weight": w} for w in weights]
LARGE = (230, 190)


def trimmed(extra=()):
    """Parameters of task vectors, and of each source."""
    more = lambda i: {name: v[i % len(v)] for name, v in extra}
    sources = lambda ws, ds: [{"weight": w, "density": d, **more(i)} for i, (w, d) in enumerate(zip(ws, ds))]
    return [
        ((24, 19), {}, sources([1.0, 0.5], [0.5, 0.3])),
        ((33,), {"normalize": True, "rescale": True, "lambda": 0.7}, sources([0.3, -0.4, 1.0], [0.9, 0.1, 0.6])),
        ((3, 5, 11), {"normalize": False, "rescale": False, "int8_mask": True}, sources([0.3, 0.0, 0.9, 0.2, 0.7], [0.4, 1.0, 0.0, 0.5, 0.3])),
        (LARGE, {"rescale": True}, sources([0.3, 0.6], [0.2, 0.7])),
    ]


CASES = {
    "linear": [((24, 19), {}, W(0.3, 0.9, 0.2)), ((33,), {"normalize": False}, W(1.0, -0.5)), ((7, 3), {}, W(*[0.1 * i for i in range(1, 10)]))],
    "slerp": [((24, 19), {"t": 0.3}, [{}]), ((33,), {"t": 1.0}, [{}]), ((1,), {"t": 0.5}, [{}]), (LARGE, {"t": 0.6}, [{}])],
    "nuslerp": [((24, 19), {}, W(0.3, 0.5)), ((33,), {"nuslerp_flatten": False}, W(1.0, 0.5)), ((13, 37), {"nuslerp_flatten": False}, W(0.5, -0.5)),
                ((37, 35), {"nuslerp_flatten": False, "nuslerp_row_wise": True}, W(0.2, 0.7)), (LARGE, {}, W(0.3, 0.4))],
    "task_arithmetic": [((24, 19), {}, W(1.0, 0.5)), ((33,), {"normalize": True, "lambda": 1.5}, W(0.3, -0.1, 0.9)), ((5, 9), {}, W(0.1, 0.2, 0.3, 0.4, 0.5, 0.6))],
    "ties": trimmed(),
    "dare_linear": trimmed(),
    "dare_ties": trimmed(),
    "della": trimmed([("epsilon", [0.05, 0.02])]),
    "della_linear": trimmed([("epsilon", [0.02, 0.05])]),
    "breadcrumbs": trimmed([("gamma", [0.01, 0.1])]),
    "breadcrumbs_ties": trimmed([("gamma", [0.3, 0.02])]),
    "model_stock": [((24, 19), {}, [{}] * 2), ((33,), {"filter_wise": True}, [{}] * 3), ((11, 20), {"filter_wise": True}, [{}] * 4), (LARGE, {}, [{}] * 3)],
    "sce": [((24, 19), {}, [{}] * 2), ((33,), {"select_topk": 0.4}, [{}] * 3), ((20, 21), {"select_topk": 0.1, "int8_mask": True}, [{}] * 4),
            (LARGE, {"select_topk": 0.5}, [{}] * 2), ((9,), {"select_topk": 0.5}, [{}])],
    "passthrough": [((24, 19), {}, [{}]), ((33,), {"scale": 0.3}, None)],
}
BASELESS = ("linear", "passthrough")


def main():
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "worker/tests/data/mergekit_methods")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    masks = Masks()
    jobs, results, case = [], {}, 0
    for method, cases in CASES.items():
        for shape, shared, sources in cases:
            if sources is None:
                shared, sources = {}, [shared]
            for threads in (1, 2) if shape == LARGE else (1,):
                for name, dtype in DTYPES.items():
                    # A row of one element has no ranks, and a 16-bit density may leave della's range.
                    case += 1
                    torch.set_num_threads(threads)
                    with_base = method not in BASELESS and not (method == "nuslerp" and len(jobs) % 2)
                    base = values(case, 0, None, shape, dtype)
                    inputs = [{"source": "base", "parameters": {}}] if with_base else []
                    data = {"0": base}
                    for i, parameters in enumerate(sources, 1):
                        data[str(i)] = values(case, i, base, shape, dtype)
                        inputs.append({"source": f"s{i}", "parameters": parameters})
                    for k, entry in enumerate(inputs, 0 if with_base else 1):
                        entry = dict(entry, data=str(k))
                        inputs[k if with_base else k - 1] = entry
                    job = {"name": f"{method}/{case}", "case": case, "method": method, "dtype": name, "shape": shape, "tensor": "t.weight",
                           "base": 0 if with_base else None, "parameters": shared, "seed": 1000 + case, "threads": threads, "inputs": inputs}
                    merged = mergekit(masks, job, data)
                    assert merged.dtype == dtype and not merged.isnan().any(), job
                    if shape == LARGE:
                        # Adding 0 makes one number of both zeros.
                        job["checksum"] = checksum(merged + 0.0)
                    else:
                        results[job["name"]] = merged.contiguous()
                    jobs.append(job)
    (out / "jobs.json").write_text("[\n" + ",\n".join(json.dumps(j) for j in jobs) + "\n]\n")
    save_file(results, out / "expected.safetensors")
    print(len(jobs), "cases,", sum(t.numel() for t in results.values()), "stored values")


if __name__ == "__main__":
    main()
