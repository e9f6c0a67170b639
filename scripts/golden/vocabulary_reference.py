"""Vocabularies of different models, aligned by mergekit and by a plain statement: data of worker/tests/vocabulary_golden.rs.

    python scripts/golden/vocabulary_reference.py [worker/tests/data/vocabulary]

Needs mergekit 0.1.5, transformers, tokenizers, torch 2.6, numpy 2.x.

- `models/`: small models in safetensors with tokenizers whose tokens overlap in part and stand in other orders.
- `alignments.json`, `alignments.safetensors`: what mergekit's own BuildTokenizer and PermutedVocabulary make of their
  embeddings, for several choices of the output's tokenizer.
- `recipes/`, `merged.safetensors`: the paper's merge with vocabularies cut or aligned, stated here with dictionaries and
  loops around the NumPy merge of merge_reference.py.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

import merge_reference as reference

COLUMNS = 6
LETTERS = "abcdefghijklmnop"
# Model -> tokens in the order of their numbers, rows of its matrices, stored type.
SPECIAL = ["<s>", "</s>"]
MODELS = {
    "base": (list(LETTERS[:12]) + ["ab", "cd"] + SPECIAL, 18, torch.bfloat16),
    "wide": (SPECIAL + ["cd"] + list(LETTERS[::-1]) + ["ab", "ef", "<med>"], 24, torch.float32),
    "narrow": (list("hgfedcb") + ["ef"] + SPECIAL, 10, torch.float16),
    "own": (list(LETTERS[:14]) + ["ef", "ab"] + SPECIAL, 18, torch.bfloat16),
    "vlm": (list(LETTERS[:12]) + SPECIAL + ["cd", "<image>", "ab"], 20, torch.float16),
}
SPECIALS = {*SPECIAL, "<med>", "<image>"}
TENSORS = {"model.embed_tokens.weight": True, "model.norm.weight": False, "lm_head.weight": True}


def write_tokenizer(folder, tokens):
    from tokenizers import AddedToken, Tokenizer, models

    plain = {t: i for i, t in enumerate(tokens) if t not in SPECIALS}
    merges = [(t[0], t[1]) for t in plain if len(t) == 2 and t[0] in plain and t[1] in plain]
    text = json.loads(Tokenizer(models.BPE(plain, merges)).to_str())
    # Added tokens at any number, as published tokenizers have them.
    text["added_tokens"] = [
        {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for i, t in enumerate(tokens) if t in SPECIALS
    ]
    text["model"]["vocab"] |= {t: i for i, t in enumerate(tokens) if t in SPECIALS}
    (folder / "tokenizer.json").write_text(json.dumps(text, ensure_ascii=False) + "\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}\n')
    assert Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab() == {t: i for i, t in enumerate(tokens)}


def make_models(out):
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(20241110)
    made = {}
    for name, (tokens, rows, dtype) in MODELS.items():
        folder = out / "models" / name
        folder.mkdir(parents=True)
        write_tokenizer(folder, tokens)
        config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": rows, "hidden_size": COLUMNS,
                  "intermediate_size": 8, "num_hidden_layers": 0, "num_attention_heads": 1, "num_key_value_heads": 1}
        (folder / "config.json").write_text(json.dumps(config) + "\n")
        tensors = {n: torch.randn((rows, COLUMNS) if token else (COLUMNS,), generator=generator).to(dtype)
                   for n, token in TENSORS.items()}
        if name == "vlm":
            tensors["model.mm_projector.0.weight"] = torch.randn(3, COLUMNS, generator=generator).to(dtype)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        made[name] = tensors
    return made


# ---- mergekit ----


def alignments(out, made):
    from mergekit.common import ImmutableMap, ModelPath, ModelReference
    from mergekit.io.tasks import GatherTensors
    from mergekit.tokenizer.build import BuildTokenizer
    from mergekit.tokenizer.embed import PermutedVocabulary
    from safetensors.torch import save_file

    ref = lambda name: ModelReference(model=ModelPath(path=str(out / "models" / name)))
    cases = {
        # name: (output's tokenizer, models, base, pad to, types: as stored or one for all)
        "base": ("base", ["base", "wide", "narrow"], "base", None, torch.float32),
        "union": ("union", ["base", "wide", "narrow", "own"], "base", None, torch.float32),
        "of-one": ("wide", ["base", "wide", "narrow", "own"], "base", None, torch.bfloat16),
        "no-base": ("wide", ["own", "narrow", "base"], None, None, torch.bfloat16),
        "padded": ("union", ["base", "wide", "own"], "base", 8, torch.float32),
        "stored-types": ("own", ["narrow", "base", "wide"], None, 16, None),
    }
    described, results = {}, {}
    for case, (source, names, base, pad, dtype) in cases.items():
        refs = [ref(n) for n in names]
        source = source if source in ("base", "union") else ref(source)
        task = BuildTokenizer(base_model=ref(base) if base else None, referenced_models=tuple(refs), tokenizer_source=source,
                              add_tokens=())
        info = task.execute()
        gather = GatherTensors(weight_info=ImmutableMap({}))
        permute = PermutedVocabulary(gather_tensors=gather, tokenizer_task=task, tokens=None, pad_to_multiple_of=pad,
                                     base_model=ref(base) if base else None, vocabulary_axis=0)
        stored = [made[n]["model.embed_tokens.weight"] for n in names]
        tensors = {r: t.to(dtype) if dtype else t for r, t in zip(refs, stored)}
        aligned = permute.execute(tokenizer_info=info, tensors=tensors)
        rows = {t.shape[0] for t in aligned.values()}
        kind = {t.dtype for t in aligned.values()}
        assert len(rows) == len(kind) == 1
        described[case] = {"output": info.tokenizer.get_vocab(), "rows": rows.pop(), "models": names,
                           "base": names.index(base) if base else None, "dtype": str(kind.pop()).split(".")[1]}
        for name, r in zip(names, refs):
            results[f"{case}/{name}"] = aligned[r].float().contiguous()
    (out / "alignments.json").write_text(json.dumps(described, ensure_ascii=False, sort_keys=True) + "\n")
    save_file(results, out / "alignments.safetensors")


# ---- The paper's merge ----


def by_rows(choice, wanted, wanted_rows, having, having_rows):
    """For every wanted row the row that is had, or None."""
    if choice == "cut":
        return [r if r < having_rows else None for r in range(wanted_rows)]
    rows = [None] * wanted_rows
    for number, token in enumerate(wanted):
        if token in having and having.index(token) < having_rows:
            rows[number] = having.index(token)
    return rows


def paper(recipe, made):
    base = {n: made["base"][n].float().numpy() for n in TENSORS}
    tokens, count, _ = MODELS["base"]
    sources = []
    for term in recipe["sources"]:
        choice = term.get("vocabulary", recipe["vocabulary"])

        def rows(name):
            if name is None:
                return list(range(count))
            return by_rows(choice, tokens, count, MODELS[name][0], MODELS[name][1])

        name, own_name = term["model"]["name"], term["base"]["name"] if "base" in term else None
        model, own = dict(base), {n: a.copy() for n, a in base.items()}
        for n, token_rows in TENSORS.items():
            stored = made[name][n].float().numpy()
            stored_own = made[own_name][n].float().numpy() if own_name else base[n]
            if not token_rows:
                model[n], own[n] = stored, stored_own
                continue
            model[n] = base[n].copy()
            for row, (a, b) in enumerate(zip(rows(name), rows(own_name))):
                # Without both rows there is no difference: the row is left as it is.
                if a is not None and b is not None:
                    model[n][row], own[n][row] = stored[a], stored_own[b]
        sources.append({"name": name, "model": model, "base": own, **{k: term[k] for k in ("weight", "drop_rate", "trim_rate")}})
    if recipe["convention"] == "linear":
        return reference.linear(base, sources)
    return reference.paper(base, sources, recipe["scale"], recipe["mask"], recipe["mask_seed"])


def placed(recipe, merged, made):
    tokens, rows, dtype = MODELS["vlm"]
    out = {}
    for n, token_rows in TENSORS.items():
        new = torch.from_numpy(np.ascontiguousarray(merged[n])).to(dtype)
        out[n] = made["vlm"][n].clone()
        if not token_rows:
            out[n] = new
            continue
        for row, found in enumerate(by_rows(recipe["vocabulary"], tokens, rows, *MODELS["base"][:2])):
            if found is not None:
                out[n][row] = new[found]
    return out


def recipes(out, made):
    from safetensors.torch import save_file

    (out / "recipes").mkdir()
    ref = lambda n: {"name": n, "path": n}

    def recipe(vocabulary, own=None, convention="paper", drop=0.25, **choices):
        terms = [{"model": ref(n), **({"base": ref(own[n])} if own and n in own else {}),
                  **({"vocabulary": choices[n]} if n in choices else {}),
                  "weight": w, "drop_rate": drop, "trim_rate": t}
                 for n, w, t in [("wide", 0.9, 0.3), ("narrow", 0.5, 0.1), ("vlm", 0.7, 0.45)]]
        return {"format": 1, "convention": convention, "base": ref("base"), "vlm": ref("vlm"), "sources": terms, "scale": 1.25,
                "mask": "independent", "mask_seed": 7, "vocabulary": vocabulary}

    made_recipes = {
        "align": recipe("align"),
        "cut": recipe("cut"),
        "own-bases": recipe("align", own={"wide": "own", "narrow": "wide"}),
        "own-bases-cut": recipe("cut", own={"wide": "own", "vlm": "narrow"}),
        "each-its-own": recipe("align", wide="cut", vlm="cut"),
        "average": recipe("align", convention="linear", drop=0.0),
    }
    results = {}
    for name, r in made_recipes.items():
        (out / "recipes" / f"{name}.json").write_text(json.dumps(r, indent=1) + "\n")
        for tensor, value in placed(r, paper(r, made), made).items():
            results[f"{name}/{tensor}"] = value.contiguous()
    save_file(results, out / "merged.safetensors")


def main():
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "worker/tests/data/vocabulary")
    shutil.rmtree(out, ignore_errors=True)
    made = make_models(out)
    alignments(out, made)
    recipes(out, made)


if __name__ == "__main__":
    main()
