"""The four sources: three text fine-tunes of the base, and the VLM's language model with its projector."""
import copy
import re

import numpy as np
import torch

from . import models, reports, scenes, tasks, training

LOWER = ("model.layers.0.", "model.layers.1.", "model.layers.2.")  # what the Japanese model keeps from the base
RECIPE = dict(
    base=dict(steps=3600, stop=1200, lr=2e-3),
    japanese=dict(steps=650, lr=1.5e-3, noise=1.0),
    medical=dict(steps=120, lr=2e-4),
    biomedical=dict(steps=120, lr=2e-4),
    stage1=dict(steps=200, lr=3e-3),
    stage2=dict(steps=600, lr=2e-3, train=r"layers\.0\.", projector=1e-3, shares=(0.6, 0.2, 0.2)),
)


def rounded(model):
    """The weights as the base is stored: bfloat16, and exact in float16 too."""
    with torch.no_grad():
        for p in model.parameters():
            q = p.to(torch.bfloat16).float()
            p.copy_(torch.where(q.abs() < 2.0**-17, torch.zeros_like(q), q))
    return model


def text_source(base, codec, name, seed, recipe=None, log=print):
    model, r = copy.deepcopy(base), recipe or RECIPE[name]
    lower = name == "japanese"
    params = [p for n, p in model.named_parameters() if not (lower and n.startswith(LOWER))]
    training.fit(model, codec, training.Text(codec, tasks.MIXES[name]), r["steps"], r["lr"], seed, batch=20,
                 groups=[{"params": params, "lr": r["lr"]}], noise=r.get("noise", 0.0), log=log, name=name)
    return model


def picture_rows(things, n_chest):
    """General pictures with captions in both languages; chest pictures with English reports only."""
    chest = [(i, [(tasks.CHEST_EN, lambda rng, f=t.findings: reports.english(f, rng))]) for i, t in enumerate(things[:n_chest])]
    general = [(i + n_chest, [(tasks.SCENE_EN, lambda rng, s=s: scenes.english(s)), (tasks.SCENE_JA, lambda rng, s=s: scenes.japanese(s))])
               for i, s in enumerate(things[n_chest:])]
    return chest, general


def stage1(base, codec, features, things, n_chest, seed, recipe, log=print):
    """The projector, on general pictures only, with the base frozen."""
    torch.manual_seed(seed)
    project = models.projector()
    with torch.no_grad():
        project[0].weight.mul_(1.0 / features.std().item())
        project[2].weight.mul_(0.3)
    _, general = picture_rows(things, n_chest)
    training.fit(copy.deepcopy(base), codec, training.Images(codec, general), recipe["steps"], recipe["lr"], seed + 1, batch=20,
                 features=features, project=project, groups=[{"params": list(project.parameters()), "lr": recipe["lr"]}],
                 log=log, name="stage 1", every=50)
    return project


def stage2(start, project, codec, features, things, n_chest, seed, recipe, log=print):
    """The chosen parts of the language model and, where the recipe has a rate for it, the projector: chest pictures with
    English reports, general pictures and text in both languages."""
    model, r = copy.deepcopy(start), recipe
    chest, general = (training.Images(codec, rows) for rows in picture_rows(things, n_chest))
    groups = [{"params": [p for n, p in model.named_parameters() if re.search(r["train"], n)], "lr": r["lr"]}]
    if r.get("projector"):
        groups.append({"params": list(project.parameters()), "lr": r["projector"]})
    shares = r["shares"]
    draw = training.Mixed((chest, shares[0]), (general, shares[1]), (training.Text(codec, tasks.MIXES["vlm_text"]), shares[2]))
    training.fit(model, codec, draw, r["steps"], r["lr"], seed + 2, batch=20, features=features, project=project,
                 groups=groups, noise=r.get("noise", 0.0), log=log, name="stage 2", every=100)
    return model
