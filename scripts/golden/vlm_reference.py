"""Reference values of the tiny VLM, by means that share no code with the family's own: transformers' LlamaForCausalLM
and SiglipVisionModel, and Bunny's S2, projector and splice in plain PyTorch, all in float32.

    python scripts/golden/vlm_reference.py [--data tests/data]

Writes golden/vlm/reference.json (prompt ids, greedy ids, texts, checksums) and golden/vlm/reference.safetensors.
"""
import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, SiglipVisionConfig, SiglipVisionModel

TEMPLATE = ("A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
            "detailed, and polite answers to the user's questions. USER: <image>\n{task} ASSISTANT:")
PREFIX = "model.vision_tower.vision_tower."
TENSORS, TEXTS = 2, 6


def load(folder):
    state = {}
    for name in sorted(set(json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"].values())):
        state |= {k: v.float() for k, v in load_file(folder / name).items()}
    config = json.loads((folder / "config.json").read_text())
    keys = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
            "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings", "bos_token_id", "eos_token_id")
    llama = LlamaForCausalLM(LlamaConfig(**{k: config[k] for k in keys},
                                         rope_parameters={"rope_type": "default", "rope_theta": config["rope_theta"]}))
    missing, unused = llama.load_state_dict(state, strict=False)
    assert not missing, missing
    vision = {k: v for k, v in config["vision_config"].items() if k != "model_type"}
    siglip = SiglipVisionModel(SiglipVisionConfig(**vision))
    wanted = siglip.state_dict()
    tower = {k[len(PREFIX):]: v for k, v in state.items() if k.startswith(PREFIX)}
    if not any(k.startswith("vision_model.") for k in wanted):
        tower = {k.removeprefix("vision_model."): v for k, v in tower.items()}
    missing, unused = siglip.load_state_dict(tower, strict=False)
    assert not missing and not unused, (missing, unused)
    projector = torch.nn.Sequential(torch.nn.Linear(config["mm_hidden_size"], config["hidden_size"]), torch.nn.GELU(),
                                    torch.nn.Linear(config["hidden_size"], config["hidden_size"]))
    projector.load_state_dict({k.removeprefix("model.mm_projector."): v for k, v in state.items() if "mm_projector" in k})
    return config, llama.eval(), siglip.eval(), projector


def pixels(path, resize, side):
    image = Image.open(path)
    if resize:
        image = image.resize(tuple(resize), Image.BICUBIC)
    image = image.convert("RGB")
    w, h = image.size
    if w != h:
        square = Image.new("RGB", (max(w, h),) * 2, (127, 127, 127))
        square.paste(image, ((max(w, h) - w) // 2, (max(w, h) - h) // 2))
        image = square
    image = image.resize((side, side), Image.BICUBIC)
    raw = np.asarray(image)
    return raw, (torch.from_numpy(raw.astype(np.float32)) / 255 - 0.5).div(0.5).permute(2, 0, 1)[None]


def s2(config, siglip, x):
    scales = [int(s) for s in config["s2_scales"].split(",")]
    grid = config["vision_config"]["image_size"] // config["vision_config"]["patch_size"]
    out = []
    for scale in scales:
        y = F.interpolate(x, size=(scale, scale), mode="bicubic", align_corners=False)
        n = scale // scales[0]
        tiles = torch.cat([y[:, :, r * scales[0]:(r + 1) * scales[0], c * scales[0]:(c + 1) * scales[0]]
                           for r in range(n) for c in range(n)])
        f = siglip(tiles, output_hidden_states=True).hidden_states[-2].transpose(1, 2).reshape(n * n, -1, grid, grid)
        whole = torch.cat([torch.cat([f[r * n + c] for c in range(n)], 2) for r in range(n)], 1)[None]
        out.append(F.interpolate(whole, size=(grid, grid), mode="area"))
    return torch.cat(out, 1).flatten(2).transpose(1, 2)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description="Reference values of the tiny VLM")
    parser.add_argument("--data", default="tests/data")
    data = Path(parser.parse_args().data)
    folder = data / "family" / "vlm"
    config, llama, siglip, projector = load(folder)
    prompt = json.loads((folder / "jradievo.json").read_text())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    left, right = TEMPLATE.format(task=prompt["task"]).split("<image>")
    before, after = tokenizer.encode(left).ids, tokenizer.encode(right).ids[1:]
    stop = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    embed = llama.get_input_embeddings()
    tensors, samples = {}, []
    lines = (data / "held_out" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    for i, line in enumerate(lines[:TEXTS]):
        row = json.loads(line)
        raw, x = pixels(data / "held_out" / row["image"], prompt["image_resize"], int(config["s2_scales"].split(",")[-1]))
        features = s2(config, siglip, x)
        projected = projector(features)
        inputs = torch.cat((embed(torch.tensor([before])), projected, embed(torch.tensor([after]))), 1)
        ids, step = [], llama(inputs_embeds=inputs, use_cache=True)
        first = step.logits[0, -1]
        for _ in range(prompt["max_new_tokens"]):
            token = int(step.logits[0, -1].argmax())
            ids.append(token)
            if token in stop:
                break
            step = llama(inputs_embeds=embed(torch.tensor([[token]])), past_key_values=step.past_key_values, use_cache=True)
        samples.append({"id": row["id"], "image": f"held_out/{row['image']}", "pixels_sha256": hashlib.sha256(raw.tobytes()).hexdigest(),
                        "token_ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=True).strip()})
        if i < TENSORS:
            tensors |= {f"{row['id']}.pixels_row_72": x[0, 0, 72].contiguous(), f"{row['id']}.features": features[0].contiguous(),
                        f"{row['id']}.projected": projected[0].contiguous(), f"{row['id']}.logits": first.contiguous()}
    out = data / "golden" / "vlm"
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "reference.safetensors")
    (out / "reference.json").write_text(json.dumps({
        "about": "float32, transformers' Llama and SigLIP; pixels_sha256 is of the RGB bytes (rows, columns, channels) "
                 "after the bicubic resizes; logits are of the last prompt position", "before": before, "after": after,
        "samples": samples}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    for s in samples:
        print(s["id"], s["text"])


if __name__ == "__main__":
    main()
