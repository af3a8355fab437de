"""Another simulation of the same quantities, made in numpy before this one and without its code.

Each value is a mean of 10 to 300 draws, to the digits that are written here. It does not say of how many: `DRAWS` are
the fewest, so that the error that is allowed to it is not too small.
"""

from __future__ import annotations

from typing import NamedTuple

#: Draws of a value, at least.
DRAWS = 10


class Value(NamedTuple):
    """A value and half a unit of its last digit; of a value that is written as a range, half the range."""

    value: float
    rounding: float


#: Dimensions → pairs that are added until the cross-talk of a scalar reaches ½.
WORST_CASE = {16: Value(3.2, 0.05), 64: Value(5.8, 0.05), 256: Value(10.6, 0.05), 1024: Value(20.7, 0.05)}
#: Dimensions (of keys and values), pairs → share of items whose own value fits best.
ARGMAX = {
    (32, 35): Value(0.969, 0.0005),
    (32, 109): Value(0.54, 0.005),
    (64, 109): Value(0.991, 0.0005),
    (64, 128): Value(0.981, 0.0005),
    (64, 256): Value(0.7615, 0.0075),
    (64, 349): Value(0.56, 0.005),
    (64, 512): Value(0.339, 0.0005),
    (128, 512): Value(0.977, 0.0005),
    (128, 1024): Value(0.673, 0.0005),
}
#: Dimensions, pairs → share of values ±1 that are read with the wrong sign.
SIGN = {
    (64, 16): Value(0.022, 0.0005),
    (64, 32): Value(0.077, 0.0005),
    (64, 64): Value(0.153, 0.0005),
    (64, 128): Value(0.238, 0.0005),
    (256, 64): Value(0.0220, 0.00005),
    (256, 128): Value(0.0780, 0.00005),
}
#: Length of the last of 32 values → error of the others, d = 64, of a rule that limits errors to a length of 1.5.
LIMITED = {1.0: Value(0.301, 0.0005), 10.0: Value(0.316, 0.0005), 30.0: Value(0.316, 0.0005)}
LIMITED_RULE = "yaad(delta=1.5)"
#: Kind of keys → error of the delta rule after one pass, d = 64, n = 128.
DELTA_KEYS = {
    "random": Value(1.055, 0.0005),
    "spectrum(exponent=0.5)": Value(1.106, 0.0005),
    "spectrum(exponent=1)": Value(1.256, 0.0005),
    "shared-mean(share=0.25)": Value(1.104, 0.0005),
    "shared-mean(share=1)": Value(1.258, 0.0005),
}
