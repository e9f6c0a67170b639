"""Two random Bunnies of unusual shapes and the values that transformers, PyTorch and Pillow compute with them.

    python scripts/golden/vlm_tiny.py [--out worker/tests/data/vlm]

Pinned: torch==2.6.0, transformers==5.23.0, pillow==13.0.0, safetensors==0.8.0. Weights are stored in float16 and computed with in
float32. `v11` has S2 and grouped key heads; `v10` has one scale and one key head. Each folder holds a model and
`reference.json` + `reference.safetensors`: pixels after the resizes, tower features, projected features, logits of the last
prompt position, greedy ids. `resize.safetensors` holds Pillow's bicubic on its own.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, SiglipVisionConfig, SiglipVisionModel

PREFIX = "model.vision_tower.vision_tower.vision_model."
NEW_TOKENS = 20
# Greedy choices closer than this could be decided by rounding; the seed is chosen so that none is.
MARGIN = 2e-3
SIZES = {"wide": (61, 47, "L"), "tall": (33, 71, "RGB"), "square": (40, 40, "RGB"), "dot": (5, 3, "RGBA")}
PIXELS = ("wide", "tall")
RESIZES = [("wide", 20, 31), ("wide", 100, 13), ("tall", 33, 40), ("tall", 7, 71), ("square", 60, 60), ("dot", 40, 1),
           ("wide", 59, 42), ("wide", 50, 30), ("tall", 16, 35), ("tall", 17, 70)]
SHAPES = {
    "v11": dict(
        seed=12, resize=[50, 44], before=9, after=7,
        llama=dict(hidden_size=48, intermediate_size=56, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
                   vocab_size=160, rms_norm_eps=1e-5, max_position_embeddings=128, tie_word_embeddings=False),
        rope_theta=500000.0, s2="28,56,84",
        vision=dict(hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3, image_size=28, patch_size=7,
                    layer_norm_eps=1e-6, hidden_act="gelu_pytorch_tanh")),
    # A grid that leaves pixels over, one key head, tied embeddings, a head size of its own.
    "v10": dict(
        seed=15, resize=None, before=5, after=11,
        llama=dict(hidden_size=30, intermediate_size=44, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
                   head_dim=12, vocab_size=150, rms_norm_eps=1e-6, max_position_embeddings=96, tie_word_embeddings=True),
        rope_theta=10000.0, s2=None,
        vision=dict(hidden_size=20, intermediate_size=28, num_hidden_layers=4, num_attention_heads=2, image_size=31, patch_size=7,
                    layer_norm_eps=1e-6, hidden_act="gelu_pytorch_tanh")),
}


def draw(name):
    width, height, mode = SIZES[name]
    rng = np.random.default_rng(sum(name.encode()))
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 90 * np.sin(x / (4 + c) + c) * np.cos(y / (5 + c)) for c in range(4)]
    values = np.stack(waves, 2) + rng.normal(0, 25, (height, width, 4))
    values = values.clip(0, 255).astype(np.uint8)
    return Image.fromarray(values[:, :, 0] if mode == "L" else values[:, :, :len(mode)], mode)


def prepare(path, resize, side):
    image = Image.open(path)
    image = image.convert("RGB")
    if resize:
        image = image.resize(tuple(resize), Image.BICUBIC)
    w, h = image.size
    if w != h:
        square = Image.new("RGB", (max(w, h),) * 2, (127, 127, 127))
        square.paste(image, ((max(w, h) - w) // 2, (max(w, h) - h) // 2))
        image = square
    raw = np.array(image.resize((side, side), Image.BICUBIC))
    x = ((raw * (1 / 255)).astype(np.float32) - np.float32(0.5)) / np.float32(0.5)
    return torch.from_numpy(raw), torch.from_numpy(x).permute(2, 0, 1)[None]


def randomise(module, generator, scale):
    for name, p in module.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if p.dim() == 1:
            value = 1 + 0.2 * noise if "norm" in name and name.endswith("weight") else 0.2 * noise
        else:
            value = noise * (1.0 if "embed" in name and p.dim() == 2 else scale / np.sqrt(p[0].numel()))
        p.data = value.half().float()


def tower_features(siglip, x, scales, base):
    """Bunny's multiscale_forward: resize, cut, run, put together, area, join."""
    out = []
    for scale in scales:
        y = F.interpolate(x, size=(scale, scale), mode="bicubic", align_corners=False) if scale != x.shape[-1] else x
        n = scale // base
        tiles = torch.cat([y[:, :, r * base:(r + 1) * base, c * base:(c + 1) * base] for r in range(n) for c in range(n)])
        f = siglip(tiles, output_hidden_states=True).hidden_states[-2]
        g = int(f.shape[1] ** 0.5)
        f = f.transpose(1, 2).reshape(n * n, -1, g, g)
        whole = torch.cat([torch.cat([f[r * n + c] for c in range(n)], 2) for r in range(n)], 1)[None]
        out.append(F.interpolate(whole, size=(g, g), mode="area"))
    return torch.cat(out, 1).flatten(2).transpose(1, 2)


def make(name, shape, out):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(shape["seed"])
    llama = LlamaForCausalLM(LlamaConfig(**shape["llama"], bos_token_id=1, eos_token_id=2, attn_implementation="eager",
                                         rope_parameters={"rope_type": "default", "rope_theta": shape["rope_theta"]})).eval()
    siglip = SiglipVisionModel(SiglipVisionConfig(**shape["vision"], attn_implementation="eager")).eval()
    base, width, hidden = shape["vision"]["image_size"], shape["vision"]["hidden_size"], shape["llama"]["hidden_size"]
    scales = [int(s) for s in shape["s2"].split(",")] if shape["s2"] else [base]
    projector = torch.nn.Sequential(torch.nn.Linear(width * len(scales), hidden), torch.nn.GELU(), torch.nn.Linear(hidden, hidden))
    for module, scale in ((llama, 1.3), (siglip, 1.0), (projector, 3.0)):
        randomise(module, generator, scale)

    vocab = shape["llama"]["vocab_size"]
    before = [1] + torch.randint(3, vocab, (shape["before"] - 1,), generator=generator).tolist()
    after = torch.randint(3, vocab, (shape["after"],), generator=generator).tolist()
    embed = llama.get_input_embeddings()
    tensors, samples, margins = {}, [], []
    for image in SIZES:
        raw, x = prepare(out / "images" / f"{image}.png", shape["resize"], scales[-1])
        features = tower_features(siglip, x, scales, base)
        projected = projector(features)
        inputs = torch.cat((embed(torch.tensor([before])), projected, embed(torch.tensor([after]))), 1)
        step, ids = llama(inputs_embeds=inputs, use_cache=True), []
        tensors |= {f"{image}.features": features[0], f"{image}.projected": projected[0], f"{image}.logits": step.logits[0, -1]}
        if image in PIXELS:
            tensors[f"{image}.pixels"] = raw
        for _ in range(NEW_TOKENS):
            top = step.logits[0, -1].topk(2)
            margins.append(float(top.values[0] - top.values[1]))
            ids.append(int(top.indices[0]))
            step = llama(inputs_embeds=embed(torch.tensor([[ids[-1]]])), past_key_values=step.past_key_values, use_cache=True)
        samples.append({"id": image, "image": f"images/{image}.png", "token_ids": ids})
    # End ids are chosen afterwards, so that rows end at different steps and one not at all.
    firsts = {}
    for token in range(vocab):
        ends = [s["token_ids"].index(token) + 1 if token in s["token_ids"] else 0 for s in samples]
        firsts[token] = ends
    def spread(pair):
        ends = [min([e for e in (firsts[pair[0]][i], firsts[pair[1]][i]) if e] or [99]) for i in range(len(samples))]
        return (len(set(ends)), 99 in ends, -ends.count(1), -pair[0])
    eos = list(max(((a, b) for a in range(3, vocab) for b in range(a + 1, vocab) if any(firsts[a]) and any(firsts[b])), key=spread))
    for s in samples:
        ends = [i for i, t in enumerate(s["token_ids"]) if t in eos]
        s["token_ids"] = s["token_ids"][:ends[0] + 1] if ends else s["token_ids"]
        s["stop"] = "eos" if ends else "length"
    assert min(margins) > MARGIN, f"{name}: a near tie ({min(margins)}); choose another seed"

    state = {k: v for k, v in llama.state_dict().items() if not (k == "lm_head.weight" and shape["llama"]["tie_word_embeddings"])}
    state |= {PREFIX + k.removeprefix("vision_model."): v for k, v in siglip.state_dict().items()}
    state |= {f"model.mm_projector.{k}": v for k, v in projector.state_dict().items()}
    save_file({k: v.half().contiguous() for k, v in state.items()}, folder / "model.safetensors")
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, folder / "reference.safetensors")
    config = {"architectures": ["BunnyLlamaForCausalLM"], "model_type": "bunny-llama", "hidden_act": "silu", "attention_bias": False,
              **shape["llama"], "rope_theta": shape["rope_theta"], "rope_scaling": None, "bos_token_id": 1, "eos_token_id": 2,
              "torch_dtype": "float16", "mm_hidden_size": width * len(scales), "mm_projector_type": "mlp2x_gelu", "use_mm_proj": True,
              "mm_vision_tower": "random", "image_aspect_ratio": "pad", "vision_config": shape["vision"]}
    if shape["s2"]:
        config |= {"use_s2": True, "s2_scales": shape["s2"]}
    reference = {"before": before, "after": after, "pre_resize": shape["resize"], "max_new_tokens": NEW_TOKENS, "samples": samples}
    for file, value in (("config", config), ("generation_config", {"bos_token_id": 1, "eos_token_id": eos}), ("reference", reference)):
        (folder / f"{file}.json").write_text(json.dumps(value, indent=1) + "\n")
    print(name, "end ids", eos, "lengths", [len(s["token_ids"]) for s in samples], "smallest margin", min(margins))


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description="Reference values of two random Bunnies")
    parser.add_argument("--out", default="worker/tests/data/vlm")
    out = Path(parser.parse_args().out)
    (out / "images").mkdir(parents=True, exist_ok=True)
    for name in SIZES:
        draw(name).save(out / "images" / f"{name}.png")
    resized = {}
    for name, width, height in RESIZES:
        image = Image.open(out / "images" / f"{name}.png").convert("RGB").resize((width, height), Image.BICUBIC)
        resized[f"{name}.{width}x{height}"] = torch.from_numpy(np.array(image))
    save_file(resized, out / "resize.safetensors")
    for name, shape in SHAPES.items():
        make(name, shape, out)


if __name__ == "__main__":
    main()
