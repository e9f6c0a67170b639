"""Files as torch.save and safetensors write them, good and bad: the data of worker/tests/storage_forms.rs.

    python scripts/golden/storage_forms.py [worker/tests/data/storage]

Needs torch 2.6, numpy 2.x and safetensors 0.8. `good/` holds one small model in every way that torch.save may write
it, with the tensors in `expected.safetensors`; `bad/` holds what must be refused. Nothing here is executed when it is
read by the worker; nothing in it would do harm if it were.
"""

import collections
import io
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file


def tensors():
    generator = torch.Generator().manual_seed(11)
    draw = lambda *shape: torch.randn(shape, generator=generator)
    return {
        "model.embed_tokens.weight": draw(7, 4).to(torch.bfloat16),
        "model.layers.0.mlp.down_proj.weight": draw(4, 6),
        "model.norm.weight": draw(4).half(),
        "model.rotary.inv_freq": draw(3).double(),
        "model.position_ids": torch.arange(5).reshape(1, 5),
        "model.mask": torch.tensor([True, False, True]),
        "model.scalar": torch.tensor(2.5),
        "model.empty": torch.zeros(0, 4),
    }


class Module(torch.nn.Module):
    """Its state dictionary carries `_metadata`, as every module's does."""

    def __init__(self, values):
        super().__init__()
        for name, value in values.items():
            path, module = name.split("."), self
            for part in path[:-1]:
                if not hasattr(module, part):
                    module.add_module(part, torch.nn.Module())
                module = getattr(module, part)
            if value.is_floating_point():
                module.register_parameter(path[-1], torch.nn.Parameter(value))
            else:
                module.register_buffer(path[-1], value)


def good(values):
    whole = torch.cat([t.flatten().float() for t in values.values()])
    views, at = {}, 0
    for name, t in values.items():
        views[name] = whole[at : at + t.numel()].view(t.shape)
        at += t.numel()
    turned = {n: t.t().contiguous().t() if t.dim() == 2 else t for n, t in values.items()}
    spread = {n: torch.stack([t, t + 1 if t.dtype != torch.bool else ~t], -1)[..., 0] for n, t in values.items()}
    forms = {f"protocol-{p}": (values, {"pickle_protocol": p}) for p in (1, 2, 3, 4, 5)}
    forms |= {
        "ordered": (collections.OrderedDict(values), {}),
        "parameters": ({n: torch.nn.Parameter(t, requires_grad=False) for n, t in values.items()}, {}),
        "module": (Module(values).state_dict(), {}),
        "nested": ({"epoch": 3, "lr": 1e-4, "done": True, "tags": ["a"], "state_dict": Module(values).state_dict()}, {}),
        # One storage for all, and each at an offset within it.
        "views": (views, {}),
        # Not in row-major order: transposed, and every second element.
        "turned": (turned, {}),
        "spread": (spread, {}),
    }
    assert not turned["model.embed_tokens.weight"].is_contiguous() and not spread["model.norm.weight"].is_contiguous()
    return forms, {"views": {n: v.clone() for n, v in views.items()}}


class Calls:
    def __init__(self, function, *arguments):
        self.what = (function, arguments)

    def __reduce__(self):
        return self.what


def bad(values):
    tensor = values["model.layers.0.mlp.down_proj.weight"]
    with_attribute = tensor.clone()
    with_attribute.note = "attributes are set by a function of their own"
    tied = {"a": tensor, "b": tensor[:1].expand(50, 6)}
    call = lambda function, *arguments: {"a": tensor, "b": Calls(function, *arguments)}
    return {
        "os-system": (call(os.system, "true"), {}, "asks for posix.system"),
        "eval": (call(eval, "1"), {"pickle_protocol": 4}, "asks for builtins.eval"),
        "exec-old": (call(exec, "1"), {}, "asks for __builtin__.exec"),
        "getattr": (call(getattr, 1, "real"), {"pickle_protocol": 4}, "asks for builtins.getattr"),
        "numpy": ({"a": np.arange(3)}, {}, "asks for numpy"),
        "set": ({"a": tensor, "b": {1}}, {}, "asks for __builtin__.set"),
        "torch-load": (call(torch.load, "x"), {}, "asks for torch.serialization.load"),
        "sparse": ({"a": tensor.to_sparse()}, {}, "asks for torch._utils._rebuild_sparse_tensor"),
        "quantized": ({"a": torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)}, {}, "asks for torch._utils._rebuild_qtensor"),
        "attribute": ({"a": with_attribute}, {}, "asks for torch._tensor._rebuild_from_type_v2"),
        "complex-half": ({"a": tensor.to(torch.complex32)}, {}, "elements of torch.complex32 are not read here"),
        "complex": ({"a": tensor.to(torch.complex64)}, {}, "elements of torch.ComplexFloatStorage are not read here"),
        "whole-module": (torch.nn.Linear(2, 3), {}, "asks for torch.nn.modules.linear.Linear"),
        "negated-view": ({"a": tensor._neg_view()}, {}, "unexpected arguments"),
        "not-tensors": ({"a": tensor, "epoch": 3}, {}, "entry epoch is not a tensor"),
        "a-list": ([tensor], {}, "something other than a dictionary"),
        "repeated": (tied, {}, "b: shape [50, 6] with strides [0, 1] repeats stored elements"),
        "legacy": (values, {"_use_new_zipfile_serialization": False}, "in the form of torch before 1.6"),
    }


def rare():
    """Types that are not merged, beside one that is."""
    numbers = torch.arange(6).reshape(2, 3)
    named = ["uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"]
    return {"w": torch.ones(2)} | {name: numbers.to(getattr(torch, name)) for name in named}


def rewritten(content, change):
    """The zip file with one entry's content replaced; entries stay uncompressed unless `deflate`."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", change.get("how", zipfile.ZIP_STORED)) as new:
        for info in old.infolist():
            data = old.read(info)
            for suffix, value in change.get("content", {}).items():
                if info.filename.endswith(suffix):
                    data = value
            if not any(info.filename.endswith(s) for s in change.get("without", [])):
                new.writestr(info.filename, data)
    return out.getvalue()


def saved(value, **options):
    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


def main():
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "worker/tests/data/storage")
    shutil.rmtree(out, ignore_errors=True)
    values = tensors()

    def write(kind, name, content):
        folder = out / kind / name
        folder.mkdir(parents=True)
        (folder / "pytorch_model.bin").write_bytes(content)

    forms, differing = good(values)
    for name, (value, options) in forms.items():
        write("good", name, saved(value, **options))
    write("rare", "types", saved(rare()))
    # Before 2.1 torch did not write the byte order.
    write("good", "no-byteorder", rewritten(saved(values), {"without": ["byteorder"]}))
    # A zip file by another program that writes sizes in 64 bits.
    wide = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(values))) as old, zipfile.ZipFile(wide, "w") as new:
        for info in old.infolist():
            with new.open(zipfile.ZipInfo(info.filename), "w", force_zip64=True) as entry:
                entry.write(old.read(info))
    write("good", "wide-headers", wide.getvalue())
    expected = {f"all/{n}": t.contiguous() for n, t in values.items()}
    for form, tensors_of in differing.items():
        expected |= {f"{form}/{n}": t.contiguous() for n, t in tensors_of.items()}
    save_file(expected, out / "expected.safetensors")

    refusals = {}
    for name, (value, options, refusal) in bad(values).items():
        write("bad", name, saved(value, **options))
        refusals[name] = refusal
    for name, change, refusal in [
        ("big-endian", {"content": {"byteorder": b"big"}}, "stored big endian"),
        ("deflated", {"how": zipfile.ZIP_DEFLATED}, "the entry is compressed or encrypted"),
        ("no-pickle", {"without": ["data.pkl"]}, "data.pkl: missing"),
        ("no-storage", {"without": ["data/1"]}, "its storage 1 is not in the file"),
        ("short-storage", {"content": {"data/1": b"\0" * 95}}, "takes more than the storage's 95 bytes"),
    ]:
        write("bad", name, rewritten(saved(values), change))
        refusals[name] = refusal
    (out / "refusals.json").write_text(json.dumps(refusals, indent=1) + "\n")


if __name__ == "__main__":
    main()
