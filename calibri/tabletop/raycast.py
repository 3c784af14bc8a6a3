"""Scenes to pictures: analytic ray casting in numpy, one shadow ray a sample, 2 x 2 samples a pixel."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from calibri.tabletop.world import COLOURS, SIZES, TABLES, Scene, Solid

SIDE = 128  # pixels
_SAMPLES = 2  # along each axis of a pixel
_EYE = np.array([0.0, -6.2, 4.3], np.float32)
_TARGET = np.array([0.0, 0.05, 0.25], np.float32)
_HALF_VIEW = 0.305  # tangent of half the angle of view
_LIGHT = np.array([-0.52, -0.34, 0.78], np.float32) / np.linalg.norm([-0.52, -0.34, 0.78])
_FAR = np.float32(1e6)


def _rays(side: int) -> np.ndarray:
    """Unit directions of the camera's rays, (side, side, 3)."""
    forward = (_TARGET - _EYE) / np.linalg.norm(_TARGET - _EYE)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    at = ((np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1) * _HALF_VIEW
    d = forward + at[None, :, None] * right - at[:, None, None] * up
    return (d / np.linalg.norm(d, axis=-1, keepdims=True)).astype(np.float32)


def _height(solid: Solid) -> float:
    """Top of the solid above the table."""
    r = SIZES[solid.size]
    return {"sphere": 2 * r, "cube": 1.7 * r, "cylinder": 1.9 * r, "cone": 2.2 * r}[solid.shape]


def _nearest(*candidates: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Of (t, valid, normal) triples, the smallest valid t > 0 and its normal."""
    t_best = np.full(candidates[0][0].shape, _FAR, np.float32)
    n_best = np.zeros((*t_best.shape, 3), np.float32)
    for t, valid, normal in candidates:
        closer = valid & (t > 1e-3) & (t < t_best)
        t_best = np.where(closer, t, t_best)
        n_best = np.where(closer[..., None], normal, n_best)
    return t_best, n_best


def hit(solid: Solid, o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays meet a solid. o, d: (n, 3) origins and unit directions. Returns t (n,), `_FAR` for a miss;
    normal (n, 3).
    """
    r = SIZES[solid.size]
    h = _height(solid)
    base = np.array([solid.x, solid.y, 0.0], np.float32)
    p = o - base
    if solid.shape == "sphere":
        q = p - np.array([0, 0, r], np.float32)
        b = (q * d).sum(-1)
        disc = b * b - (q * q).sum(-1) + r * r
        t = -b - np.sqrt(np.maximum(disc, 0))
        return _nearest((t, disc > 0, (q + t[:, None] * d) / r))
    if solid.shape == "cube":
        c, s = np.cos(solid.yaw), np.sin(solid.yaw)
        turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]], np.float32)
        half = np.array([0.85 * r, 0.85 * r, h / 2], np.float32)
        q, e = (p - np.array([0, 0, h / 2], np.float32)) @ turn.T, d @ turn.T
        e = np.where(np.abs(e) < 1e-7, 1e-7, e)
        near, far = (-np.sign(e) * half - q) / e, (np.sign(e) * half - q) / e
        axis = near.argmax(-1)
        t = near.max(-1)
        normal = np.zeros_like(e)
        rows = np.arange(len(e))
        normal[rows, axis] = -np.sign(e[rows, axis])
        return _nearest((t, t < far.min(-1), normal @ turn))
    if solid.shape == "cylinder":
        slope, radius = 0.0, 0.82 * r
    else:
        slope, radius = 1.02 * r / h, 1.02 * r
    # The side is x^2 + y^2 = (radius - slope z)^2; slope 0 is a cylinder.
    width = radius - slope * p[:, 2]
    a = d[:, 0] ** 2 + d[:, 1] ** 2 - (slope * d[:, 2]) ** 2
    b = p[:, 0] * d[:, 0] + p[:, 1] * d[:, 1] + slope * d[:, 2] * width
    c = p[:, 0] ** 2 + p[:, 1] ** 2 - width**2
    disc = b * b - a * c
    root = np.sqrt(np.maximum(disc, 0))
    a = np.where(np.abs(a) < 1e-7, 1e-7, a)
    sides = []
    for sign in (-1.0, 1.0):
        t = (-b + sign * root) / a
        at = p + t[:, None] * d
        normal = np.stack([at[:, 0], at[:, 1], slope * (radius - slope * at[:, 2])], -1)
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
        sides.append((t, (disc > 0) & (at[:, 2] > 0) & (at[:, 2] < h), normal))
    if slope == 0.0:
        t = (h - p[:, 2]) / np.where(np.abs(d[:, 2]) < 1e-7, 1e-7, d[:, 2])
        at = p + t[:, None] * d
        up = np.broadcast_to(np.array([0, 0, 1], np.float32), at.shape)
        sides.append((t, at[:, 0] ** 2 + at[:, 1] ** 2 < radius**2, up))
    return _nearest(*sides)


def _near(solid: Solid, o: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Indices of the rays that pass the solid's bounding sphere: the rest cannot meet it. One of o, d may
    be (3,).
    """
    r, h = SIZES[solid.size], _height(solid)
    q = o - np.array([solid.x, solid.y, h / 2], np.float32)
    along = d @ q if q.ndim == 1 else q @ d if d.ndim == 1 else (q * d).sum(-1)
    away = q @ q if q.ndim == 1 else np.einsum("ij,ij->i", q, q)
    return np.flatnonzero(away - along * along < (1.25 * r) ** 2 + (h / 2) ** 2)


@lru_cache(maxsize=4)
def _camera(fine: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directions of all rays (n, 3), the distance to the bare table (n,) and where they meet it (n, 3)."""
    d = _rays(fine).reshape(-1, 3)
    t = -_EYE[2] / d[:, 2]
    return d, t, _EYE + t[:, None] * d


def _shadowed(scene: Scene, origin: np.ndarray) -> np.ndarray:
    """Which of the points (n, 3) a solid hides from the light: (n,) bool."""
    dark = np.zeros(len(origin), bool)
    for solid in scene.solids:
        rows = _near(solid, origin, _LIGHT)
        t, _ = hit(solid, origin[rows], np.broadcast_to(_LIGHT, (len(rows), 3)))
        dark[rows[t < _FAR]] = True
    return dark


def raycast(scene: Scene, side: int = SIDE) -> np.ndarray:
    """The clear picture of a scene: (side, side, 3) uint8."""
    d, t_table, at = _camera(side * _SAMPLES)
    t = t_table.copy()
    found = []
    for solid in scene.solids:
        rows = _near(solid, _EYE, d)
        tk, nk = hit(solid, np.broadcast_to(_EYE, (len(rows), 3)), d[rows])
        closer = tk < t[rows]
        rows = rows[closer]
        t[rows] = tk[closer]
        found.append((solid, rows, tk[closer], nk[closer]))
    # The table: it fades a little towards the back, as under a wide soft light, and darkens next to a solid.
    depth = np.clip((at[:, 1] + 2.5) / 6.5, 0, 1)
    closeness = np.ones(len(d), np.float32)
    for solid in scene.solids:
        gap = np.hypot(at[:, 0] - solid.x, at[:, 1] - solid.y) / SIZES[solid.size]
        near = np.flatnonzero(gap < 2.0)
        closeness[near] *= 1 - 0.35 * np.exp(-(np.maximum(gap[near] - 0.8, 0) ** 2) / 0.12)
    light = 0.48 * closeness + 0.66 * _LIGHT[2] * ~_shadowed(scene, at + np.array([0, 0, 2e-3], np.float32))
    colour = np.array(TABLES[scene.table], np.float32) * ((0.90 + 0.16 * depth) * light)[:, None]
    for solid, rows, tk, normal in found:
        seen = tk <= t[rows]  # another solid may stand in front
        rows, tk, normal = rows[seen], tk[seen], normal[seen]
        lit = ~_shadowed(scene, _EYE + tk[:, None] * d[rows] + 2e-3 * normal)
        half = _LIGHT - d[rows]
        half /= np.linalg.norm(half, axis=-1, keepdims=True)
        light = 0.34 + 0.14 * normal[:, 2] + 0.74 * np.maximum(normal @ _LIGHT, 0) * lit
        shine = 0.55 * np.maximum(np.einsum("ij,ij->i", normal, half), 0) ** 40 * lit
        colour[rows] = np.array(COLOURS[solid.colour], np.float32) * light[:, None] + shine[:, None]
    pixels = np.clip(colour, 0, 1).reshape(side, _SAMPLES, side, _SAMPLES, 3).mean((1, 3))
    return (pixels * 255 + 0.5).astype(np.uint8)
