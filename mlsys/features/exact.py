"""Sums of floats without rounding: integers in digits of 32 bits, rounded once at the end.

A float is an integer times a power of two. Laid out as digits of base 2³², floats are added
digit by digit in 64-bit integers, which is exact for up to 2³¹ values, and sums can be
subtracted again without the cancellation that differences of rounded prefix sums suffer.
The result is the float nearest to the exact sum, ties to even, as `math.fsum` gives it
(a small superaccumulator; Kulisch (2008), "Computer Arithmetic and Validity", chapter 8;
Neal (2015), "Fast exact summation using small and large superaccumulators",
arXiv:1505.05571).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["digits", "rounded"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BITS = 32
MASK = np.int64((1 << BITS) - 1)
LOWEST = -1126
"""Exponent of digit 0: the mantissa of the smallest float, 2⁻¹⁰⁷⁴, taken as 53 bits ends at 2⁻¹¹²⁶."""

BLOCK = 1 << 15  # sums rounded at a time: their digits stay in the processor's cache


def digits(values: Floats) -> tuple[Ints, tuple[Ints, Ints, Ints]]:
    """Each value as three signed digits: the number of the lowest, and the digits from there upwards.

    >>> lowest, parts = digits(np.array([1.5]))
    >>> sum(int(d[0]) * 2.0 ** (32 * (int(lowest[0]) + at) - 1126) for at, d in enumerate(parts))
    1.5
    """
    mantissa, exponent = np.frexp(values)
    whole = np.abs(np.ldexp(mantissa, 53)).astype(np.int64)
    first = exponent.astype(np.int64) - 53 - LOWEST
    lowest, shift = np.divmod(first, BITS)
    low = (whole & MASK) << shift
    rest = (low >> BITS) + ((whole >> BITS) << shift)
    sign = np.where(values < 0, np.int64(-1), np.int64(1))
    return lowest, (sign * (low & MASK), sign * (rest & MASK), sign * (rest >> BITS))


def rounded(sums: dict[int, Ints]) -> Floats:
    """The floats nearest to sums given by their digits, number of the digit → values.

    Digit 35 counts in units of 2⁻⁶, digit 36 in units of 2²⁶:

    >>> rounded({35: np.array([3, -64]), 36: np.array([0, 1])}).tolist()
    [0.046875, 67108863.0]
    """
    if not sums:
        return np.empty(0)
    first, last = min(sums), max(sums)
    size = len(sums[first])
    result = np.empty(size)
    for start in range(0, size, BLOCK):
        block = slice(start, start + BLOCK)
        zero = np.zeros(len(result[block]), np.int64)
        rows = [sums[at][block] if at in sums else zero for at in range(first, last + 1)]
        result[block] = _round(np.stack(rows), first)
    return result


def _round(sums: Ints, first: int) -> Floats:
    plain, is_negative = _carried(sums)
    if is_negative.any():
        plain = _carried(np.where(is_negative, -sums, sums))[0]
    size = plain.shape[1]
    below = np.zeros((2, size), np.int64)
    number = np.concatenate([below, plain])  # two digits of zeros, so that each digit has two below it
    present = number != 0
    top = np.where(present.any(axis=0), len(number) - 1 - present[::-1].argmax(axis=0), 2)
    more = np.cumsum(present, axis=0)
    column = np.arange(size)
    head, middle, tail = (number[top - down, column].astype(np.uint64) for down in (0, 1, 2))
    is_inexact = np.where(top >= 3, more[top - 3, column], 0) > 0
    # The top 64 bits from the first set one; the last bit is set if anything was cut off, so that rounding to
    # 53 bits, which the conversion does, sees the difference between a tie and more than a tie.
    shift = (BITS - np.frexp(head.astype(np.float64))[1]).astype(np.uint64)
    word = (((head << np.uint64(BITS)) | middle) << shift) | (tail >> (np.uint64(BITS) - shift))
    cut = ((tail << shift) & np.uint64(MASK)) != 0
    word |= (cut | is_inexact).astype(np.uint64)
    exponent = (top - 2 + first - 1) * BITS - shift.astype(np.int64) + LOWEST
    result = np.ldexp(word.astype(np.float64), exponent.astype(np.int32))
    return np.asarray(np.where(is_negative, -result, result) + 0.0, np.float64)


def _carried(sums: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Digits from 0 to 2³² - 1, one more on top; and where the number is negative (its digits then mean nothing)."""
    plain = np.empty((len(sums) + 1, sums.shape[1]), np.int64)
    carry = np.zeros(sums.shape[1], np.int64)
    for at, digit in enumerate(sums):
        total = digit + carry
        plain[at] = total & MASK
        carry = total >> BITS
    plain[-1] = carry
    return plain, carry < 0
