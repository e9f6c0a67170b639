"""A small random model in MiniCPM-Llama3-V-2_5's layout and the values that transformers, PyTorch and Pillow compute with it.

    python scripts/golden/minicpm.py [--out worker/tests/data/minicpm]
    python scripts/golden/minicpm.py --live target/debug/jradievo-worker 20 1   # that many random models, from that seed

Pinned: torch==2.6.0, transformers==5.23.0, tokenizers==0.23.3, pillow==13.0.0, safetensors==0.8.0, float32 on the CPU.

The weights are not stored: both sides compute them from a formula (`weights` here, `formula` in the test). The tower is
transformers' Idefics2VisionTransformer, given all parts of a picture in one padded batch; the resampler is built on
torch.nn.MultiheadAttention; the language model is LlamaForCausalLM; prompts come from the published chat template through
transformers' tokenizer; parts of pictures are cut with Pillow. Of the rules between these, only slicing, the position code
and the order of marks are stated again here.
"""
import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import tokenizers
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.models.idefics2.configuration_idefics2 import Idefics2VisionConfig
from transformers.models.idefics2.modeling_idefics2 import Idefics2VisionTransformer

TASK = "Findings, 所見?  "
NEW_TOKENS = 24
MARGIN = 2e-3
SALT = 1
IMAGES = ("wide", "tall", "square", "dot")
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<unk>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>",
           "</image>", "<slice>", "</slice>"]
CHAT_TEMPLATE = ("{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + "
                 "message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
                 "{% endif %}{{ content }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}")
VISION = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3, image_size=42, patch_size=7)
SLICES = dict(max_slice_nums=4, scale_resolution=28, patch_size=7)
QUERIES = 5
HEAD = 128
LLAMA = dict(hidden_size=256, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             vocab_size=272, rms_norm_eps=1e-5, max_position_embeddings=256, tie_word_embeddings=False)
PUBLISHED = dict(max_slice_nums=9, scale_resolution=448, patch_size=14)


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def noise(seed, count):
    """`count` numbers in [-1, 1) with 24 bits: splitmix64 from `seed`."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)


def weights(name, shape, salt):
    x = noise(fnv(f"{salt}:{name}".encode()), math.prod(shape))
    if len(shape) == 1:
        x = x * np.float32(0.3) + np.float32(1 if name.endswith("weight") else 0)
    elif "embed_tokens" not in name and "position_embedding" not in name and not name.endswith("query"):
        x = x * np.float32(math.sqrt(6.0 / math.prod(shape[1:])))
    return torch.from_numpy(x.astype(np.float16).astype(np.float32).reshape(shape))


def fill(module, prefix, salt):
    for name, p in module.named_parameters():
        p.data = weights(prefix + name, tuple(p.shape), salt)
    module.eval()


# --- Slicing, stated anew.

def multiple_of(length, step):
    return max(step, step * round(length / step))


def fit(width, height, c, enlarge):
    if enlarge or width * height > c["scale_resolution"] ** 2:
        aspect = width / height
        height = int(c["scale_resolution"] / math.sqrt(aspect))
        width = int(height * aspect)
    return multiple_of(width, c["patch_size"]), multiple_of(height, c["patch_size"])


def plan(width, height, c):
    """Size of the whole, and columns, rows and size of the slices, or none."""
    wanted = min(math.ceil(width * height / c["scale_resolution"] ** 2), c["max_slice_nums"])
    if wanted <= 1:
        return fit(width, height, c, True), None
    shapes = [(columns, count // columns) for count in (wanted - 1, wanted, wanted + 1) if 1 < count <= c["max_slice_nums"]
              for columns in range(1, count + 1) if count % columns == 0]
    target = math.log(width / height)
    columns, rows = min(shapes, key=lambda s: abs(target - math.log(s[0] / s[1])))
    cell = fit(multiple_of(width, columns) / columns, multiple_of(height, rows) / rows, c, True)
    return fit(width, height, c, False), (columns, rows, *cell)


def cut(image, c):
    whole, grid = plan(*image.size, c)
    parts = [image.resize(whole, Image.BICUBIC)]
    if grid:
        columns, rows, w, h = grid
        large = image.resize((columns * w, rows * h), Image.BICUBIC)
        parts += [large.crop((x * w, y * h, x * w + w, y * h + h)) for y in range(rows) for x in range(columns)]
    return parts, grid


# --- The model.

class Resampler(torch.nn.Module):
    def __init__(self, queries, width, kv_width):
        super().__init__()
        self.query = torch.nn.Parameter(torch.zeros(queries, width))
        self.kv_proj = torch.nn.Linear(kv_width, width, bias=False) if kv_width != width else torch.nn.Identity()
        self.attn = torch.nn.MultiheadAttention(width, width // HEAD, batch_first=True)
        self.ln_q, self.ln_kv, self.ln_post = (torch.nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.proj = torch.nn.Parameter(torch.zeros(width, width))

    def forward(self, x, sizes):
        longest = x.shape[1]
        code = torch.stack([torch.nn.functional.pad(position_code(h, w, x.new_empty(self.query.shape[1])), (0, 0, 0, longest - h * w))
                            for h, w in sizes])
        hidden = torch.tensor([[i >= h * w for i in range(longest)] for h, w in sizes])
        x = self.ln_kv(self.kv_proj(x))
        q = self.ln_q(self.query)[None].expand(len(sizes), -1, -1)
        return self.ln_post(self.attn(q, x + code, x, key_padding_mask=hidden)[0]) @ self.proj


def position_code(height, width, like):
    """Sine and cosine of the column, then of the row; float32, as the published model computes it."""
    quarter = like.shape[0] // 4
    omega = np.float32(1) / np.float32(10000) ** (np.arange(quarter, dtype=np.float32) / np.float32(quarter))
    rows, columns = np.divmod(np.arange(height * width), width)
    angle = lambda place: place.astype(np.float32)[:, None] * omega
    parts = [f(angle(place)) for place in (columns, rows) for f in (np.sin, np.cos)]
    return torch.from_numpy(np.concatenate(parts, 1).astype(np.float32))


def pixels(part, p):
    """(3, H, W) to the form that the tower is given: patches side by side in one strip of a patch's height."""
    x = (torch.from_numpy(np.array(part)).float() / 255 - 0.5) / 0.5
    h, w = x.shape[0] // p, x.shape[1] // p
    return x.reshape(h, p, w, p, 3).permute(4, 1, 0, 2, 3).reshape(3, p, h * w * p), (h, w)


def vision_features(tower, parts, padded=True):
    """Features of all parts, (parts, longest, width), and the parts' sizes in patches."""
    patch = tower.config.patch_size
    strips, sizes = zip(*(pixels(part, patch) for part in parts))
    longest = max(s.shape[-1] for s in strips)
    grow = lambda x, axis, to: torch.nn.functional.pad(x, (0, 0) * (x.dim() - 1 - axis) + (0, to - x.shape[axis]))
    if not padded:
        alone = [tower(pixel_values=s[None]).last_hidden_state[0] for s in strips]
        return torch.stack([grow(f, 0, longest // patch) for f in alone]), sizes
    batch = torch.stack([grow(s, 2, longest) for s in strips])
    # The published code means to mask the padding and does not: all places are seen, and positions spread over all of them.
    mask = torch.ones(len(parts), 1, longest // patch, dtype=torch.bool)
    return tower(pixel_values=batch, patch_attention_mask=mask).last_hidden_state, sizes


def tokenizer():
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    t = tokenizers.Tokenizer(tokenizers.models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    t.decoder = tokenizers.decoders.ByteLevel()
    t.add_special_tokens(SPECIAL)
    # As Llama 3's own tokenizer has it, although the template writes the begin of text itself.
    bos = SPECIAL[0]
    t.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, t.token_to_id(bos))])
    return t


def placeholder(grid, queries):
    part = "<image>" + "<unk>" * queries + "</image>"
    if not grid:
        return part
    columns, rows = grid[:2]
    return part + "<slice>" + "\n".join([part * columns] * rows) + "</slice>"


def prompt_ids(fast, grid, queries=QUERIES, task=TASK):
    message = [{"role": "user", "content": "\uFFFC\n" + task}]
    text = fast.apply_chat_template(message, tokenize=False).replace("\uFFFC", placeholder(grid, queries))
    return fast(text, add_special_tokens=False).input_ids


def config(eos, llama=LLAMA, vision=VISION, slices=SLICES, **more):
    return {"architectures": ["MiniCPMV"], "model_type": "minicpmv", "version": "2.5", "hidden_act": "silu", "attention_bias": False,
            **llama, "rope_theta": 500000.0, "rope_scaling": None, "bos_token_id": 256, "eos_token_id": eos, "torch_dtype": "float16",
            "query_num": QUERIES, "batch_vision_input": True, "drop_vision_last_layer": False, "slice_mode": True,
            "slice_config": {**slices, "model_type": "minicpmv"}, "vision_config": {**vision, "model_type": "idefics2"}, **more}


class Model:
    """All parts of a model with the formula's weights, from its config.json."""

    def __init__(self, c, salt):
        vision = {k: v for k, v in c["vision_config"].items() if k != "model_type"}
        self.c = c
        self.tower = Idefics2VisionTransformer(Idefics2VisionConfig(**vision, attn_implementation="eager"))
        if c["drop_vision_last_layer"]:
            self.tower.encoder.layers = self.tower.encoder.layers[:-1]
        self.resampler = Resampler(c["query_num"], c["hidden_size"], vision["hidden_size"])
        llama = {k: c[k] for k in LLAMA}
        self.llama = LlamaForCausalLM(LlamaConfig(**llama, attn_implementation="eager",
                                                  rope_parameters={"rope_type": "default", "rope_theta": c["rope_theta"]}))
        self.named = {"vpm.": self.tower, "resampler.": self.resampler, "llm.": self.llama}
        for prefix, module in self.named.items():
            fill(module, prefix, salt)

    def tensors(self):
        """As stored: float16, tied matrices once."""
        return {prefix + name: p.half() for prefix, module in self.named.items() for name, p in module.named_parameters()}

    def read(self, image, fast, task=TASK):
        """Grid, prompt ids, tower features with sizes, feature rows, embeddings of the prompt."""
        parts, grid = cut(image, self.c["slice_config"])
        features, shapes = vision_features(self.tower, parts, self.c["batch_vision_input"])
        rows = self.resampler(features, shapes).flatten(0, 1)
        ids = prompt_ids(fast, grid, self.c["query_num"], task)
        embeds = self.llama.get_input_embeddings()(torch.tensor([ids]))
        embeds[0, [i for i, token in enumerate(ids) if token == fast.unk_token_id]] = rows
        return parts, grid, ids, features, shapes, rows, embeds


def answers(llama, embeds):
    embed = llama.get_input_embeddings()
    step, ids, margins = llama(inputs_embeds=embeds, use_cache=True), [], []
    logits = step.logits[0, -1]
    for _ in range(NEW_TOKENS):
        top = step.logits[0, -1].topk(2)
        margins.append(float(top.values[0] - top.values[1]))
        ids.append(int(top.indices[0]))
        step = llama(inputs_embeds=embed(torch.tensor([[ids[-1]]])), past_key_values=step.past_key_values, use_cache=True)
    return logits, ids, margins


def sizes():
    rng = np.random.default_rng(5)
    random = [tuple(int(v) for v in np.exp(rng.uniform(0.5, 8.2, 2))) for _ in range(150)]
    near = [(448 * a + b, 448 * c + d) for a, c in ((1, 1), (1, 2), (2, 1), (3, 3), (2, 4)) for b in (-1, 0, 1) for d in (-1, 0, 1)]
    return random + near + [(512, 512), (1, 1), (1, 3000), (3000, 1), (1344, 1344), (2048, 2500), (2021, 2021), (7, 9)]


def fast_tokenizer(raw):
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=SPECIAL[0], eos_token=SPECIAL[1], unk_token="<unk>",
                                   chat_template=CHAT_TEMPLATE)


def random_config(rng):
    pick = lambda *values: values[int(rng.integers(len(values)))]
    heads, width = pick(1, 2, 4), pick(128, 192, 256)
    patch = pick(4, 7, 9)
    tower_heads = pick(1, 3)
    tower = pick(tower_heads * 12, tower_heads * 20, 192)
    llama = dict(LLAMA, hidden_size=width, intermediate_size=pick(40, 72), num_hidden_layers=pick(1, 3), num_attention_heads=4,
                 num_key_value_heads=heads, max_position_embeddings=2048, tie_word_embeddings=pick(True, False))
    vision = dict(hidden_size=tower, intermediate_size=pick(24, 50), num_hidden_layers=pick(2, 3), num_attention_heads=tower_heads,
                  image_size=patch * pick(3, 5, 11) + pick(0, 1), patch_size=patch)
    slices = dict(max_slice_nums=pick(1, 2, 5, 9), scale_resolution=patch * pick(2, 4, 6) + pick(0, 1, 3), patch_size=patch)
    return config(int(rng.integers(256)), llama, vision, slices, query_num=pick(1, 4, 9), batch_vision_input=pick(True, False),
                  drop_vision_last_layer=pick(True, False))


def live(program, count, seed):
    """Random models and pictures through `jradievo-worker generate`, against what transformers computes with them."""
    rng, raw = np.random.default_rng(seed), tokenizer()
    fast, rows, equal, ties, forms = fast_tokenizer(raw), 0, 0, [], 0
    for number in range(count):
        c, salt = random_config(rng), int(rng.integers(2**31))
        model, task = Model(c, salt), TASK + "".join(chr(int(v)) for v in rng.integers(0x3041, 0x3096, 4))
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            raw.save(str(folder / "tokenizer.json"))
            (folder / "config.json").write_text(json.dumps(c))
            save_file(model.tensors(), folder / "model.safetensors")
            images, wanted = [], []
            for i in range(5):
                width, height = (int(v) for v in np.exp(rng.uniform(1.5, 5.3, 2)))
                picture(width, height).save(folder / f"{i}.png")
                images += ["--image", str(folder / f"{i}.png")]
                *_, ids, _, _, _, embeds = model.read(picture(width, height), fast, task)
                wanted.append((answers(model.llama, embeds), len(ids)))
            forms += len({positions for _, positions in wanted})
            command = [program, "generate", "--device", "cpu", "--json", "--model", str(folder), "--task", task, "--max-new-tokens",
                       str(NEW_TOKENS), "--batch-size", str(int(rng.integers(1, 6))), *images]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
        ends = {c["eos_token_id"], raw.token_to_id("<|eot_id|>")}
        for line, ((_, tokens, margins), _) in zip(run.stdout.splitlines(), wanted, strict=True):
            stop = next((i + 1 for i, t in enumerate(tokens) if t in ends), NEW_TOKENS)
            got, want = json.loads(line)["token_ids"], tokens[:stop]
            rows, equal = rows + 1, equal + (got == want)
            if got != want:
                part = next(i for i, (a, b) in enumerate(zip(got + [-1], want + [-1])) if a != b)
                ties.append(margins[part])
                print(f"model {number}: parted at token {part}, where the two best logits are {margins[part]:.1e} apart")
    print(f"{count} models, {rows} pictures in {forms} forms of prompts: {equal} answers equal", f"near-ties: {ties}" if ties else "")


def picture(width, height):
    """A picture of the formula's noise, for parts of the published sizes."""
    values = noise(fnv(f"{width}x{height}".encode()), width * height * 3) * 128 + 128
    return Image.fromarray(values.astype(np.uint8).reshape(height, width, 3))


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description="Reference values of a small random MiniCPM-Llama3-V-2_5")
    parser.add_argument("--out", default="worker/tests/data/minicpm")
    parser.add_argument("--live", nargs=3, metavar=("PROGRAM", "COUNT", "SEED"))
    args = parser.parse_args()
    if args.live:
        return live(args.live[0], int(args.live[1]), int(args.live[2]))
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    raw = tokenizer()
    raw.save(str(out / "tokenizer.json"))
    fast, model = fast_tokenizer(raw), Model(config(0), SALT)
    tensors, samples, margins = {}, [], []
    for name in IMAGES:
        image = Image.open(out.parent / "vlm" / "images" / f"{name}.png").convert("RGB")
        parts, grid, ids, features, shapes, rows, embeds = model.read(image, fast)
        logits, tokens, margin = answers(model.llama, embeds)
        margins += margin
        tensors |= {f"{name}.logits": logits, f"{name}.features": rows}
        if name in ("wide", "dot"):
            tensors |= {f"{name}.tower.{i}": f[:h * w] for i, (f, (h, w)) in enumerate(zip(features, shapes))}
        samples.append({"image": f"{name}.png", "grid": list(grid or []), "ids": ids, "token_ids": tokens,
                        "parts": [[*p.size, f"{fnv(p.tobytes()):016x}"] for p in parts]})
    assert min(margins) > MARGIN, f"a near tie ({min(margins)}); choose another salt"
    # The end id is chosen so that rows end at different steps.
    ends = {t: [(s["token_ids"] + [t]).index(t) for s in samples] for t in range(256)}
    eos = max(ends, key=lambda t: (len(set(ends[t])), -t))
    for s in samples:
        stop = eos in s["token_ids"]
        s["token_ids"] = s["token_ids"][:s["token_ids"].index(eos) + 1] if stop else s["token_ids"]
        s["stop"] = "eos" if stop else "length"
    large = []
    for width, height in ((512, 512), (613, 377), (300, 1200), (90, 70)):
        parts, _ = cut(picture(width, height), PUBLISHED)
        large.append({"size": [width, height], "parts": [[*p.size, f"{fnv(p.tobytes()):016x}"] for p in parts]})
    plans = [[w, h, *whole, *(grid or [])] for w, h in sizes() for whole, grid in [plan(w, h, PUBLISHED)]]
    reference = {"task": TASK, "salt": SALT, "max_new_tokens": NEW_TOKENS, "samples": samples, "large": large, "plans": plans}
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "reference.safetensors")
    (out / "config.json").write_text(json.dumps(config(eos), indent=1) + "\n")
    (out / "reference.json").write_text(json.dumps(reference, ensure_ascii=False) + "\n")
    print("end id", eos, "lengths", [len(s["token_ids"]) for s in samples], "positions", [len(s["ids"]) for s in samples],
          "smallest margin", min(margins))


if __name__ == "__main__":
    main()
