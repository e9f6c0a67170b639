"""An independent statement in NumPy of merges whose numbers differ by layer and name, and the golden data of
worker/tests/merge_groups.rs.

    python scripts/golden/merge_groups.py [worker/tests/data/merge_groups]

Needs numpy 2.x and torch 2.6 (to write safetensors). Written from the text of docs/MERGING.md ("Numbers that differ by
tensor"); the models and the random field are those of merge_reference.py beside this file, nothing is shared with the
worker. Every operation is float32 or float16 and rounded once, in the order of the sources.
"""

import fnmatch
import json
import re
import sys
from pathlib import Path

import numpy as np
import torch

import merge_reference as reference

F32 = np.float32
WORDS = {"attention": ["self_attn"], "mlp": ["mlp"], "embeddings": ["embed_tokens", "lm_head"], "norms": ["norm"]}


def depth(names):
    return 1 + max(int(m[1]) for n in names if (m := re.search(r"\blayers\.(\d+)\.", n)))


def place(name, layers):
    """Layer number; -1 before the layers, `layers` behind them."""
    found = re.search(r"\blayers\.(\d+)\.", name)
    return int(found[1]) if found else -1 if "embed_tokens" in name else layers


def fits(case, name, layers):
    inner = min(max(place(name, layers), 0), layers - 1)
    outside = place(name, layers)
    text = case.get("layers")
    if text and "/" in text:
        part, of = map(int, text.split("/"))
        here = of - 1 if outside == layers else 0 if outside < 0 else inner * of // layers
        if here != part - 1:
            return False
    elif text:
        first, _, last = text.partition("-")
        last = 10**9 if text.endswith("-") else int(last or first)
        if not (int(first) <= max(outside, 0) <= last) or (outside == layers and last < 10**9):
            return False
    want = case.get("filter")
    if want in WORDS:
        return any(part in name for part in WORDS[want])
    return want is None or fnmatch.fnmatchcase(name, want)


def at(amount, name, layers):
    """The number for a tensor, and what the group is called that shares it."""
    if not isinstance(amount, list):
        return amount, None
    index, case = next((i, c) for i, c in enumerate(amount) if fits(c, name, layers))
    if "value" in case:
        return case["value"], (index,)
    knots, p = case["knots"], place(name, layers)
    t = 0.0 if p < 0 else 1.0 if p == layers or layers == 1 else p / (layers - 1)
    scaled = t * (len(knots) - 1)
    low = int(scaled)
    share = scaled - low
    return (1 - share) * knots[low] + share * knots[min(low + 1, len(knots) - 1)], (index, p)


def merge(recipe, made):
    half = recipe.get("arithmetic") == "float16"
    T = np.float16 if half else F32
    load = lambda model: {n: t.float().numpy().astype(T) for n, t in made[model].items()}
    by = lambda array, number, op: op(array.astype(F32), F32(number)).astype(T)
    base = load("base")
    names, layers = sorted(base), depth(base)
    taus = []
    for term in recipe["sources"]:
        name, model = term["model"]["name"], load(term["model"]["name"])
        own = load(term["base"]["name"]) if "base" in term else base
        tau, groups = {}, {}
        for n in names:
            drop, drop_group = at(term["drop_rate"], n, layers)
            rate, trim_group = at(term["trim_rate"], n, layers)
            members = groups.setdefault((trim_group, drop_group), (rate, drop, []))
            members[2].append(n)
            if n not in model:
                tau[n] = np.zeros(base[n].size, T)
                continue
            delta = (model[n] - own[n]).ravel()
            u = reference.uniform(reference.key_of(recipe["mask"], recipe["mask_seed"], name, n), delta.size)
            tau[n] = np.where(u < drop, T(0), delta)
            if half and drop < 1:
                tau[n] = by(tau[n], 1 - drop, np.divide)
        for rate, drop, members in groups.values():
            flat = np.sort(np.abs(np.concatenate([tau[n] for n in members])))
            k = min(int(np.floor(rate * flat.size)), flat.size)
            for n in members:
                if k == flat.size:
                    tau[n] = np.zeros_like(tau[n])
                elif k > 0:
                    tau[n] = np.where(np.abs(tau[n]) < flat[k], T(0), tau[n])
                if not half and drop < 1:
                    tau[n] = by(tau[n], 1 - drop, np.divide)
        taus.append(tau)
    signs = {}
    for n in names:
        total = np.zeros(base[n].size, T)
        for tau in taus:
            total = total + tau[n]
        signs[n] = np.sign(total)
    tie = np.sign(sum(float(s.astype(np.float64).sum()) for s in signs.values()))
    merged = {}
    for n in names:
        sign = np.where(signs[n] == 0, T(tie), signs[n])
        total, count = np.zeros(base[n].size, T), np.zeros(base[n].size, T)
        for term, tau in zip(recipe["sources"], taus):
            agrees = (np.sign(tau[n]) == sign) & (tau[n] != 0)
            share = by(tau[n], at(term["weight"], n, layers)[0], np.multiply)
            total = total + np.where(agrees, share, T(0))
            count = count + agrees.astype(T)
        mean = total / np.maximum(count, T(1))
        moved = base[n].ravel() + by(mean, at(recipe["scale"], n, layers)[0], np.multiply)
        merged[n] = np.where(count > 0, moved, base[n].ravel()).reshape(base[n].shape)
        assert merged[n].dtype == T
    return merged


def recipes():
    four = ["medical", "bio", "japanese", "vlm"]
    ref = lambda n: {"name": n, "path": n}
    case = lambda value, layers=None, filter=None: {
        **({"layers": layers} if layers else {}), **({"filter": filter} if filter else {}),
        **({"knots": value} if isinstance(value, list) else {"value": value})}

    def recipe(drop=0.3, trims=0.4, weights=0.5, scale=1.0, **more):
        each = lambda v, i: v[i] if isinstance(v, tuple) else v
        terms = [{"model": ref(s), **({"base": ref("instruct")} if s == "vlm" else {}), "weight": each(weights, i),
                  "drop_rate": each(drop, i), "trim_rate": each(trims, i)} for i, s in enumerate(four)]
        return {"format": 1, "convention": "paper", "base": ref("base"), "vlm": ref("vlm"), "sources": terms,
                "scale": scale, "mask": "independent", "mask_seed": 42, **more}

    names = [case(0.1, filter="attention"), case(0.7, filter="mlp"), case(0.9, filter="embeddings"), case(0.45)]
    halves = [case(0.2, "1/2"), case(0.8, "2/2")]
    ranges = [case(0.6, "0", "mlp"), case(0.35, "0-0"), case(0.35, "1-")]
    knots = [case(0.5, filter="*.k_proj.*"), case([0.1, 0.9])]
    found = {
        "weights": recipe(weights=(names, halves, knots, 0.25), scale=[case(0.5, filter="norms"), case([1.5, 0.75])]),
        "trims": recipe(trims=(names, halves, ranges, knots)),
        "drops": recipe(drop=(halves, names, 0.5, knots), trims=(0.6, halves, ranges, 0.9)),
        "all-or-nothing": recipe(drop=([case(1.0, "1/2"), case(0.0)], 0.0, 0.3, 0.3),
                                 trims=(0.5, [case(1.0, filter="mlp"), case(0.0)], 0.5, names)),
    }
    return {**found, **{f"{n}-float16": {**r, "arithmetic": "float16"} for n, r in found.items()}}


def main():
    from safetensors.torch import save_file

    out = Path(sys.argv[1] if len(sys.argv) > 1 else "worker/tests/data/merge_groups")
    (out / "recipes").mkdir(parents=True, exist_ok=True)
    made = reference.models()
    results = {}
    for name, recipe in recipes().items():
        (out / "recipes" / f"{name}.json").write_text(json.dumps(recipe, indent=1) + "\n")
        for tensor, value in merge(recipe, made).items():
            results[f"{name}/{tensor}"] = torch.from_numpy(np.ascontiguousarray(value))
    save_file(results, out / "expected.safetensors")
    # What has one number everywhere is what the other script says.
    plain = reference.recipes()["paper"]
    theirs = reference.expected(plain, {n: reference.float_arrays(t) for n, t in made.items()})
    assert all(np.array_equal(v, theirs[n]) for n, v in merge(plain, made).items())
    print(f"{len(recipes())} recipes, {sum(t.numel() for t in results.values())} values")


if __name__ == "__main__":
    main()
