"""Published LeWorldModel files with random weights, and what they compute, written without any module.

Names and shapes are those of ``weights.pt`` in Hugging Face's quentinll/lewm-pusht.
"""

from __future__ import annotations

import re

import torch
from torch.nn import functional as F

WIDTH = 192


def config(image_size: int = 224, layers: int = 12, blocks: int = 6) -> dict:
    """The published ``config.json``, with the names of classes that it has."""
    module, mlp = "stable_worldmodel.wm.lewm.module", {"input_dim": WIDTH, "output_dim": WIDTH, "hidden_dim": 2048}
    norm = {"_target_": "torch.nn.BatchNorm1d", "_partial_": True}
    heads = {"_target_": f"{module}.MLP", **mlp, "norm_fn": norm}
    depth = {} if layers == 12 else {"num_hidden_layers": layers}
    return {
        "_target_": "stable_worldmodel.wm.lewm.LeWM",
        "encoder": {
            "_target_": "stable_pretraining.backbone.utils.vit_hf",
            "size": "tiny",
            "patch_size": 14,
            "image_size": image_size,
            "pretrained": False,
            "use_mask_token": False,
            **depth,
        },
        "predictor": {
            "_target_": f"{module}.Predictor",
            "num_frames": 3,
            "input_dim": WIDTH,
            "hidden_dim": WIDTH,
            "output_dim": WIDTH,
            "depth": blocks,
            "heads": 16,
            "mlp_dim": 2048,
            "dim_head": 64,
            "dropout": 0.1,
            "emb_dropout": 0.0,
        },
        "action_encoder": {"_target_": f"{module}.Embedder", "input_dim": 10, "emb_dim": WIDTH},
        "projector": heads,
        "pred_proj": heads,
    }


def shapes(image_size: int = 224, layers: int = 12, blocks: int = 6) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors, in the layout of transformers before version 5."""
    found: dict[str, tuple[int, ...]] = {
        "encoder.embeddings.cls_token": (1, 1, WIDTH),
        "encoder.embeddings.position_embeddings": (1, 1 + (image_size // 14) ** 2, WIDTH),
        "predictor.pos_embedding": (1, 3, WIDTH),
        "action_encoder.patch_embed.weight": (10, 10, 1),
        "action_encoder.patch_embed.bias": (10,),
    }

    def linear(name: str, outputs: int, *inputs: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (outputs, *inputs), (outputs,)

    linear("encoder.embeddings.patch_embeddings.projection", WIDTH, 3, 14, 14)
    for n in range(layers):
        layer = f"encoder.encoder.layer.{n}"
        for part in ("attention.attention.query", "attention.attention.key", "attention.attention.value"):
            linear(f"{layer}.{part}", WIDTH, WIDTH)
        linear(f"{layer}.attention.output.dense", WIDTH, WIDTH)
        linear(f"{layer}.intermediate.dense", 768, WIDTH)
        linear(f"{layer}.output.dense", WIDTH, 768)
        linear(f"{layer}.layernorm_before", WIDTH)
        linear(f"{layer}.layernorm_after", WIDTH)
    linear("encoder.layernorm", WIDTH)
    linear("predictor.transformer.norm", WIDTH)
    for n in range(blocks):
        block = f"predictor.transformer.layers.{n}"
        linear(f"{block}.attn.norm", WIDTH)
        found[f"{block}.attn.to_qkv.weight"] = (3072, WIDTH)
        linear(f"{block}.attn.to_out.0", WIDTH, 1024)
        linear(f"{block}.mlp.net.0", WIDTH)
        linear(f"{block}.mlp.net.1", 2048, WIDTH)
        linear(f"{block}.mlp.net.4", WIDTH, 2048)
        linear(f"{block}.adaLN_modulation.1", 6 * WIDTH, WIDTH)
    linear("action_encoder.embed.0", 768, 10)
    linear("action_encoder.embed.2", WIDTH, 768)
    for projector in ("projector", "pred_proj"):
        linear(f"{projector}.net.0", 2048, WIDTH)
        linear(f"{projector}.net.1", 2048)
        found[f"{projector}.net.1.running_mean"] = found[f"{projector}.net.1.running_var"] = (2048,)
        found[f"{projector}.net.1.num_batches_tracked"] = ()
        linear(f"{projector}.net.3", WIDTH, 2048)
    return found


def weights(**sizes: int) -> dict[str, torch.Tensor]:
    """Random weights, none of them at a value that would hide a mistake."""
    generator = torch.Generator().manual_seed(0)
    made = {}
    for name, shape in shapes(**sizes).items():
        value = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            value = torch.tensor(7)
        elif name.endswith("running_var"):
            value = value.abs() + 0.5
        elif len(shape) > 1:
            value = value / max(1, value[0].numel()) ** 0.5
        else:
            value = 0.3 * value + ("norm" in name and name.endswith("weight"))
        made[name] = value
    return made


def renamed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights by the names of transformers 5."""
    pairs = {
        r"^encoder\.encoder\.layer\.": "encoder.layers.",
        r"attention\.attention\.query": "attention.q_proj",
        r"attention\.attention\.key": "attention.k_proj",
        r"attention\.attention\.value": "attention.v_proj",
        r"attention\.output\.dense": "attention.o_proj",
        r"(?<=\d\.)intermediate\.dense": "mlp.fc1",
        r"(?<=\d\.)output\.dense": "mlp.fc2",
    }
    found = {}
    for name, value in tensors.items():
        for pattern, replacement in pairs.items():
            name = re.sub(pattern, replacement, name)
        found[name] = value
    return found


def encoded(w: dict[str, torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """Latents ``[B, 192]`` of uint8 images ``[B, H, W, 3]``."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((pixels / 255 - mean) / std).permute(0, 3, 1, 2)
    patches = "encoder.embeddings.patch_embeddings.projection"
    x = F.conv2d(x, w[f"{patches}.weight"], w[f"{patches}.bias"], stride=14).flatten(2).transpose(1, 2)
    x = torch.cat([w["encoder.embeddings.cls_token"].expand(len(x), -1, -1), x], dim=1)
    x = x + w["encoder.embeddings.position_embeddings"]
    for n in range(sum(name.endswith("layernorm_before.weight") for name in w)):
        at = f"encoder.encoder.layer.{n}"
        y = norm(w, f"{at}.layernorm_before", x, 1e-12)
        q, k, v = (heads(linear(w, f"{at}.attention.attention.{part}", y), 3) for part in ("query", "key", "value"))
        scores = (q @ k.transpose(-1, -2) / 8).softmax(-1)
        x = x + linear(w, f"{at}.attention.output.dense", (scores @ v).transpose(1, 2).flatten(2))
        y = F.gelu(linear(w, f"{at}.intermediate.dense", norm(w, f"{at}.layernorm_after", x, 1e-12)))
        x = x + linear(w, f"{at}.output.dense", y)
    return projected(w, "projector", norm(w, "encoder.layernorm", x, 1e-12)[:, 0])


def following(w: dict[str, torch.Tensor], z: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
    """The latent ``[B, 192]`` after frames ``z [B, T, 192]`` and the normalised blocks ``[B, T, 10]`` from each."""
    a = blocks @ w["action_encoder.patch_embed.weight"][:, :, 0].T + w["action_encoder.patch_embed.bias"]
    condition = linear(w, "action_encoder.embed.2", F.silu(linear(w, "action_encoder.embed.0", a)))
    steps = z.shape[1]
    x = z + w["predictor.pos_embedding"][:, :steps]
    future = torch.ones(steps, steps).triu(1).bool()
    for n in range(sum(name.endswith("to_qkv.weight") for name in w)):
        at = f"predictor.transformer.layers.{n}"
        modulation = linear(w, f"{at}.adaLN_modulation.1", F.silu(condition))
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = modulation.chunk(6, dim=-1)
        y = F.layer_norm(x, (WIDTH,), eps=1e-6) * (1 + scale) + shift
        q, k, v = (
            heads(y, 16) for y in (norm(w, f"{at}.attn.norm", y) @ w[f"{at}.attn.to_qkv.weight"].T).split(1024, dim=-1)
        )
        scores = (q @ k.transpose(-1, -2) / 8).masked_fill(future, float("-inf")).softmax(-1)
        x = x + gate * linear(w, f"{at}.attn.to_out.0", (scores @ v).transpose(1, 2).flatten(2))
        y = F.layer_norm(x, (WIDTH,), eps=1e-6) * (1 + scale_mlp) + shift_mlp
        y = F.gelu(linear(w, f"{at}.mlp.net.1", norm(w, f"{at}.mlp.net.0", y)))
        x = x + gate_mlp * linear(w, f"{at}.mlp.net.4", y)
    return projected(w, "pred_proj", norm(w, "predictor.transformer.norm", x)[:, -1])


def projected(w: dict[str, torch.Tensor], at: str, x: torch.Tensor) -> torch.Tensor:
    x = linear(w, f"{at}.net.0", x)
    x = (x - w[f"{at}.net.1.running_mean"]) / (w[f"{at}.net.1.running_var"] + 1e-5).sqrt()
    return linear(w, f"{at}.net.3", F.gelu(x * w[f"{at}.net.1.weight"] + w[f"{at}.net.1.bias"]))


def linear(w: dict[str, torch.Tensor], at: str, x: torch.Tensor) -> torch.Tensor:
    return x @ w[f"{at}.weight"].T + w[f"{at}.bias"]


def norm(w: dict[str, torch.Tensor], at: str, x: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    return F.layer_norm(x, (WIDTH,), w[f"{at}.weight"], w[f"{at}.bias"], eps)


def heads(x: torch.Tensor, count: int) -> torch.Tensor:
    return x.unflatten(-1, (count, -1)).transpose(1, 2)
