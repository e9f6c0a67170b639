"""An independent statement of the paper's merge in NumPy, and the golden data of worker/tests/merge_golden.rs.

    python scripts/golden/merge_reference.py [worker/tests/data/merge]

Needs numpy 2.x, torch 2.6 (to write .bin files as it does) and, for the check of the linear convention,
mergekit 0.1.5. Written from the text of arXiv 2411.09933 and the description of the random field in
worker/src/merge/field.rs; it shares no code with the worker: the trim sorts, the field is drawn element by
element, BLAKE3 is spelt out.

Every operation of the paper's convention is float32 and rounded once, in the order of the sources, so results can
be compared bit by bit; the linear convention fuses product and sum, as mergekit's own function does on a CPU.
"""

import json
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import torch

F32 = np.float32


# ---- BLAKE3 of one chunk, derive-key mode (the specification's section 2) ----

IV = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
CHUNK_START, CHUNK_END, ROOT, CONTEXT, MATERIAL = 1, 2, 8, 32, 64


def compress(cv, block, length, flags):
    m = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    v = cv + IV[:4] + [0, 0, length, flags]

    def g(a, b, c, d, x, y):
        def rotate(w, n):
            return (w >> n | w << (32 - n)) & 0xFFFFFFFF

        v[a] = (v[a] + v[b] + x) & 0xFFFFFFFF
        v[d] = rotate(v[d] ^ v[a], 16)
        v[c] = (v[c] + v[d]) & 0xFFFFFFFF
        v[b] = rotate(v[b] ^ v[c], 12)
        v[a] = (v[a] + v[b] + y) & 0xFFFFFFFF
        v[d] = rotate(v[d] ^ v[a], 8)
        v[c] = (v[c] + v[d]) & 0xFFFFFFFF
        v[b] = rotate(v[b] ^ v[c], 7)

    for _ in range(7):
        for i in range(4):
            g(i, 4 + i, 8 + i, 12 + i, m[2 * i], m[2 * i + 1])
        for i in range(4):
            g(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[8 + 2 * i], m[9 + 2 * i])
        m = [m[p] for p in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)]


def one_chunk(key, data, flags):
    assert len(data) <= 1024, "one chunk is enough here"
    blocks = [data[i : i + 64] for i in range(0, len(data), 64)] or [b""]
    cv = key
    for i, block in enumerate(blocks):
        edge = (CHUNK_START if i == 0 else 0) | (CHUNK_END | ROOT if i == len(blocks) - 1 else 0)
        cv = compress(cv, block, len(block), flags | edge)
    return cv


def derive_key_words(context, material):
    return one_chunk(one_chunk(IV, context.encode(), CONTEXT), material, MATERIAL)


# ---- The random field ----


def key_of(mask, seed, source, tensor):
    material = struct.pack("<Q", seed)
    if mask == "independent":
        name = source.encode()
        material += struct.pack("<Q", len(name)) + name + tensor.encode()
    return derive_key_words(f"jradievo merge 2025 DARE mask, {mask}", material)[:2]


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def field(key, count):
    words = [w for c in range(-(-count // 4)) for w in philox([c & 0xFFFFFFFF, c >> 32, 0, 0], key)]
    return np.array(words[:count], dtype=np.uint32)


def uniform(key, count):
    return (field(key, count) >> 8).astype(np.float64) * 2.0**-24


# ---- The merge ----


def paper(base, sources, scale, mask, seed):
    """`base`: name -> float32 array. `sources`: dicts of name, model, base (or None), weight, drop_rate, trim_rate."""
    names = sorted(base)
    flat_base = np.concatenate([base[n].ravel() for n in names]).astype(F32)
    total = flat_base.size
    taus = []
    for s in sources:
        own = s["base"] or base
        parts = []
        for n in names:
            if n not in s["model"]:
                parts.append(np.zeros(base[n].size, F32))
                continue
            tau = (s["model"][n].astype(F32) - own[n].astype(F32)).ravel()
            u = uniform(key_of(mask, seed, s["name"], n), tau.size)
            parts.append(np.where(u < s["drop_rate"], F32(0), tau))
        tau = np.concatenate(parts)
        k = min(int(np.floor(s["trim_rate"] * total)), total)
        if k == total:
            tau = np.zeros_like(tau)
        elif k > 0:
            threshold = np.abs(tau)[np.argsort(np.abs(tau), kind="stable")[k]]
            tau = np.where(np.abs(tau) < threshold, F32(0), tau)
        if s["drop_rate"] < 1.0:
            tau = tau / F32(1.0 - s["drop_rate"])
        taus.append(tau.astype(F32))
    summed = np.zeros(total, F32)
    for tau in taus:
        summed = summed + tau
    signs = np.sign(summed)
    signs = np.where(signs == 0, np.sign(signs.astype(np.float64).sum()), signs).astype(F32)
    mean_sum, count = np.zeros(total, F32), np.zeros(total, F32)
    for s, tau in zip(sources, taus):
        agrees = (np.sign(tau) == signs) & (tau != 0)
        mean_sum = mean_sum + np.where(agrees, F32(s["weight"]) * tau, F32(0))
        count = count + agrees.astype(F32)
    mean = mean_sum / np.maximum(count, F32(1))
    merged = flat_base + F32(scale) * mean
    assert merged.dtype == F32
    return cut(merged, base)


def linear(base, sources):
    total = F32(0)
    for s in sources:
        total = total + F32(s["weight"])
    merged = {}
    for n in base:
        acc = np.zeros(base[n].shape, F32)
        for s in sources:
            # A fused multiply-add: the product of two float32 is exact in float64.
            acc = (acc.astype(np.float64) + np.float64(F32(s["weight"])) * s["model"][n].astype(np.float64)).astype(F32)
        merged[n] = acc / total
    return merged


def cut(flat, like):
    out, at = {}, 0
    for n in sorted(like):
        out[n] = flat[at : at + like[n].size].reshape(like[n].shape)
        at += like[n].size
    return out


# ---- Golden data ----

SHAPES = {
    "model.embed_tokens.weight": (29, 16),
    "model.layers.0.input_layernorm.weight": (16,),
    "model.layers.0.mlp.down_proj.weight": (16, 41),
    "model.layers.0.self_attn.k_proj.weight": (9, 16),
    "model.layers.1.mlp.up_proj.weight": (45, 16),
    "model.norm.weight": (1,),
    "lm_head.weight": (29, 16),
}
DTYPES = {"base": torch.bfloat16, "medical": torch.float32, "bio": torch.bfloat16, "japanese": torch.float16}
DTYPES |= {"vlm": torch.float16, "instruct": torch.float16}
MISSING = {"bio": ["lm_head.weight"]}


def models():
    generator = torch.Generator().manual_seed(20241109)
    draw = lambda shape: torch.randn(shape, generator=generator)
    base = {n: draw(s) * 0.05 for n, s in SHAPES.items()}
    out = {}
    for name, dtype in DTYPES.items():
        size = {"base": 0.0, "instruct": 0.004}.get(name, 0.01)
        tensors = {n: (base[n] + size * draw(s)).to(dtype) for n, s in SHAPES.items()}
        # Equal and opposite differences: sums of exactly zero, whose sign the whole model decides.
        if name in ("bio", "japanese"):
            side = 1 if name == "bio" else -1
            row = base["model.layers.0.mlp.down_proj.weight"].to(torch.bfloat16).float()[:5] * 0 + 0.5
            tensors["model.layers.0.mlp.down_proj.weight"][:5] = (row + side * 0.0625).to(dtype)
        if name in ("base", "instruct", "vlm", "medical"):
            tensors["model.layers.0.mlp.down_proj.weight"][:5] = 0.5
        for n in MISSING.get(name, []):
            del tensors[n]
        out[name] = tensors
    # A negative zero that no source moves.
    for name in ("base", "medical", "bio", "japanese", "vlm"):
        out[name]["model.norm.weight"][0] = -0.0
    return out


# Recipes that give the base itself, whose outcome need not be stored.
UNCHANGED = ["drop-all", "trim-all", "scale-zero", "none"]


def recipes():
    three = ["medical", "bio", "japanese"]

    def recipe(name, sources=three, drop=0.0, trims=0.0, weights=0.5, scale=1.0, mask="independent", seed=42, own={}, convention="paper"):
        each = lambda v, i: float(v[i]) if isinstance(v, list) else float(v)
        ref = lambda n: {"name": n, "path": n}
        terms = [
            {"model": ref(s), **({"base": ref(own[s])} if s in own else {}), "weight": each(weights, i),
             "drop_rate": each(drop, i), "trim_rate": each(trims, i)}
            for i, s in enumerate(sources)
        ]
        return name, {"format": 1, "convention": convention, "base": ref("base"), "vlm": ref("vlm"), "sources": terms,
                      "scale": scale, "mask": mask, "mask_seed": seed}

    four = [*three, "vlm"]
    return dict(
        [
            recipe("plain"),
            recipe("paper", four, 0.3, [0.5, 0.1, 0.35, 0.8], [0.9, 0.4, 1.0, 0.2], 1.3, own={"vlm": "instruct"}),
            recipe("paper-shared", four, 0.3, [0.5, 0.1, 0.35, 0.8], [0.9, 0.4, 1.0, 0.2], 1.3, "shared", own={"vlm": "instruct"}),
            recipe("sparse", drop=0.9, trims=0.95, weights=[1.0, 2.0, 0.5], scale=2.0, seed=2**63 + 5),
            recipe("below-drop", drop=0.5, trims=[0.2, 0.5, 0.51]),
            recipe("mixed-drop", drop=[0.0, 0.25, 1.0], trims=0.3),
            recipe("drop-all", drop=1.0),
            recipe("trim-all", trims=1.0),
            recipe("trim-one", trims=[1.0, 0.0, 0.6]),
            recipe("weightless", drop=0.3, weights=[0.0, 1.0, 0.0]),
            recipe("scale-zero", scale=0.0),
            recipe("single", ["japanese"], 0.3, 0.5, 1.0, 0.7, "shared"),
            recipe("ties", ["bio", "japanese"], weights=[1.0, 0.25]),
            recipe("none", []),
            recipe("linear", ["medical", "japanese", "vlm"], weights=[0.2, 0.5, 0.9], convention="linear"),
        ]
    )


def float_arrays(tensors):
    return {n: t.float().numpy() for n, t in tensors.items()}


def expected(recipe, arrays):
    sources = [
        {"name": t["model"]["name"], "model": arrays[t["model"]["name"]],
         "base": arrays[t["base"]["name"]] if "base" in t else None,
         **{k: t[k] for k in ("weight", "drop_rate", "trim_rate")}}
        for t in recipe["sources"]
    ]
    base = arrays["base"]
    if recipe["convention"] == "linear":
        return linear(base, sources)
    return paper(base, sources, recipe["scale"], recipe["mask"], recipe["mask_seed"])


def main():
    from safetensors.torch import save_file

    out = Path(sys.argv[1] if len(sys.argv) > 1 else "worker/tests/data/merge")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    made = models()
    arrays = {name: float_arrays(t) for name, t in made.items()}

    def parts(tensors, n):
        names = list(tensors)
        return [{k: tensors[k].contiguous() for k in names[i::n]} for i in range(n)]

    def sharded(folder, tensors, stem, extension, n, save):
        shards = parts(tensors, n)
        files = [f"{stem}-{i + 1:05}-of-{n:05}.{extension}" for i in range(n)]
        for file, shard in zip(files, shards):
            save(shard, folder / file)
        index = {"metadata": {"total_size": sum(t.numel() * t.element_size() for t in tensors.values())},
                 "weight_map": {k: f for f, shard in zip(files, shards) for k in shard}}
        suffix = "safetensors" if extension == "safetensors" else "bin"
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index, indent=1))

    for name, tensors in made.items():
        folder = out / "models" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"model_type": "llama"}\n')
        if name == "bio":
            sharded(folder, tensors, "pytorch_model", "bin", 2, torch.save)
        elif name == "medical":
            sharded(folder, tensors, "model", "safetensors", 3, lambda t, p: save_file(t, p, {"format": "pt"}))
        elif name == "japanese":
            # Parameters, and two views of one storage, as state dictionaries of trained models have them.
            both = torch.stack([tensors["model.embed_tokens.weight"], tensors["lm_head.weight"]])
            tied = {**tensors, "model.embed_tokens.weight": both[0], "lm_head.weight": both[1]}
            torch.save({k: torch.nn.Parameter(v) for k, v in tied.items()}, folder / "pytorch_model.bin")
        else:
            save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    # One model in every storage form, and a pickle that would run a command.
    class Attack:
        def __reduce__(self):
            import os

            return os.system, ("false",)

    forms = {form: out / "forms" / form for form in ("single", "shards", "bin", "bin-shards", "attack")}
    for folder in forms.values():
        folder.mkdir(parents=True)
    model = made["bio"]
    save_file(model, forms["single"] / "model.safetensors", {"format": "pt"})
    sharded(forms["shards"], model, "model", "safetensors", 2, lambda t, p: save_file(t, p, {"format": "pt"}))
    torch.save(model, forms["bin"] / "pytorch_model.bin")
    sharded(forms["bin-shards"], model, "pytorch_model", "bin", 3, torch.save)
    torch.save({"weight": Attack()}, forms["attack"] / "pytorch_model.bin")

    (out / "recipes").mkdir()
    results = {}
    for name, recipe in recipes().items():
        (out / "recipes" / f"{name}.json").write_text(json.dumps(recipe, indent=1) + "\n")
        merged = expected(recipe, arrays)
        if name in UNCHANGED:
            assert all(np.array_equal(merged[n], arrays["base"][n]) for n in merged), name
            continue
        for tensor, value in merged.items():
            results[f"{name}/{tensor}"] = torch.from_numpy(np.ascontiguousarray(value))
    save_file(results, out / "expected.safetensors")

    fields = {}
    for mask, seed, source, tensor in [
        ("independent", 42, "bio", "lm_head.weight"),
        ("independent", 2**63 + 5, "医療", "model.norm.weight"),
        ("shared", 42, "", ""),
        ("independent", 0, "x" * 900, "y"),
    ]:
        fields[f"{mask}|{seed}|{source}|{tensor}"] = [int(w) for w in field(key_of(mask, seed, source, tensor), 21)]
    (out / "fields.json").write_text(json.dumps(fields, ensure_ascii=False, indent=1) + "\n")
    compare_with_mergekit(recipes()["linear"], made, results)


def compare_with_mergekit(recipe, made, results):
    """The linear convention against mergekit's own function: float32 in, as its `dtype: float32` gives."""
    try:
        from mergekit.merge_methods import linear as module
    except ImportError:
        print("mergekit is not installed; the linear convention was not compared")
        return
    from types import SimpleNamespace

    merge = module.linear_merge.implementation
    weights = torch.tensor([[t["weight"] for t in recipe["sources"]]])
    equal = total = 0
    worst = 0.0
    for tensor in made["base"]:
        batch = SimpleNamespace(tensors=[made[t["model"]["name"]][tensor].float()[None] for t in recipe["sources"]])
        theirs, ours = merge(batch, weights)[0], results[f"linear/{tensor}"]
        equal += int((theirs == ours).sum())
        total += ours.numel()
        worst = max(worst, float(((theirs - ours).abs() / ours.abs().clamp_min(1e-30)).max()))
    print(f"linear against mergekit: {equal} of {total} float32 values equal, largest relative difference {worst:.1e}")


if __name__ == "__main__":
    main()
