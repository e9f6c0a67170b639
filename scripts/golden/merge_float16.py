"""The paper's merge in float16, step by step in PyTorch, and the golden data of worker/tests/merge_float16.rs.

    python scripts/golden/merge_float16.py [worker/tests/data/merge_float16]
    python scripts/golden/merge_float16.py --live target/debug/jradievo-worker [runs] [seed]

Needs torch 2.6 and numpy 2.x. Every operation is one of torch's own on float16 tensors, in the order of the authors'
released code, so torch does all the rounding; nothing is shared with the worker. Two things are ours: the random field
of the mask (from merge_reference.py beside this file) and the trim's threshold, found by sorting instead of by 22
bisections of [0, 64]. What is dropped is set to zero rather than multiplied by it, which differs for infinities alone.

The first form writes golden data from the models and recipes of merge_reference.py. The second draws random models of
random shapes, types and recipes, has the program merge each, and compares every stored value; it writes nothing.
"""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import merge_reference as reference

HALF = torch.float16


def kept(mask, seed, source, tensor, count, rate):
    u = reference.uniform(reference.key_of(mask, seed, source, tensor), count)
    return torch.from_numpy(u >= rate)


def paper(base, sources, scale, mask, seed):
    """`base`: name -> tensor as stored. `sources`: dicts of name, model, base (or None), weight, drop_rate, trim_rate."""
    names = sorted(base)
    half = lambda tensors: {n: t.to(HALF) for n, t in tensors.items()}
    base = half(base)
    vectors = []
    for s in sources:
        model, own = half(s["model"]), half(s["base"]) if s["base"] else base
        parts = []
        for n in names:
            if n not in model:
                parts.append(torch.zeros(base[n].numel(), dtype=HALF))
                continue
            tau = (model[n] - own[n]).flatten()
            keep = kept(mask, seed, s["name"], n, tau.numel(), s["drop_rate"])
            tau = torch.where(keep, tau, torch.zeros_like(tau))
            if s["drop_rate"] < 1.0:
                tau /= 1 - s["drop_rate"]
            parts.append(tau)
        vector = torch.cat(parts)
        count = min(int(vector.numel() * s["trim_rate"]), vector.numel())
        if count == vector.numel():
            vector = torch.zeros_like(vector)
        elif count > 0:
            threshold = vector.abs().sort().values[count]
            vector = torch.where(vector.abs() >= threshold, vector, torch.zeros_like(vector))
        assert vector.dtype == HALF
        vectors.append(vector)
    total = 0.0
    for vector in vectors:
        total = total + vector
    if not vectors:
        return base
    signs = (total > 0.0).half() - (total < 0.0).half()
    majority = float(np.sign(signs.double().sum().item()))
    signs = signs + (signs == 0).half() * majority
    merged, counts = 0.0, 0.0
    for s, vector in zip(sources, vectors):
        agrees = (((signs > 0) & (vector > 0)) | ((signs < 0) & (vector < 0))).half()
        share = vector * agrees
        share *= s["weight"]
        merged = merged + share
        counts = counts + agrees
    merged /= torch.clamp(counts, min=1.0)
    out, at = {}, 0
    for n in names:
        task = merged[at : at + base[n].numel()].reshape(base[n].shape)
        out[n] = base[n] + scale * task
        assert out[n].dtype == HALF
        at += base[n].numel()
    return out


def expected(recipe, made):
    sources = [
        {"name": t["model"]["name"], "model": made[t["model"]["name"]],
         "base": made[t["base"]["name"]] if "base" in t else None,
         **{k: t[k] for k in ("weight", "drop_rate", "trim_rate")}}
        for t in recipe["sources"]
    ]
    return paper(made["base"], sources, recipe["scale"], recipe["mask"], recipe["mask_seed"])


USED = ["plain", "paper", "paper-shared", "sparse", "below-drop", "mixed-drop", "trim-one", "ties", "single"]


def golden(out):
    from safetensors.torch import save_file

    (out / "recipes").mkdir(parents=True, exist_ok=True)
    made = reference.models()
    recipes = {n: r for n, r in reference.recipes().items() if n in USED}
    # Survivors of magnitudes far beyond 64, where the authors' bisection would stop with an assertion.
    extreme = json.loads(json.dumps(recipes["sparse"]))
    for source in extreme["sources"]:
        source["drop_rate"], source["trim_rate"] = 0.9997, 0.9999
    recipes["extreme"] = extreme
    results = {}
    for name, recipe in recipes.items():
        recipe["arithmetic"] = "float16"
        (out / "recipes" / f"{name}.json").write_text(json.dumps(recipe, indent=1) + "\n")
        for tensor, value in expected(recipe, made).items():
            assert torch.isfinite(value).all(), (name, tensor)
            results[f"{name}/{tensor}"] = value.contiguous()
    save_file(results, out / "expected.safetensors")
    authors_mask()
    print(f"{len(recipes)} recipes, {sum(t.numel() for t in results.values())} values")


def authors_mask():
    """What the shared mask stands for: re-seeded for every tensor, torch draws one sequence, whatever the shape."""
    def draw(*shape):
        torch.manual_seed(42)
        return torch.bernoulli(torch.full(shape, 0.3, dtype=HALF)).flatten()

    longest = draw(40, 50)
    for shape in [(40, 50), (50, 40), (2000,), (7, 11), (1,), (3, 5, 17)]:
        mask = draw(*shape)
        assert torch.equal(mask, longest[: mask.numel()]), shape
    print("on a CPU torch's re-seeded mask depends on the index within the tensor alone, as `shared` does here")


def live(program, runs, seed):
    from safetensors.torch import load_file, save_file

    rng = random.Random(seed)
    dtypes = [torch.float32, torch.float16, torch.bfloat16]
    values = unequal = 0
    for run in range(runs):
        torch.manual_seed(rng.randrange(1 << 30))
        shapes = {f"t{i}": tuple(rng.randint(1, 40) for _ in range(rng.randint(1, 3))) for i in range(rng.randint(1, 6))}
        base = {n: torch.randn(s) * rng.choice([0.02, 1.0, 8.0]) for n, s in shapes.items()}
        names = [f"s{i}" for i in range(rng.randint(1, 5))]
        spread = rng.choice([1e-6, 0.003, 0.05, 2.0])
        draw = lambda: {n: (t + spread * torch.randn(t.shape)) for n, t in base.items()}
        made = {"base": base, "own": draw(), **{n: draw() for n in names}}
        made = {m: {n: t.to(d) for n, t in ts.items()} for m, ts in made.items() for d in [rng.choice(dtypes)]}
        for name in names:
            if len(shapes) > 1 and rng.random() < 0.2:
                del made[name][rng.choice(list(shapes))]
        made["vlm"] = {n: torch.zeros(s, dtype=HALF) for n, s in shapes.items()}
        rate = lambda: rng.choice([0.0, rng.random(), rng.random(), 1.0])
        drop = rate()
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            for name, tensors in made.items():
                (folder / name).mkdir()
                (folder / name / "config.json").write_text("{}")
                save_file(tensors, folder / name / "model.safetensors")
            ref = lambda n: {"name": n, "path": str(folder / n)}
            terms = [{"model": ref(n), **({"base": ref("own")} if rng.random() < 0.3 else {}), "weight": rng.uniform(0, 2),
                      "drop_rate": drop, "trim_rate": rate()} for n in names]
            recipe = {"format": 1, "convention": "paper", "base": ref("base"), "vlm": ref("vlm"), "sources": terms,
                      "scale": rng.uniform(0, 2), "mask": rng.choice(["independent", "shared"]),
                      "mask_seed": rng.randrange(1 << 62), "arithmetic": "float16"}
            (folder / "recipe.json").write_text(json.dumps(recipe))
            subprocess.run([program, "merge", folder / "recipe.json", "--out", folder / "out"], check=True, capture_output=True)
            found = load_file(folder / "out" / "model.safetensors")
        for tensor, value in expected(recipe, made).items():
            same = (found[tensor] == value) | (found[tensor].isnan() & value.isnan())
            values += value.numel()
            unequal += int((~same).sum())
            if not same.all():
                print(f"run {run} {tensor}: {int((~same).sum())} of {value.numel()} differ; {json.dumps(recipe)}")
    print(f"{runs} random merges, {values} float16 values, {unequal} unequal (both zeros are one number)")
    sys.exit(unequal > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--live"]:
        live(sys.argv[2], int((sys.argv[3:] or ["50"])[0]), int((sys.argv[4:] or ["1"])[0]))
    else:
        golden(Path(sys.argv[1] if len(sys.argv) > 1 else "worker/tests/data/merge_float16"))
