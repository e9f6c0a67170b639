"""The language model against transformers' LlamaForCausalLM, side by side on random Llamas of random shapes.

    cargo build --workspace --all-targets
    python scripts/golden/llama_parity.py [--seeds 24] [--first 0]

Pinned: torch==2.6.0, transformers==5.23.0, safetensors==0.8.0. Every seed draws a shape (grouped key heads, head sizes of their
own, tied embeddings, rotary bases), writes it as transformers 5 does or with the keys of transformers 4, and asks both for the
logits at every position of four prompts and for greedy continuations.

float32: logits within 1e-4 of the largest, the same tokens. float16 and bfloat16 (weights rounded to the type first, both sides
computing in it): logits no further from those of float32 than twice what transformers' own are, and the same tokens, or at the
first other one a near-tie, which is when the two tokens' float32 logits are no further apart than errors of that size explain:
four times what the type moves transformers' logits there (two tokens, each moved by twice as much at most). Besides, scaled rotary positions have to be
refused, and a text-only export of the merged embedded family has to load as LlamaForCausalLM. Ends with 1 if any of it does
not hold.
"""
import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from forward import ROOT, add_arguments, forward, relative, worker

LOGITS = 1e-4
# How much further than transformers' own the worker's 16-bit logits may be from float32: sums in another order err
# differently at each place, and these are maxima over some ten thousand of them.
WORSE = 2
NEW_TOKENS = 24
TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def draw(seed):
    rng = random.Random(seed)
    kv = rng.choice([1, 1, 2, 3, 4])
    heads = kv * rng.choice([1, 2, 3, 4, 8])
    size = 2 * rng.randint(2, 24)
    own = rng.random() < 0.3
    return dict(hidden_size=heads * rng.randint(2, 160 // heads) if own else heads * size, intermediate_size=rng.randint(7, 300),
                num_hidden_layers=rng.randint(1, 5), num_attention_heads=heads, num_key_value_heads=kv, head_dim=size,
                vocab_size=rng.randint(40, 700), rms_norm_eps=rng.choice([1e-5, 1e-6]), tie_word_embeddings=rng.random() < 0.35,
                max_position_embeddings=256, bos_token_id=1, eos_token_id=2), rng.choice([1e4, 5e5, 1e6, 123.0]), rng


def write(model, theta, folder, newer, generator):
    """As transformers 5 writes it, or by hand with transformers 4's keys."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        p.data = 1 + 0.2 * noise if p.dim() == 1 else noise * (1.0 if "embed" in name else 1.3 / p.shape[1] ** 0.5)
    if newer:
        model.save_pretrained(folder, max_shard_size="200KB")
        return
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size",
            "rms_norm_eps", "tie_word_embeddings", "max_position_embeddings", "bos_token_id", "eos_token_id", "hidden_act", "attention_bias")
    config = {k: getattr(model.config, k) for k in keys} | {"model_type": "llama", "architectures": ["LlamaForCausalLM"],
                                                             "rope_theta": theta, "rope_scaling": None, "torch_dtype": "float32"}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    state = {k: v.contiguous() for k, v in model.state_dict().items() if not (config["tie_word_embeddings"] and k == "lm_head.weight")}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


@torch.no_grad()
def greedy(model, prompt, count):
    """Tokens and the logits that chose each."""
    ids, rows = [], []
    step = model(torch.tensor([prompt]), use_cache=True)
    for _ in range(count):
        rows.append(step.logits[0, -1].float())
        ids.append(int(rows[-1].argmax()))
        step = model(torch.tensor([[ids[-1]]]), past_key_values=step.past_key_values, use_cache=True)
    return ids, rows


def cast(model, dtype):
    """As loading in that type does: the parameters alone. `to` would round the rotary frequencies as well."""
    for p in model.parameters():
        p.data = p.data.to(dtype)
    return model


@torch.no_grad()
def hold(model, prompts, ours, totals):
    """Every type of one model; what is to be printed, and whether it is within the limits."""
    good, cells = True, []
    exact = {k: v.clone() for k, v in model.state_dict().items()}
    for (name, dtype), found in zip(TYPES.items(), ours):
        model.load_state_dict({k: v.to(dtype).float() for k, v in exact.items()})
        reference = [model(torch.tensor([p])).logits[0].float() for p in prompts]
        cast(model, dtype)
        worst, here, there, same, ties = 0.0, 0.0, 0.0, 0, []
        for j, prompt in enumerate(prompts):
            theirs = model(torch.tensor([prompt])).logits[0].float()
            worst = max(worst, relative(found[f"{j}.logits"], theirs))
            here, there = max(here, relative(found[f"{j}.logits"], reference[j])), max(there, relative(theirs, reference[j]))
            ids, rows = greedy(model, prompt, NEW_TOKENS)
            got = found[f"{j}.ids"].tolist()
            if got == ids:
                same += 1
                continue
            at = next(i for i, (a, b) in enumerate(zip(got, ids)) if a != b)
            true = cast(model, torch.float32)(torch.tensor([prompt + ids[:at]])).logits[0, -1]
            cast(model, dtype)
            ties.append((j, at, abs(float(true[got[at]] - true[ids[at]])), float((rows[at] - true).abs().max())))
        cast(model, torch.float32)
        largest = [max(a, b) for a, b in zip(totals[name], (worst, here, there))]
        totals[name] = largest + [totals[name][3] + same, totals[name][4] + len(prompts), totals[name][5] + len(ties)]
        cells.append(f"{worst:.1e} {same}/{len(prompts)}")
        for j, at, gap, moved in ties:
            print(f"     {name} prompt {j}: another token at step {at}; in float32 the two are {gap:.2e} apart, and the type moves logits there by {moved:.2e}")
            good &= dtype != torch.float32 and gap <= 2 * WORSE * moved
        good &= worst <= LOGITS if dtype == torch.float32 else here <= WORSE * there
    model.load_state_dict(exact)
    return "  ".join(cells), good


def asked(folder, prompts):
    return [{"llama": str(folder), "dtype": t, "prompts": prompts, "max_new_tokens": NEW_TOKENS} for t in TYPES]


def compare(seed, programs, totals):
    shape, theta, rng = draw(seed)
    model = LlamaForCausalLM(LlamaConfig(**shape, attn_implementation="eager",
                                         rope_parameters={"rope_type": "default", "rope_theta": theta})).eval()
    prompts = [[rng.randrange(shape["vocab_size"]) for _ in range(rng.randint(1, 60))] for _ in range(4)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "llama"
        write(model, theta, folder, seed % 2 == 0, torch.Generator().manual_seed(seed))
        ours = forward(programs, asked(folder, prompts))
    cells, good = hold(model, prompts, ours, totals)
    print(f"{seed:4}  {shape['num_attention_heads']:2}/{shape['num_key_value_heads']}x{shape['head_dim']:<2}  {shape['hidden_size']:4}  "
          f"{shape['num_hidden_layers']}  {theta:9.0f}  {'tied' if shape['tie_word_embeddings'] else 'own '}  {cells}{'' if good else '  FAILED'}")
    return good


def refuses_scaled_positions(programs):
    """Llama 3.1's rotary scaling is not computed, so it must be refused, in either way of writing it."""
    shape, theta, _ = draw(0)
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    for key, value in (("rope_scaling", scaling), ("rope_parameters", scaling | {"rope_theta": theta})):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "llama"
            model = LlamaForCausalLM(LlamaConfig(**shape))
            write(model, theta, folder, False, torch.Generator().manual_seed(0))
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(config | {key: value}))
            try:
                forward(programs, [{"llama": str(folder), "dtype": "float32", "prompts": [[1]], "max_new_tokens": 1}])
            except RuntimeError as error:
                said = [line.strip() for line in str(error).splitlines() if key in line]
                assert said, error
                print(f"{key}: refused ({said[0].split('config.json: ')[-1]})")
                continue
            raise AssertionError(f"{key} was not refused")


def loads_text_only(programs, totals):
    """The embedded family merged, the language model alone: what transformers makes of the folder, and what the worker does."""
    family = ROOT / "tests" / "data" / "family"
    ref = lambda name: {"name": name, "path": str(family / name)}
    terms = [{"model": ref(name), "weight": weight, "drop_rate": 0.2, "trim_rate": 0.1} for name, weight in (("japanese", 0.7), ("medical", 0.4))]
    recipe = {"format": 1, "convention": "paper", "base": ref("base"), "vlm": ref("vlm"), "sources": terms, "scale": 1.0,
              "mask": "independent", "mask_seed": 7}
    with tempfile.TemporaryDirectory() as temporary:
        file, out = Path(temporary) / "recipe.json", Path(temporary) / "language"
        file.write_text(json.dumps(recipe))
        worker(programs, "merge", file, "--text-only", "--out", out)
        model, loading = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, output_loading_info=True, attn_implementation="eager")
        assert type(model) is LlamaForCausalLM and not any(loading.values()), loading
        tokenizer = AutoTokenizer.from_pretrained(out)
        prompts = [tokenizer(text).input_ids for text in ("所見は？", "両側の肺野に", "No pleural effusion", "心拡大を認める。胸水", "肺野に", "右下肺野に",
                                                            "胸水を", "骨折")]
        assert prompts[0][0] == model.config.bos_token_id
        found = forward(programs, asked(out, prompts))
    cells, good = hold(model, prompts, found, totals)
    print(f"text-only export of the embedded family: AutoModelForCausalLM gives {type(model).__name__}, nothing missing or unexpected; {cells}{'' if good else '  FAILED'}")
    return good


def main():
    parser = argparse.ArgumentParser(description="The language model against transformers")
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(0)
    totals = {name: [0.0, 0.0, 0.0, 0, 0, 0] for name in TYPES}
    print("seed  heads/kv x size  hidden  layers  rope base  embeddings  float32  float16  bfloat16 (largest relative difference, prompts with the same tokens)")
    good = [compare(seed, args.programs, totals) for seed in range(args.first, args.first + args.seeds)]
    for name, (worst, here, there, same, all_, ties) in totals.items():
        print(f"{name}: largest relative difference {worst:.2e} (from float32: here {here:.2e}, transformers {there:.2e}); {same} of {all_} prompts with the same {NEW_TOKENS} tokens, {ties} part at a near-tie")
    refuses_scaled_positions(args.programs)
    good.append(loads_text_only(args.programs, {name: [0.0, 0.0, 0.0, 0, 0, 0] for name in TYPES}))
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
