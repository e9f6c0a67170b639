"""Training of the vision tower: what lies in each patch, of phantoms and of general pictures. No language."""
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from . import models, phantoms, scenes

KINDS = ("cardiomegaly", "effusion", "consolidation", "nodule", "pneumothorax", "line", "pacemaker")
LABELS = [(k, c) for k in KINDS for c in (True, False)] + list(scenes.SHAPES) + list(scenes.SHADES) + list(scenes.SIZES)
PLACES = [(k, s, z) for k in KINDS for s in ("", "right", "left") for z in ("", "upper", "mid", "lower")
          if (k in ("consolidation", "nodule")) == bool(z) and (k in ("consolidation", "nodule", "effusion", "pneumothorax")) == bool(s)]


def _grids(n, masks, fractions):
    """Per-cell labels (n·6, n·6, LABELS) of one picture."""
    out = np.zeros((6 * n, 6 * n, len(LABELS)), np.float32)
    for thing, mask in masks.items():
        c = phantoms.cells(mask, 6 * n)
        cover = c >= min(fractions, 0.7 * c.max())
        if isinstance(thing, phantoms.Finding):
            out[cover, LABELS.index((thing.kind, thing.certain))] = 1
        else:
            for name in (thing.shape, thing.shade, thing.size):
                out[cover, LABELS.index(name)] = 1
    return out


def pool(seed, n_chest, n_scene):
    """Pixels (N, 144, 144) uint8, dense labels at three scales, findings for the whole picture."""
    rng = np.random.default_rng(seed)
    pixels, dense, whole, things = [], [[], [], []], [], []
    for i in range(n_chest + n_scene):
        if i < n_chest:
            thing = phantoms.sample_phantom(rng)
            image, masks = phantoms.draw(thing)
        else:
            thing = scenes.sample_scene(rng)
            image, masks = scenes.draw(thing)
        pixels.append((((models.preprocess(image)[0] + 1) * 127.5).round()).to(torch.uint8))
        for k in range(3):
            dense[k].append(torch.from_numpy(_grids(k + 1, masks, 0.3)).to(torch.bool))
        label = np.zeros((len(PLACES), 2), np.float32)
        for f in masks if i < n_chest else ():
            label[PLACES.index((f.kind, f.side, f.zone)), 0 if f.certain else 1] = 1
        whole.append(torch.from_numpy(label.ravel()))
        things.append(thing)
    return torch.stack(pixels), [torch.stack(d) for d in dense], torch.stack(whole), things


def to_pixels(grey):
    return (grey.float() / 127.5 - 1)[:, None].expand(-1, 3, -1, -1)


def train(seed, steps, data, log=print):
    torch.manual_seed(seed)
    pixels, dense, whole, _ = data
    tower = models.Tower()
    dim = models.VISION["hidden_size"]
    nn.init.normal_(tower.embeddings.position_embedding.weight, std=0.02)
    heads = nn.ModuleList((nn.Linear(dim, len(LABELS)), nn.Linear(dim, whole.shape[1])))
    used = [p for n, p in tower.named_parameters() if not n.startswith((f"encoder.layers.{len(tower.encoder.layers) - 1}.", "post_", "head."))]
    opt = torch.optim.AdamW(used + list(heads.parameters()), lr=2e-3, weight_decay=0.01)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, 3e-3, total_steps=steps, pct_start=0.1)
    g, start = torch.Generator().manual_seed(seed), time.time()
    for step in range(steps):
        at = torch.randint(len(pixels), (20,), generator=g)
        x = to_pixels(pixels[at])
        loss = 0
        for k, (n, parts) in enumerate(models.tiles(x)):
            keep = torch.randperm(n * n, generator=g)[:min(n * n, (1, 2, 2)[k])]
            parts = parts.view(n * n, len(at), *parts.shape[1:])[keep].flatten(0, 1)
            f = tower(parts)
            d = dense[k][at].view(len(at), n, 6, n, 6, -1).permute(1, 3, 0, 2, 4, 5).reshape(n * n, len(at), 36, -1)[keep].flatten(0, 1)
            loss = loss + F.binary_cross_entropy_with_logits(heads[0](f), d.float(), reduction="sum") / (len(parts) * 12)
            if n == 1:
                loss = loss + F.binary_cross_entropy_with_logits(heads[1](f.mean(1)), whole[at], reduction="sum") / len(at) * 0.5
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(used, 1.0)
        opt.step()
        sched.step()
        if step % 200 == 199:
            with torch.no_grad():
                tower.eval()
                x = to_pixels(pixels[:200])
                p = heads[1](tower(models.tiles(x)[0][1]).mean(1)) > 0
                t = whole[:200] > 0
                f1 = 2 * (p & t).sum() / (p.sum() + t.sum())
            log(f"tower {step + 1} loss {loss.item():.3f} whole-picture F1 {f1.item():.3f} {time.time() - start:.0f} s")
    return tower


@torch.no_grad()
def features(tower, grey, batch=64):
    return torch.cat([models.s2_features(tower, to_pixels(grey[i:i + batch])) for i in range(0, len(grey), batch)])
