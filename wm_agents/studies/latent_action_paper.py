"""Numbers of the paper on planning in latent action spaces; geometries in the order VAE, sparse, VQ-VAE."""

from __future__ import annotations

TABLE_1 = {
    "cem": (0.323, 0.141, 0.421),
    "mppi": (1.223, 0.865, 1.294),
    "gradient": (0.254, 0.741, 1.774),
    "sgld": (0.405, 1.069, 1.672),
    "diffusion": (0.596, 0.645, 0.977),
}
"""Goal distance at d = h = 8."""

TABLE_2 = {
    "cem": {4: (0.039, 0.207), 8: (0.231, 0.608), 16: (0.753, 1.189)},
    "diffusion": {4: (0.098, 0.772), 8: (1.14, 1.52), 16: (1.06, 1.67)},
}
"""Goal distance by dimension, least and most of the three geometries. Its d = 8 contradicts table 1."""

TABLE_3 = {"cem": {4: 0.368, 8: 0.323, 16: 0.300}, "diffusion": {4: 0.447, 8: 0.596, 16: 0.604}}
"""Goal distance by horizon, VAE, d = 8."""

TABLE_4 = {
    "cem": (2.08, 2000),
    "mppi": (1.85, 2000),
    "gradient": (1.54, 3250),
    "sgld": (1.31, 3250),
    "diffusion": (0.72, 1050),
}
"""Smoothness and evaluations, VAE, d = h = 8."""

AMENABILITY = {"vae": (0.55, 0.73), "sparse": (0.49, 0.56), "vq": (0.56, 0.74)}
"""At d = 4 and d = 32 (section 3.1)."""

EFFECTIVE_DIMENSION = {"vae": (3.0, 5.8), "sparse": (3.9, 29.8), "vq": (2.9, 5.2)}
"""At d = 4 and d = 32 (section 3.1)."""
