"""An exported Bunny loaded by Bunny's own code in transformers: the same prompt ids, features, logits and greedy tokens.

    git clone https://github.com/BAAI-DCAI/Bunny            # not part of this project; Apache-2.0
    pip install torch==2.6.0 torchvision==0.21.0 transformers==4.40.0 accelerate==0.30.1 timm==0.9.16 einops safetensors pillow==13.0.0 'numpy<2'
    cargo build --workspace --all-targets
    python scripts/golden/bunny_transformers.py Bunny [--seeds 6]

Merges with `jradievo-worker merge` (the embedded family, and random Bunnies with and without S2), loads each exported folder
with Bunny's `load_pretrained_model`, and asks both sides about the same pictures. Bunny's loader fetches the tower's shape and its image
processor from a hub by the name in `mm_vision_tower`; here that one key of a copy of config.json names a folder with a SigLIP of
the same shape and *random* weights, so that the weights used can only be the export's. Computed in float32. Ends with 1 if
ids or tokens differ or a relative difference is above 1e-4.
"""
import argparse
import json
import os
import shutil
import sys
import tempfile
import types
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

sys.path.insert(0, str(Path(__file__).resolve().parent))
import vision_parity
from forward import ROOT, add_arguments, forward, relative, worker

LIMIT = 1e-4
FAMILY = ROOT / "tests" / "data" / "family"


def stand_ins():
    """Packages that Bunny's loader imports for towers which are not used here."""
    for name in ("xformers", "xformers.ops"):
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = types.ModuleType(name)
    if not hasattr(sys.modules["xformers"], "ops"):
        sys.modules["xformers"].ops = sys.modules["xformers.ops"]


def model(name, path):
    return {"name": name, "path": str(path)}


def recipe(vlm, base, sources):
    terms = [{"model": model(f"s{i}", path), "weight": 0.3 + 0.2 * i, "drop_rate": 0.2, "trim_rate": 0.1} for i, path in enumerate(sources)]
    return {"format": 1, "convention": "paper", "base": model("base", base), "vlm": model("vlm", vlm), "sources": terms, "scale": 1.0,
            "mask": "independent", "mask_seed": 7}


def merge(programs, folder, **models):
    (folder / "recipe.json").write_text(json.dumps(recipe(**models)))
    worker(programs, "merge", folder / "recipe.json", "--out", folder / "merged")
    return folder / "merged"


def language_folder(vlm, out, seed):
    """The VLM's language model, moved at random: a source to merge."""
    generator = torch.Generator().manual_seed(seed)
    out.mkdir()
    state = {k: v for k, v in load_file(vlm / "model.safetensors").items() if "vision_tower" not in k and "mm_projector" not in k}
    moved = {k: (v.float() + 0.05 * v.float().abs().mean() * torch.randn(v.shape, generator=generator)).half() for k, v in state.items()}
    save_file(moved, out / "model.safetensors", metadata={"format": "pt"})
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(vlm / name, out / name)
    return out


def for_bunny(exported, folder):
    """The exported folder with the tower's hub name replaced by a folder here, and merges written as "a b", the one form that
    tokenizers before 0.20 read (the embedded family's are pairs; published Llama 3 tokenizers have this form already)."""
    config = json.loads((exported / "config.json").read_text())
    vision = {k: v for k, v in config["vision_config"].items() if k != "model_type"}
    tower = folder / "siglip"
    SiglipVisionModel(SiglipVisionConfig(**vision)).save_pretrained(tower)
    side = vision["image_size"]
    SiglipImageProcessor(size={"height": side, "width": side}, resample=3).save_pretrained(tower)
    copy = folder / "bunny"
    copy.mkdir()
    for path in exported.iterdir():
        if path.name not in ("config.json", "tokenizer.json"):
            (copy / path.name).symlink_to(path)
    tokenizer = json.loads((exported / "tokenizer.json").read_text(encoding="utf-8"))
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    tokenizer["model"]["merges"] = merges
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    (copy / "config.json").write_text(json.dumps(config | {"mm_vision_tower": str(tower)}))
    return copy


class Bunny:
    """Bunny's own code around one exported folder."""

    def __init__(self, exported, folder):
        from bunny.model.builder import load_pretrained_model
        self.tokenizer, self.model, self.processor, _ = load_pretrained_model(
            str(for_bunny(exported, folder)), None, "bunny", "llama3-8b", device="cpu")
        self.model.float().eval()
        # The loader takes Llama 3's number, 128001, which small vocabularies lack; one answer at a time needs no padding.
        self.model.generation_config.pad_token_id = json.loads((exported / "config.json").read_text())["eos_token_id"]

    @torch.no_grad()
    def answer(self, image, resize, task, count):
        from bunny.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
        from bunny.conversation import conv_templates
        from bunny.util.mm_utils import process_images, tokenizer_image_token
        talk = conv_templates["bunny"].copy()
        talk.append_message(talk.roles[0], DEFAULT_IMAGE_TOKEN + "\n" + task)
        talk.append_message(talk.roles[1], None)
        ids = tokenizer_image_token(talk.get_prompt(), self.tokenizer, IMAGE_TOKEN_INDEX, return_tensors="pt")[None]
        at = ids[0].tolist().index(IMAGE_TOKEN_INDEX)
        picture = Image.open(image).convert("RGB")
        if resize:
            picture = picture.resize(tuple(resize), Image.BICUBIC)
        pixels = process_images([picture], self.processor, self.model.config).float()
        out = {"before": ids[0, :at], "after": ids[0, at + 1:], "tower": self.model.get_vision_tower()(pixels)[0],
               "projected": self.model.encode_images(pixels)[0],
               # The image's placeholder is overwritten in what is passed in, so each call has its own.
               "logits": self.model(ids.clone(), images=pixels).logits[0, -1].float()}
        written = self.model.generate(ids.clone(), images=pixels, do_sample=False, max_new_tokens=count, use_cache=True, repetition_penalty=1.0)
        return out | {"ids": written[0, ids.shape[1]:]}


def check(name, exported, pictures, task, resize, count, programs, folder):
    bunny = Bunny(exported, folder)
    requests = [{"vlm": str(exported), "dtype": "float32", "image": str(p), "task": task, "image_resize": resize, "max_new_tokens": count} for p in pictures]
    size = ["--image-resize", "x".join(map(str, resize))] if resize else []
    lines = worker(programs, "generate", "--model", exported, "--image", *pictures, "--task", task, *size, "--max-new-tokens", count, "--json")
    texts = [json.loads(line) for line in lines.splitlines()]
    worst, good, tokens = {}, True, 0
    for path, ours, line in zip(pictures, forward(programs, requests), texts):
        theirs = bunny.answer(path, resize, task, count)
        for key in ("before", "after", "ids"):
            if ours[key].tolist() != theirs[key].tolist():
                print(f"{name} {path.name}: {key} differ\n  here  {ours[key].tolist()}\n  Bunny {theirs[key].tolist()}")
                good = False
        good &= line["token_ids"] == theirs["ids"].tolist()
        tokens += len(theirs["ids"])
        text = bunny.tokenizer.decode(theirs["ids"], skip_special_tokens=True).strip()
        if line["text"] != text:
            print(f"{name} {path.name}: texts differ\n  here  {line['text']!r}\n  Bunny {text!r}")
            good = False
        for key in ("tower", "projected", "logits"):
            worst[key] = max(worst.get(key, 0.0), relative(ours[key], theirs[key]))
    good &= max(worst.values()) <= LIMIT
    print(f"{name}: {len(pictures)} pictures, {tokens} greedy tokens {'the same' if good else 'FAILED'}; largest relative difference " +
          ", ".join(f"{k} {v:.1e}" for k, v in worst.items()))
    return good


def random_case(seed, s2, programs, folder):
    vision, llama, scales, rng, *parts = vision_parity.build(seed, 3 if s2 else 1)
    vlm = folder / "vlm"
    vision_parity.write(vlm, vision, llama, scales, *parts)
    pictures = [folder / f"{i}.png" for i in range(3)]
    for path in pictures:
        vision_parity.picture(rng, path)
    base, source = language_folder(vlm, folder / "base", seed + 1), language_folder(vlm, folder / "source", seed + 2)
    exported = merge(programs, folder, vlm=vlm, base=base, sources=[source, vlm])
    task = rng.choice(vision_parity.TASKS)
    resize = rng.choice([None, [64, 48]])
    return check(f"random {seed} {'S2' if s2 else 'one scale'}", exported, pictures, task, resize, 24, programs, folder)


def family_case(programs, folder):
    exported = merge(programs, folder, vlm=FAMILY / "vlm", base=FAMILY / "base", sources=[FAMILY / "japanese", FAMILY / "medical"])
    asked = json.loads((FAMILY / "vlm" / "jradievo.json").read_text())
    pictures = sorted((ROOT / "tests" / "data" / "held_out" / "images").glob("*.png"))[:8]
    return check("embedded family", exported, pictures, asked["task"], asked["image_resize"], asked["max_new_tokens"], programs, folder)


def main():
    parser = argparse.ArgumentParser(description="An exported Bunny in transformers, by Bunny's own code")
    parser.add_argument("bunny", type=Path, help="a checkout of Bunny's repository")
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=6)
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.path.insert(0, str(args.bunny))
    stand_ins()
    good = []
    with tempfile.TemporaryDirectory() as folder:
        good.append(family_case(args.programs, Path(folder)))
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            good.append(random_case(seed, seed % 2 == 0, args.programs, Path(folder)))
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
