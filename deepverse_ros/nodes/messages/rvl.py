"""RVL (Wilson, Fast lossless depth image compression, 2017): 16-bit depth as runs of zeros and of differences.

Numbers lie in groups of four bits, three of the number, the lowest first, and one that says whether more follow; eight
groups are a word of 32 bits, the first in its highest bits, and words are little-endian. A picture is: how many zeros,
how many others, and each of these as its difference from the one before (0, -1, 1, -2, … are 0, 1, 2, 3, …).
"""

import numpy as np

from deepverse_ros.errors import MessageError


def decode(data: np.ndarray, pixels: int) -> np.ndarray:
    """(pixels,) uint16 from bytes (n,) uint8. Raises: MessageError where they end too early or say too much."""
    numbers = _numbers(data)
    runs: list[int] = []
    heads: list[int] = []
    at = done = 0
    while done < pixels:  # once a run: what is in it is read at once below
        zeros, others = (numbers.item(at), numbers.item(at + 1)) if at + 2 <= len(numbers) else (0, 0)
        runs += (zeros, others)
        heads += (at, at + 1)
        at, done = at + 2 + others, done + zeros + others
        if zeros + others == 0 or done > pixels or at > len(numbers):
            raise MessageError(f"RVL data of {len(data)} bytes are damaged: they do not hold {pixels} pixels")
    coded = np.delete(numbers[:at], heads)
    out = np.zeros(pixels, np.uint16)
    out[np.repeat(np.arange(len(runs)) % 2 == 1, runs)] = np.cumsum((coded >> 1) ^ -(coded & 1)) & 0xFFFF
    return out


def _numbers(data: np.ndarray) -> np.ndarray:
    """(m,) int64: all numbers that the bytes hold."""
    words = data[: len(data) // 4 * 4].view("<u4")
    groups: np.ndarray = ((words[:, None] >> np.arange(28, -4, -4, dtype=np.uint32)) & 0xF).ravel().astype(np.int64)
    ends = np.flatnonzero(groups < 8)
    if not len(ends):
        return np.zeros(0, np.int64)
    groups = groups[: ends[-1] + 1]
    begins = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(groups)) - np.repeat(begins, ends - begins + 1)
    if place.max(initial=0) > 10:
        raise MessageError(f"RVL data of {len(data)} bytes are damaged: a number has over 32 bits")
    return np.add.reduceat((groups & 7) << (3 * place), begins)
