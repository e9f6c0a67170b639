"""Vision tower, S2, projector and the whole VLM against transformers and PyTorch, side by side on random Bunnies.

    cargo build --workspace --all-targets
    python scripts/golden/vision_parity.py [--seeds 16] [--first 0]

Pinned: torch==2.6.0, transformers==5.23.0, pillow==13.0.0, safetensors==0.8.0. Every seed draws tower, scales (one, as v1.0, or
two to four, as v1.1), projector, language model and a picture, and compares in float32 the tower's features, the projected
ones, the logits after the prompt and the greedy tokens. Prompt and tokenizer are the embedded family's. Ends with 1 on a
relative difference above 1e-4 or on another token.
"""
import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, SiglipVisionConfig, SiglipVisionModel

from forward import ROOT, add_arguments, forward, relative
from vlm_tiny import PREFIX, prepare, randomise, tower_features

LIMIT = 1e-4
NEW_TOKENS = 24
TEMPLATE = ("A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
            "detailed, and polite answers to the user's questions. USER: <image>\n{task} ASSISTANT:")
TASKS = ["所見は？", "このレントゲン写真を見て、所見文を書いてください。", "Describe the picture.", "胸水\n心拡大"]


def draw(seed):
    rng = random.Random(seed)
    patch, grid = rng.randint(3, 9), rng.randint(2, 6)
    heads, scales = rng.randint(1, 4), rng.choice([1, 1, 2, 3, 3, 4])
    image = patch * grid + rng.randint(0, patch - 1)
    vision = dict(hidden_size=heads * 2 * rng.randint(2, 10), intermediate_size=rng.randint(8, 60), num_hidden_layers=rng.randint(2, 5),
                  num_attention_heads=heads, image_size=image, patch_size=patch, layer_norm_eps=1e-6, hidden_act="gelu_pytorch_tanh")
    kv = rng.choice([1, 2])
    heads = kv * rng.choice([1, 2, 3])
    llama = dict(hidden_size=heads * 8, intermediate_size=rng.randint(16, 90), num_hidden_layers=rng.randint(1, 3), num_attention_heads=heads,
                 num_key_value_heads=kv, vocab_size=1024, rms_norm_eps=1e-5, max_position_embeddings=1024, tie_word_embeddings=False)
    return vision, llama, [image * (i + 1) for i in range(scales)], rng


def picture(rng, path):
    width, height = rng.randint(5, 200), rng.randint(5, 200)
    if rng.random() < 0.3:
        height = width
    noise = np.random.default_rng(rng.randrange(1 << 30)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    y, x = np.mgrid[0:height, 0:width]
    smooth = (127 + 100 * np.sin(x / rng.uniform(2, 20)) * np.cos(y / rng.uniform(2, 20))).astype(np.uint8)
    image = Image.fromarray(noise if rng.random() < 0.3 else np.stack([smooth, noise[:, :, 0] // 4 + smooth // 2, 255 - smooth], 2))
    (image.convert("L") if rng.random() < 0.4 else image).save(path)


def write(folder, vision, llama, scales, siglip, language, projector):
    folder.mkdir(parents=True)
    family = ROOT / "tests" / "data" / "family" / "vlm"
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"):
        shutil.copy(family / name, folder / name)
    ids = json.loads((family / "config.json").read_text())
    config = llama | {"architectures": ["BunnyLlamaForCausalLM"], "model_type": "bunny-llama", "hidden_act": "silu", "attention_bias": False,
                      "rope_theta": 500000.0, "rope_scaling": None, "torch_dtype": "float16", "bos_token_id": ids["bos_token_id"],
                      "eos_token_id": ids["eos_token_id"], "mm_hidden_size": vision["hidden_size"] * len(scales), "mm_projector_type": "mlp2x_gelu",
                      "use_mm_proj": True, "mm_vision_tower": "random-siglip", "image_aspect_ratio": "pad", "unfreeze_vision_tower": True,
                      "vision_config": vision}
    if len(scales) > 1:
        config |= {"use_s2": True, "s2_scales": ",".join(map(str, scales))}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    state = {k: v for k, v in language.state_dict().items()}
    state |= {PREFIX + k.removeprefix("vision_model."): v for k, v in siglip.state_dict().items()}
    state |= {f"model.mm_projector.{k}": v for k, v in projector.state_dict().items()}
    save_file({k: v.half().contiguous() for k, v in state.items()}, folder / "model.safetensors", metadata={"format": "pt"})


def build(seed, count=None):
    """A random Bunny; `count` scales in place of the number drawn."""
    vision, llama, scales, rng = draw(seed)
    scales = [vision["image_size"] * (i + 1) for i in range(count)] if count else scales
    generator = torch.Generator().manual_seed(seed)
    language = LlamaForCausalLM(LlamaConfig(**llama, attn_implementation="eager", rope_parameters={"rope_type": "default", "rope_theta": 500000.0}))
    siglip = SiglipVisionModel(SiglipVisionConfig(**vision, attn_implementation="eager"))
    hidden = llama["hidden_size"]
    projector = torch.nn.Sequential(torch.nn.Linear(vision["hidden_size"] * len(scales), hidden), torch.nn.GELU(), torch.nn.Linear(hidden, hidden))
    for module, scale in ((language, 1.3), (siglip, 1.0), (projector, 3.0)):
        randomise(module.eval(), generator, scale)
    return vision, llama, scales, rng, siglip, language, projector


@torch.no_grad()
def compare(seed, programs, worst):
    vision, llama, scales, rng, siglip, language, projector = build(seed)
    task, resize = rng.choice(TASKS), rng.choice([None, None, [rng.randint(20, 90), rng.randint(20, 90)]])
    with tempfile.TemporaryDirectory() as temporary:
        folder, image = Path(temporary) / "vlm", Path(temporary) / "image.png"
        write(folder, vision, llama, scales, siglip, language, projector)
        picture(rng, image)
        request = {"vlm": str(folder), "dtype": "float32", "image": str(image), "task": task, "image_resize": resize, "max_new_tokens": NEW_TOKENS}
        ours = forward(programs, [request])[0]
        _, x = prepare(image, resize, scales[-1])
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        stop = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    stop = stop if isinstance(stop, list) else [stop]
    left, right = TEMPLATE.format(task=task).split("<image>")
    before, after = tokenizer.encode(left).ids, tokenizer.encode(right).ids[1:]
    assert ours["before"].tolist() == before and ours["after"].tolist() == after
    tower = tower_features(siglip, x, scales, vision["image_size"])
    projected = projector(tower)
    embed = language.get_input_embeddings()
    step = language(inputs_embeds=torch.cat((embed(torch.tensor([before])), projected, embed(torch.tensor([after]))), 1), use_cache=True)
    first, ids, gaps = step.logits[0, -1], [], []
    while len(ids) < NEW_TOKENS and not (ids and ids[-1] in stop):
        top = step.logits[0, -1].topk(2)
        gaps.append(float(top.values[0] - top.values[1]))
        ids.append(int(top.indices[0]))
        step = language(inputs_embeds=embed(torch.tensor([[ids[-1]]])), past_key_values=step.past_key_values, use_cache=True)
    differences = {"tower": relative(ours["tower"], tower[0]), "projected": relative(ours["projected"], projected[0]),
                   "logits": relative(ours["logits"], first)}
    kind = "v1.1" if len(scales) > 1 else "v1.0"
    for name, value in differences.items():
        worst.setdefault(kind, {})[name] = max(worst.get(kind, {}).get(name, 0.0), value)
    same = ours["ids"].tolist() == ids
    good = same and max(differences.values()) <= LIMIT
    print(f"{seed:4}  {kind} scales {len(scales)}  image {vision['image_size']} patch {vision['patch_size']}  " +
          "  ".join(f"{k} {v:.1e}" for k, v in differences.items()) +
          f"  {len(ids)} tokens {'the same' if same else 'DIFFER'} (smallest gap {min(gaps):.1e})" + ("" if good else "  FAILED"))
    return good


def main():
    parser = argparse.ArgumentParser(description="Vision and the whole VLM against transformers")
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args()
    worst = {}
    good = [compare(seed, args.programs, worst) for seed in range(args.first, args.first + args.seeds)]
    for kind, values in sorted(worst.items()):
        print(f"{kind}: largest relative difference " + ", ".join(f"{k} {v:.2e}" for k, v in values.items()))
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
