"""What to do about images whose numbers are not in [0, 1], by the range that they have."""

from __future__ import annotations

OVERSHOOT = 0.25
"""How far interpolation takes images out of their range, generously."""


def how_to_scale(low: float, high: float) -> str:
    """What brings floats from ``low`` to ``high`` into [0, 1], as the end of a sentence.

    Nothing is advised that would turn images dark or cut off what they show; where the range does not say what the
    numbers are, neither does this. Both are finite, and one of them is not in [0, 1].
    """
    if low >= -OVERSHOOT and high <= 1 + OVERSHOOT:
        return "clip them to [0, 1], out of which interpolation takes pixels slightly"
    if low >= -1 - OVERSHOOT and high <= 1 + OVERSHOOT:
        return "give (x + 1) / 2 of what is in [-1, 1]"
    if low >= -255 * OVERSHOOT and 32 < high <= 255 * (1 + OVERSHOOT):
        clip = " and clip the result to [0, 1]" if low < 0 or high > 255 else ""
        return f"divide what goes to 255 by 255{clip}"
    if low >= 0 and high > 255:
        return "divide them by the largest value that they may have (65535 where they have 16 bits)"
    if low < 0:
        return "undo how they were standardized: times the standard deviation, plus the mean"
    return "divide them by the largest value that they may have"
