"""The networks, in plain PyTorch: a Llama, a SigLIP tower, S2 and the projector. Names match the real layouts."""
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image

LM = dict(hidden_size=128, intermediate_size=352, num_hidden_layers=5, num_attention_heads=4, num_key_value_heads=2,
          rope_theta=10000.0, rms_norm_eps=1e-5, max_position_embeddings=512)
VISION = dict(hidden_size=64, intermediate_size=192, num_hidden_layers=5, num_attention_heads=4, image_size=48,
              patch_size=8, layer_norm_eps=1e-6, hidden_act="gelu_pytorch_tanh", model_type="siglip_vision_model")
SCALES = (48, 96, 144)
RESIZE = (144, 144)


class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, LM["rms_norm_eps"])


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        d, h, k = LM["hidden_size"], LM["num_attention_heads"], LM["num_key_value_heads"]
        self.heads, self.kv, self.size = h, k, d // h
        self.q_proj, self.o_proj = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
        self.k_proj, self.v_proj = nn.Linear(d, k * self.size, bias=False), nn.Linear(d, k * self.size, bias=False)

    def forward(self, x, past, mask, cos, sin):
        """`past`: keys and values of earlier positions (one row serves a whole batch). Returns output, (k, v)."""
        b, t, _ = x.shape
        q = rotate(self.q_proj(x).view(b, t, self.heads, self.size).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(b, t, self.kv, self.size).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(b, t, self.kv, self.size).transpose(1, 2)
        if past is not None:
            k = torch.cat((past[0].expand(b, -1, -1, -1), k), 2)
            v = torch.cat((past[1].expand(b, -1, -1, -1), v), 2)
        n = self.heads // self.kv
        out = F.scaled_dot_product_attention(q, k.repeat_interleave(n, 1), v.repeat_interleave(n, 1), attn_mask=mask)
        return self.o_proj(out.transpose(1, 2).reshape(b, t, -1)), (k, v)


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        d, m = LM["hidden_size"], LM["intermediate_size"]
        self.gate_proj, self.up_proj = nn.Linear(d, m, bias=False), nn.Linear(d, m, bias=False)
        self.down_proj = nn.Linear(m, d, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attn, self.mlp = Attention(), Mlp()
        self.input_layernorm, self.post_attention_layernorm = Norm(LM["hidden_size"]), Norm(LM["hidden_size"])

    def forward(self, x, past, mask, cos, sin):
        a, kv = self.self_attn(self.input_layernorm(x), past, mask, cos, sin)
        x = x + a
        return x + self.mlp(self.post_attention_layernorm(x)), kv


class Llama(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(vocabulary, LM["hidden_size"])
        self.model.layers = nn.ModuleList(Layer() for _ in range(LM["num_hidden_layers"]))
        self.model.norm = Norm(LM["hidden_size"])
        self.lm_head = nn.Linear(LM["hidden_size"], vocabulary, bias=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, std=0.05 / (math.sqrt(2 * LM["num_hidden_layers"]) if deep else 1))
        half = LM["hidden_size"] // LM["num_attention_heads"] // 2
        angle = torch.arange(512.0)[:, None] / LM["rope_theta"] ** (torch.arange(half) / half)
        angle = torch.cat((angle, angle), -1)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def embed(self, ids):
        return self.model.embed_tokens(ids)

    def run(self, x, past=None):
        """Hidden states after the final norm of positions that follow `past`, and the grown keys and values."""
        t, start = x.shape[1], past[0][0].shape[2] if past else 0
        mask = torch.ones(t, start + t, dtype=torch.bool).tril(start) if t > 1 else None
        cos, sin = self.cos[start:start + t], self.sin[start:start + t]
        grown = []
        for i, layer in enumerate(self.model.layers):
            x, kv = layer(x, past[i] if past else None, mask, cos, sin)
            grown.append(kv)
        return self.model.norm(x), grown


class TowerLayer(nn.Module):
    def __init__(self):
        super().__init__()
        d, m = VISION["hidden_size"], VISION["intermediate_size"]
        self.self_attn = nn.Module()
        for n in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self.self_attn, n, nn.Linear(d, d))
        self.layer_norm1 = nn.LayerNorm(d, eps=VISION["layer_norm_eps"])
        self.layer_norm2 = nn.LayerNorm(d, eps=VISION["layer_norm_eps"])
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(d, m), nn.Linear(m, d)

    def forward(self, x):
        b, t, d = x.shape
        h = VISION["num_attention_heads"]
        y, a = self.layer_norm1(x), self.self_attn
        q, k, v = (p(y).view(b, t, h, d // h).transpose(1, 2) for p in (a.q_proj, a.k_proj, a.v_proj))
        x = x + a.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, d))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.layer_norm2(x)), approximate="tanh"))


class PoolingHead(nn.Module):
    """SigLIP's attention pooling: in the checkpoint, read by nobody."""

    def __init__(self):
        super().__init__()
        d, m = VISION["hidden_size"], VISION["intermediate_size"]
        self.probe = nn.Parameter(torch.randn(1, 1, d) * 0.02)
        self.attention = nn.MultiheadAttention(d, VISION["num_attention_heads"], batch_first=True)
        self.layernorm = nn.LayerNorm(d, eps=VISION["layer_norm_eps"])
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(d, m), nn.Linear(m, d)


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        d, p = VISION["hidden_size"], VISION["patch_size"]
        self.embeddings = nn.Module()
        self.embeddings.patch_embedding = nn.Conv2d(3, d, p, p)
        self.embeddings.position_embedding = nn.Embedding((VISION["image_size"] // p) ** 2, d)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(TowerLayer() for _ in range(VISION["num_hidden_layers"]))
        self.post_layernorm = nn.LayerNorm(d, eps=VISION["layer_norm_eps"])
        self.head = PoolingHead()

    def forward(self, pixels):
        """The output of the last encoder layer but one: (B, 36, hidden)."""
        x = self.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2) + self.embeddings.position_embedding.weight
        for layer in self.encoder.layers[:-1]:
            x = layer(x)
        return x


def projector():
    d = LM["hidden_size"]
    return nn.Sequential(nn.Linear(len(SCALES) * VISION["hidden_size"], d), nn.GELU(), nn.Linear(d, d))


def preprocess(image):
    """A PIL image or a grey array -> (3, S, S) float32 in [-1, 1], as the Rust program does it."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image = image.resize(RESIZE, Image.BICUBIC).convert("RGB")
    w, h = image.size
    if w != h:
        square = Image.new("RGB", (max(w, h),) * 2, (127, 127, 127))
        square.paste(image, ((max(w, h) - w) // 2, (max(w, h) - h) // 2))
        image = square
    if image.size != (SCALES[-1],) * 2:
        image = image.resize((SCALES[-1],) * 2, Image.BICUBIC)
    x = torch.from_numpy(np.asarray(image, dtype=np.float32).copy()) / 255
    return ((x - 0.5) / 0.5).permute(2, 0, 1).contiguous()


def tiles(pixels):
    """[(n, (B·n·n, 3, 48, 48), tile index outermost)] for each scale of a batch (B, 3, 144, 144)."""
    out = []
    for scale in SCALES:
        x = F.interpolate(pixels, size=(scale, scale), mode="bicubic", align_corners=False)
        n = scale // SCALES[0]
        out.append((n, torch.cat([c for row in x.chunk(n, 2) for c in row.chunk(n, 3)], 0)))
    return out


def s2_features(tower, pixels):
    """(B, 3, 144, 144) -> (B, 36, 3·hidden)."""
    b, out = pixels.shape[0], []
    grid = VISION["image_size"] // VISION["patch_size"]
    for n, parts in tiles(pixels):
        f = tower(parts).transpose(1, 2).reshape(n, n, b, -1, grid, grid)
        f = f.permute(2, 3, 0, 4, 1, 5).reshape(b, -1, n * grid, n * grid)
        out.append(F.interpolate(f, size=(grid, grid), mode="area"))
    return torch.cat(out, 1).flatten(2).transpose(1, 2)
