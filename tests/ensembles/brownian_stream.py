"""The random stream of the ensemble kernels, written down a second time in NumPy."""

import numpy as np

_LOW = np.uint64(0xFFFFFFFF)


def philox4x32(counter, key):
    """Philox4x32-10 of Salmon, Moraes, Dror & Shaw (2011): four words from four words
    of counter, arrays of uint64, and two of key."""
    c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in counter)
    k0, k1 = (int(k) for k in key)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def stream_normals(key, trajectory, kind, count):
    """The first numbers of a trajectory's sequence: pair q comes from the counter
    (q, kind, low word of the trajectory, high word) by Box and Muller's transform."""
    pairs = np.arange((count + 1) // 2, dtype=np.uint64)
    constant = np.zeros_like(pairs)
    words = philox4x32(
        (
            pairs,
            constant + np.uint64(kind),
            constant + np.uint64(trajectory % 2**32),
            constant + np.uint64(trajectory >> 32),
        ),
        key,
    )

    def fraction(low, high):
        # The upper 52 of 64 bits.
        return ((high << np.uint64(20)) | (low >> np.uint64(12))) / 2.0**52

    radius = np.sqrt(-2 * np.log(1 - fraction(words[0], words[1])))
    angle = (fraction(words[2], words[3]) - 0.5) * (np.pi / 2)
    exchange = (words[0] & np.uint64(1)) == 1
    sign = np.where(words[0] & np.uint64(2), -1.0, 1.0)
    angle = np.where(exchange, np.pi / 2 - angle, angle)
    pair = sign * radius * np.stack([np.cos(angle), np.sin(angle)])
    return pair.T.ravel()[:count]
