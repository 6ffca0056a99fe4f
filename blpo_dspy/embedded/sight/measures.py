"""Published no-reference measures of a photograph: what the engine sees of an image before it names anything.

Sources: Laplacian variance (Pech-Pacheco et al. 2000), re-blur (Crété et al. 2007), noise (Immerkær 1996), blockiness
on the 8-pixel grid (Wang, Sheikh & Bovik 2002), grey-world deviation (Buchsbaum 1980), colourfulness (Hasler and
Süsstrunk 2003); clipped shares, luminance percentiles, RMS contrast and HSV saturation as usual.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from blpo_dspy.embedded.sight.pixels import Pixels, luminance
from blpo_dspy.embedded.sight.pixels import saturation as hsv_saturation

_IMMERKAER = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
_GRID = 8
_NOISE_BLOCK = 14


def measure(pixels: Pixels) -> NDArray[np.float64]:
    """Returns the measures of an RGB picture, shape (height, width, 3) in [0, 255]; each side at least 16 pixels."""
    grey = luminance(pixels)
    return np.concatenate([_sharpness(grey), _noise(grey), _blocks(grey), _tone(grey), _colour(pixels)])


def _log(value: float) -> float:
    return float(np.log(value + 1e-3))


def _sharpness(grey: Pixels) -> list[float]:
    laplacian = ndimage.laplace(grey, mode="nearest")
    fine, coarse = (ndimage.gaussian_gradient_magnitude(grey, s, mode="nearest").mean() for s in (1.0, 3.0))
    return [
        _log(laplacian.var()),
        _log(laplacian.var() / (grey.var() + 1.0)),
        _reblur(grey, 0),
        _reblur(grey, 1),
        _log(fine / (coarse + 1e-3)),
        _log(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()),
    ]


def _reblur(grey: Pixels, axis: int) -> float:
    sharp = np.abs(np.diff(grey, axis=axis))
    blurred = np.abs(np.diff(ndimage.uniform_filter1d(grey, 9, axis=axis, mode="nearest"), axis=axis))
    return float(1 - np.maximum(sharp - blurred, 0).sum() / (sharp.sum() + 1e-3))


def _noise(grey: Pixels) -> list[float]:
    response = np.abs(ndimage.convolve(grey, _IMMERKAER, mode="nearest")) * np.sqrt(np.pi / 2) / 6
    rows, columns = (max(1, n // _NOISE_BLOCK) for n in grey.shape)
    tiles = response[: rows * _NOISE_BLOCK, : columns * _NOISE_BLOCK]
    blocks = tiles.reshape(rows, tiles.shape[0] // rows, columns, tiles.shape[1] // columns).mean(axis=(1, 3)).ravel()
    return [_log(response.mean()), _log(float(np.median(response))), _log(float(np.quantile(blocks, 0.1)))]


def _blocks(grey: Pixels) -> list[float]:
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(grey, axis=axis)).mean(axis=1 - axis)
        on = steps[_GRID - 1 :: _GRID].mean()
        off = np.delete(steps, np.s_[_GRID - 1 :: _GRID]).mean()
        ratios.append(_log((on + 0.1) / (off + 0.1)))
    rows, columns = (n // _GRID for n in grey.shape)
    cells = grey[: rows * _GRID, : columns * _GRID].reshape(rows, _GRID, columns, _GRID)
    spread = cells.std(axis=(1, 3))
    inner = np.abs(np.diff(cells, axis=1)).mean(axis=(1, 3)) + np.abs(np.diff(cells, axis=3)).mean(axis=(1, 3))
    return [*ratios, float((spread < 1.5).mean()), float((inner < 0.5).mean()), _log(float(np.median(inner)))]


def _tone(grey: Pixels) -> list[float]:
    p = np.percentile(grey, (1, 10, 50, 90, 99)) / 255
    return [
        float((grey >= 250).mean()),
        float((grey >= 235).mean()),
        float((grey <= 6).mean()),
        *p.tolist(),
        _log(grey.mean()),
        _log(grey.std()),
        _log(float(p[3] - p[1])),
    ]


def _colour(pixels: Pixels) -> list[float]:
    channels = pixels.reshape(-1, 3)
    views = [channels.mean(axis=0), *np.percentile(channels, (10, 50, 90), axis=0)]
    casts = [float((v[1] - (v[0] + v[2]) / 2) / (v.mean() + 5.0)) for v in views]
    spread = float(np.ptp(views[0]) / (views[0].mean() + 5.0))
    saturation = hsv_saturation(pixels).ravel()
    rg, yb = channels[:, 0] - channels[:, 1], (channels[:, 0] + channels[:, 1]) / 2 - channels[:, 2]
    colourfulness = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    return [
        *casts,
        spread,
        float(saturation.mean()),
        float(np.median(saturation)),
        float(np.quantile(saturation, 0.95)),
        float((saturation > 0.9).mean()),
        _log(float(colourfulness)),
        float((channels >= 254).mean()),
    ]
