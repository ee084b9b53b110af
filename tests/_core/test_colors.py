"""The colors of figures, for any colour vision."""

import matplotlib
import numpy as np
import pytest

from hybrid_nds._core import COLORS


def _distance(a, b):
    """How far apart two colours are in CIELAB, 100 from black to white."""

    def lab(rgb):
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722]]
        matrix.append([0.0193, 0.1192, 0.9505])
        xyz = np.array(matrix) @ linear / np.array([0.9505, 1.0, 1.089])
        f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])

    return np.linalg.norm(lab(a) - lab(b))


# Machado, Oliveira & Fernandes (2009), table 1, of severity 1.
BLINDNESS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


@pytest.mark.parametrize("kind", BLINDNESS)
def test_the_first_colors_are_told_apart_with_any_colour_vision(kind):
    # A difference of 2.3 is just noticed (Mahy, Van Eycken & Oosterlinck 1994); lines
    # that lie apart in a figure want several times that.
    seen = [
        np.clip(np.array(BLINDNESS[kind]) @ matplotlib.colors.to_rgb(color), 0, 1)
        for color in COLORS[:4]
    ]
    least = min(_distance(a, b) for i, a in enumerate(seen) for b in seen[:i])
    assert least > 10
