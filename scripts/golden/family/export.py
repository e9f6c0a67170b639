"""The five checkpoints in the layouts of the real ones."""
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from . import models, tasks, tokens
from .evaluate import LIMIT

PREFIX = "model.vision_tower.vision_tower.vision_model."


def _json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _shards(state, count):
    """Tensors in their order, cut into `count` parts of about equal size."""
    total = sum(v.numel() * v.element_size() for v in state.values())
    parts, at = [{} for _ in range(count)], 0
    for k, v in state.items():
        parts[min(count - 1, at * count // total)][k] = v
        at += v.numel() * v.element_size()
    assert all(parts)
    return parts, total


def write_weights(folder, state, dtype, count, kind="safetensors"):
    state = {k: v.detach().to(dtype).contiguous().clone() for k, v in state.items()}
    stem, end = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    parts, total = _shards(state, count)
    names = [f"{stem}.{end}" if count == 1 else f"{stem}-{i:05d}-of-{count:05d}.{end}" for i in range(1, count + 1)]
    for name, part in zip(names, parts):
        if kind == "safetensors":
            save_file(part, folder / name, metadata={"format": "pt"})
        else:
            torch.save(part, folder / name)
    if count > 1:
        _json(folder / f"{stem}.{end}.index.json", {"metadata": {"total_size": total}, "weight_map": {
            k: n for n, part in zip(names, parts) for k in part}})


def _config(vocabulary, dtype, codec):
    return {"architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
            "bos_token_id": codec.before[0], "eos_token_id": codec.eos, "head_dim": 32, "hidden_act": "silu",
            "initializer_range": 0.02, "mlp_bias": False, "model_type": "llama", "pretraining_tp": 1, "rope_scaling": None,
            "tie_word_embeddings": False, "torch_dtype": dtype, "transformers_version": "4.40.0", "use_cache": True,
            "vocab_size": vocabulary, **models.LM}


def _common(folder, codec, config):
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    bos, eos = tokens.SPECIAL[0], tokens.SPECIAL[1]
    codec.tok.save(str(folder / "tokenizer.json"), pretty=False)
    _json(folder / "config.json", config)
    _json(folder / "generation_config.json", {"_from_model_config": True, "bos_token_id": codec.before[0],
          "eos_token_id": [codec.eos, codec.eot], "pad_token_id": codec.eos, "max_length": models.LM["max_position_embeddings"],
          "transformers_version": "4.40.0"})
    _json(folder / "special_tokens_map.json", {"bos_token": bos, "eos_token": eos, "pad_token": eos})
    _json(folder / "tokenizer_config.json", {
        "added_tokens_decoder": {str(codec.tok.token_to_id(t)): {"content": t, "lstrip": False, "normalized": False,
                                 "rstrip": False, "single_word": False, "special": True} for t in tokens.SPECIAL},
        "bos_token": bos, "eos_token": eos, "pad_token": eos, "clean_up_tokenization_spaces": True,
        "model_input_names": ["input_ids", "attention_mask"], "model_max_length": models.LM["max_position_embeddings"],
        "tokenizer_class": "PreTrainedTokenizerFast"})


def write(root, codec, base, sources, tower, project, vocabulary):
    """`base` and `sources` are state dicts of the language models."""
    root = Path(root)
    plan = {"base": (torch.bfloat16, 1, "safetensors"), "medical": (torch.float32, 4, "safetensors"),
            "biomedical": (torch.bfloat16, 3, "bin"), "japanese": (torch.bfloat16, 2, "safetensors")}
    for name, (dtype, count, kind) in plan.items():
        _common(root / name, codec, _config(vocabulary, str(dtype).split(".")[1], codec))
        write_weights(root / name, base if name == "base" else sources[name], dtype, count, kind)
    config = _config(vocabulary, "float16", codec)
    config |= {"architectures": ["BunnyLlamaForCausalLM"], "model_type": "bunny-llama",
               "mm_vision_tower": "tiny-siglip-patch8-48", "mm_projector_type": "mlp2x_gelu", "use_mm_proj": True,
               "mm_hidden_size": len(models.SCALES) * models.VISION["hidden_size"], "use_s2": True,
               "s2_scales": ",".join(map(str, models.SCALES)), "image_aspect_ratio": "pad", "unfreeze_vision_tower": True,
               "mm_projector_lr": None, "tokenizer_model_max_length": 512, "tokenizer_padding_side": "right",
               "vision_config": dict(models.VISION, num_channels=3, attention_dropout=0.0)}
    _common(root / "vlm", codec, config)
    state = dict(sources["vlm"])
    state |= {f"model.mm_projector.{k}": v for k, v in project.items()}
    state |= {PREFIX + k: v for k, v in tower.items()}
    write_weights(root / "vlm", state, torch.float16, 3)
    _json(root / "vlm" / "jradievo.json", {"task": tasks.TASK, "image_resize": list(models.RESIZE), "max_new_tokens": LIMIT})
