"""What mergekit 0.1.5 makes of the configurations in worker/tests/data/mergekit_configs.

    python scripts/golden/mergekit_configs.py [worker/tests/data/mergekit_configs]
    python scripts/golden/mergekit_configs.py --compare WORKER [ROUNDS [FIRST_SEED]]

Needs torch 2.6 (CPU), transformers 5.23, mergekit 0.1.5 and PyYAML. Every *.yml of the folder is run by mergekit itself
on small models, and what comes out is kept in expected.safetensors, expected.json (the configuration's numbers and the
tokens) and models.json (what the models are). The models are not kept: their numbers are a formula, restated in
worker/tests/mergekit_configs.rs, that uses nothing but 64-bit integers and one float32 addition.

With --compare, random configurations on these models are run by mergekit and by the program WORKER (jradievo-worker) and
compared element by element.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file

MASK = (1 << 64) - 1
TORCH = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

COMMON = [f"t{i}" for i in range(22)]
BASE = ["<s>", "</s>"] + COMMON
# Other numbers for the same tokens, four of its own, two of the base's missing, two rows of padding.
WIDE = ["</s>", "<s>"] + COMMON[:20][::-1] + ["x0", "x1", "x2", "x3"]
# Lacks t5; shares x0 and x1 with WIDE, which the base has not.
OTHER = ["<s>", "</s>"] + [t for t in COMMON if t != "t5"] + ["x1", "x0", "y0"]


def model(dtype="bfloat16", layers=4, tokens=BASE, rows=None, tied=False, architecture="LlamaForCausalLM"):
    return {
        "architecture": architecture,
        "dtype": dtype,
        "layers": layers,
        "tokens": tokens,
        "rows": rows or len(tokens),
        "tied": tied,
    }


MODELS = {
    "base": model(),
    "a": model(),
    "b": model(),
    "half": model(dtype="float16"),
    "full": model(dtype="float32"),
    "deep": model(layers=6),
    "wide": model(tokens=WIDE, rows=len(WIDE) + 2),
    "other": model(tokens=OTHER),
    "longer": model(tokens=BASE + ["z0", "z1", "z2"]),
    "tied1": model(tied=True),
    "tied2": model(tied=True),
    "qwen1": model(layers=2, architecture="Qwen2ForCausalLM"),
    "qwen2": model(layers=2, architecture="Qwen2ForCausalLM"),
}
HIDDEN, INNER, HEADS, KV = 8, 12, 2, 1


def words(text, count):
    """`count` 24-bit numbers: splitmix64 from the FNV-1a hash of the text."""
    seed = 0xCBF29CE484222325
    for byte in text.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    out = []
    for i in range(count):
        z = (seed + (i + 1) * 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        out.append((z ^ z >> 31) >> 40)
    return np.array(out, dtype=np.int64) - (1 << 23)


def values(name, tensor, count):
    """Within 0.25 of 0 and shared by all models, plus at most 1/64 of the model's own."""
    shared = (words(tensor, count).astype(np.float32)) * np.float32(2.0**-25)
    if name == "base":
        return shared
    return shared + words(f"{name}:{tensor}", count).astype(np.float32) * np.float32(2.0**-29)


def shapes(spec):
    head = HIDDEN // HEADS
    layer = {
        "input_layernorm.weight": (HIDDEN,),
        "self_attn.q_proj.weight": (HIDDEN, HIDDEN),
        "self_attn.k_proj.weight": (KV * head, HIDDEN),
        "self_attn.v_proj.weight": (KV * head, HIDDEN),
        "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
        "post_attention_layernorm.weight": (HIDDEN,),
        "mlp.up_proj.weight": (INNER, HIDDEN),
        "mlp.gate_proj.weight": (INNER, HIDDEN),
        "mlp.down_proj.weight": (HIDDEN, INNER),
    }
    if spec["architecture"].startswith("Qwen2"):
        layer |= {f"self_attn.{p}_proj.bias": (HIDDEN if p == "q" else KV * head,) for p in "qkv"}
    all = {"model.embed_tokens.weight": (spec["rows"], HIDDEN), "model.norm.weight": (HIDDEN,)}
    if not spec["tied"]:
        all["lm_head.weight"] = (spec["rows"], HIDDEN)
    for i in range(spec["layers"]):
        all |= {f"model.layers.{i}.{part}": shape for part, shape in layer.items()}
    return all


def write_model(folder, name, spec):
    folder.mkdir(parents=True)
    tensors = {}
    for tensor, shape in shapes(spec).items():
        if tensor in ("model.embed_tokens.weight", "lm_head.weight"):
            padding = [f"<padding {i}>" for i in range(spec["rows"] - len(spec["tokens"]))]
            rows = [values(name, f"{tensor}:{token}", HIDDEN) for token in spec["tokens"] + padding]
            array = np.stack(rows)
        else:
            array = values(name, tensor, int(np.prod(shape))).reshape(shape)
        tensors[tensor] = torch.from_numpy(array).to(TORCH[spec["dtype"]])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": [spec["architecture"]],
        "model_type": "qwen2" if spec["architecture"].startswith("Qwen2") else "llama",
        "torch_dtype": spec["dtype"],
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": spec["layers"],
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV,
        "vocab_size": spec["rows"],
        "tie_word_embeddings": spec["tied"],
        "bos_token_id": spec["tokens"].index("<s>"),
        "eos_token_id": spec["tokens"].index("</s>"),
        "rms_norm_eps": 1e-05,
        "max_position_embeddings": 64,
    }
    (folder / "config.json").write_text(json.dumps(config))
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokens = list(enumerate(spec["tokens"]))
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": t, **special} for i, t in tokens if t.startswith("<")],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {t: i for i, t in tokens}, "unk_token": "t0"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def run_mergekit(text, out, truncate=False):
    from mergekit.config import MergeConfiguration
    from mergekit.io.tasks import LoaderCache
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    LoaderCache().loaders.clear()
    config = MergeConfiguration.model_validate(yaml.safe_load(text))
    options = MergeOptions(quiet=True, unsafe_truncate_embeddings=truncate, random_seed=0, write_model_card=False)
    run_merge(config, str(out), options=options)


def tokens_of(folder):
    """Token → number of a folder's tokenizer.json."""
    root = json.loads((folder / "tokenizer.json").read_text())
    numbers = dict(root["model"]["vocab"])
    numbers |= {entry["content"]: entry["id"] for entry in root["added_tokens"]}
    return numbers


def in_order_of_tokens(folder):
    """The tensors, the rows of a vocabulary in the order of the tokens' text: mergekit leaves the numbers of a
    union's new tokens to the order of a hash table."""
    tensors = load_file(folder / "model.safetensors")
    numbers = tokens_of(folder)
    order = [numbers[t] for t in sorted(numbers)]
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in tensors:
            rest = [i for i in range(tensors[name].shape[0]) if i not in order]
            rows = [i for i in order if i < tensors[name].shape[0]]
            tensors[name] = tensors[name][rows + rest].contiguous()
    return tensors, sorted(numbers)


def golden(data):
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        for name, spec in MODELS.items():
            write_model(home / name, name, spec)
        os.chdir(home)
        kept, facts = {}, {}
        for path in sorted(data.glob("*.yml")):
            case = path.stem
            run_mergekit(path.read_text(), home / "out", truncate=case.startswith("truncate"))
            tensors, tokens = in_order_of_tokens(home / "out")
            config = json.loads((home / "out/config.json").read_text())
            kept |= {f"{case}/{name}": tensor for name, tensor in tensors.items()}
            facts[case] = {"layers": config["num_hidden_layers"], "rows": config["vocab_size"]}
            facts[case] |= {"dtype": config.get("dtype") or config.get("torch_dtype"), "tokens": tokens}
            shutil.rmtree(home / "out")
            print(case, len(tensors), facts[case]["layers"], facts[case]["rows"])
        save_file(kept, data / "expected.safetensors")
        (data / "expected.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        (data / "models.json").write_text(json.dumps(MODELS, indent=1) + "\n")


# ---- random configurations, mergekit beside this project ----


def random_setting(rng, low=0.0, high=1.0):
    one = lambda: round(rng.uniform(low, high), rng.choice([1, 2, 6]))
    graded = lambda: one() if rng.random() < 0.6 else [one() for _ in range(rng.randint(1, 5))]
    if rng.random() < 0.5:
        return graded()
    filters = rng.sample(["mlp", "self_attn", "embed", "lm_head", "norm", "layers.1.", "q_proj", "down"], 2)
    return [{"filter": f, "value": graded()} for f in filters] + [{"value": graded()}]


METHODS = ["linear", "passthrough", "slerp", "nuslerp", "task_arithmetic", "ties", "breadcrumbs", "breadcrumbs_ties"]
METHODS += ["model_stock", "sce"]


def random_config(rng):
    method = rng.choice(METHODS)
    pool = rng.sample(["a", "b", "half", "full", "base", "tied1"], 4)
    count = {"passthrough": 1, "slerp": 2, "nuslerp": 2, "model_stock": 3}.get(method, rng.randint(1, 4))
    models = pool[:count]
    config = {"merge_method": method}
    based = method in ("slerp", "task_arithmetic", "ties", "breadcrumbs", "breadcrumbs_ties", "model_stock", "sce")
    if method == "nuslerp" and rng.random() < 0.5:
        based = True
        models = pool[:3]
    if based:
        config["base_model"] = rng.choice(models)
    parameters = {}
    if method in ("slerp",):
        parameters["t"] = random_setting(rng)
    per_input = {}
    if method == "passthrough" and rng.random() < 0.7:
        parameters["scale"] = random_setting(rng)
    if method in ("linear", "nuslerp", "task_arithmetic", "ties", "breadcrumbs", "breadcrumbs_ties"):
        per_input["weight"] = lambda: random_setting(rng, 0.1, 1.0)
    if method in ("ties", "breadcrumbs", "breadcrumbs_ties"):
        per_input["density"] = lambda: random_setting(rng, 0.1, 0.9)
    if method in ("breadcrumbs", "breadcrumbs_ties"):
        per_input["gamma"] = lambda: random_setting(rng, 0.0, 0.1)
    if method in ("linear", "task_arithmetic", "ties", "breadcrumbs", "breadcrumbs_ties") and rng.random() < 0.5:
        parameters["normalize"] = rng.choice([True, False, "yes", 0])
    if method in ("task_arithmetic", "ties") and rng.random() < 0.5:
        parameters["lambda"] = random_setting(rng, 0.5, 1.5)
    if method == "sce":
        parameters["select_topk"] = random_setting(rng)
    if method == "model_stock":
        parameters["filter_wise"] = rng.random() < 0.5
    for name, make in per_input.items():
        parameters[name] = make()

    def own():
        given = {n: make() for n, make in per_input.items() if rng.random() < 0.5}
        return {"parameters": given} if given else {}

    if rng.random() < 0.5:
        config["models"] = [{"model": m, **own()} for m in models]
    else:
        slices = []
        for _ in range(rng.randint(1, 3)):
            length = rng.randint(1, 3)
            sources = []
            for m in models:
                first = rng.randint(0, 4 - length)
                sources.append({"model": m, "layer_range": [first, first + length], **own()})
            slices.append({"sources": sources})
            if rng.random() < 0.3 and per_input:
                slices[-1]["parameters"] = {n: make() for n, make in per_input.items()}
        config["slices"] = slices
    if parameters:
        config["parameters"] = parameters
    if rng.random() < 0.6:
        config["dtype"] = rng.choice(list(TORCH))
    if rng.random() < 0.4:
        config["out_dtype"] = rng.choice(list(TORCH))
    return config


def units(x, y):
    """Distance in units in the last place of the type: the difference of the ordered bit patterns."""
    width = {4: torch.int32, 2: torch.int16}[x.element_size()]
    order = lambda t: (lambda i: np.where(i < 0, -(i & (2 ** (8 * x.element_size() - 1) - 1)), i))(
        t.contiguous().view(width).numpy().astype(np.int64)
    )
    return np.abs(order(x) - order(y))


def compare(worker, rounds, first):
    # By method: configurations, elements, how many differ, by how many units at most.
    totals = {}
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        for name, spec in MODELS.items():
            write_model(home / name, name, spec)
        os.chdir(home)
        torch.set_num_threads(1)
        for seed in range(first, first + rounds):
            rng = random.Random(seed)
            config = random_config(rng)
            (home / "merge.yml").write_text(yaml.safe_dump(config))
            fault = None
            try:
                run_mergekit((home / "merge.yml").read_text(), home / "out")
            except Exception as e:
                fault = e
            command = [worker, "merge", "merge.yml", "--out", "ours"]
            ours = subprocess.run(command, capture_output=True, text=True)
            if (fault is None) != (ours.returncode == 0):
                print(f"seed {seed}: mergekit {fault!r}, here {ours.returncode} {ours.stderr}\n{yaml.safe_dump(config)}")
                sys.exit(1)
            if fault is None:
                expected, found = load_file(home / "out/model.safetensors"), load_file(home / "ours/model.safetensors")
                if {n: (t.shape, t.dtype) for n, t in expected.items()} != {n: (t.shape, t.dtype) for n, t in found.items()}:
                    print(f"seed {seed}: other tensors\n{yaml.safe_dump(config)}")
                    sys.exit(1)
                total = totals.setdefault(config["merge_method"], [0, 0, 0, 0])
                total[0] += 1
                for name in expected:
                    apart = units(expected[name], found[name])
                    total[1] += apart.size
                    total[2] += int((apart > 0).sum())
                    if apart.max() > max(1, total[3]):
                        print(f"seed {seed}: {name} of {config['merge_method']}: {apart.max()} units apart")
                    total[3] = max(total[3], int(apart.max()))
            for folder in ("out", "ours"):
                shutil.rmtree(home / folder, ignore_errors=True)
    for method, (configurations, elements, differing, largest) in sorted(totals.items()):
        print(f"{method}: {configurations} configurations, {elements} elements, {differing} differ, at most {largest} units")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--compare"]:
        rounds, first = (int(x) for x in (sys.argv[3:] + ["50", "0"][len(sys.argv) - 3 :]))
        compare(str(Path(sys.argv[2]).resolve()), rounds, first)
    else:
        default = Path(__file__).resolve().parents[2] / "worker/tests/data/mergekit_configs"
        golden(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else default)
