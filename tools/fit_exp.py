"""Fit the polynomials of csrc/simd/math.h and print the constants as they stand there.

``exp(r) = 1 + r + r^2 * Q(r)`` on ``|r| <= ln(2) / 2``. The two leading terms are kept exact, so
that exp(0) and sigmoid(0) are exact and tanh keeps its precision near 0; Q minimises the largest
error relative to exp(r). Its coefficients are then rounded to the format, which costs less than
a tenth of an ULP, since r^2 is at most 0.12.

Run ``python tools/fit_exp.py`` (needs mpmath).
"""

from __future__ import annotations

from dataclasses import dataclass

from mpmath import cos, exp, expm1, floor, frexp, ldexp, log, lu_solve, matrix, mp, mpf, pi

mp.dps = 60

# A little past ln(2) / 2: rounding of x * log2(e) can push r over the edge.
HALF_WIDTH = log(2) / 2 * (1 + mpf(2) ** -12)
POINTS = [HALF_WIDTH * cos(pi * (k + mpf("0.5")) / 600) for k in range(600)][::-1]


@dataclass(frozen=True)
class Format:
    """A floating-point format and the degree of Q that suffices for it."""

    name: str
    digits: int  # of the significand, in bits
    degree: int
    suffix: str  # of a C++ literal


FORMATS = (Format("float", 24, 4, "f"), Format("double", 53, 9, ""))


def round_to(value: mpf, digits: int) -> mpf:
    """Round to the nearest number of so many significant bits."""
    fraction, exponent = frexp(value)
    return ldexp(floor(ldexp(fraction, digits) + mpf("0.5")), exponent - digits)


def error_at(coefficients: list[mpf], r: mpf) -> mpf:
    """Error of ``1 + r + r^2 * Q(r)`` relative to ``exp(r)``; coefficients lowest first."""
    value = mpf(0)
    for c in reversed(coefficients):
        value = value * r + c
    return (r**2 * value - (expm1(r) - r)) / exp(r)


def fit(degree: int) -> list[mpf]:
    """Minimax fit of Q by Remez' exchange on a fine grid.

    Solves for an error of equal size and alternating sign at ``degree + 2`` points, then moves
    the points to the extrema of the error, until they stay.

    Returns
    -------
    list of mpf
        The ``degree + 1`` coefficients, lowest first.
    """
    count = degree + 2
    chosen = [round((k + 0.5) * len(POINTS) / count - 0.5) for k in range(count)]
    while True:
        system, right = matrix(count, count), matrix(count, 1)
        for row, index in enumerate(chosen):
            r = POINTS[index]
            for k in range(degree + 1):
                system[row, k] = r ** (2 + k) / exp(r)
            system[row, degree + 1] = mpf(-1) ** row
            right[row] = expm1(r) / exp(r) - r / exp(r)
        solution = lu_solve(system, right)
        coefficients = [solution[k] for k in range(degree + 1)]
        extrema = alternating_extrema([error_at(coefficients, r) for r in POINTS], count)
        if extrema == chosen:
            return coefficients
        chosen = extrema


def alternating_extrema(errors: list[mpf], count: int) -> list[int]:
    """Indices of the ``count`` neighbouring extrema of alternating sign that are largest."""
    extrema: list[int] = []
    for i, e in enumerate(errors):
        if extrema and e * errors[extrema[-1]] > 0:
            if abs(e) > abs(errors[extrema[-1]]):
                extrema[-1] = i
        else:
            extrema.append(i)
    while len(extrema) > count:
        extrema.pop(0 if abs(errors[extrema[0]]) < abs(errors[extrema[-1]]) else -1)
    return extrema


def literal(value: mpf, fmt: Format) -> str:
    """The exact value as a hexadecimal C++ literal."""
    fraction, exponent = frexp(value)
    numerator = int(ldexp(abs(fraction), fmt.digits))
    sign = "-" if value < 0 else ""
    bits = fmt.digits - 1  # behind the leading 1
    pad = -bits % 4
    tail = format((numerator - (1 << bits)) << pad, f"0{(bits + pad) // 4}x").rstrip("0")
    return f"{sign}0x1{'.' + tail if tail else ''}p{int(exponent) - 1:+d}{fmt.suffix}"


def main() -> None:
    """Print the constants of every format and the largest error of each fit."""
    for fmt in FORMATS:
        rounded = [round_to(c, fmt.digits) for c in fit(fmt.degree)]
        worst = max(abs(error_at(rounded, r)) for r in POINTS)
        high = round_to(log(2), fmt.digits)
        low = round_to(log(2) - high, fmt.digits)
        declare = f"  static constexpr {fmt.name}"
        print(f"// largest error of 1 + r + r^2 * Q(r): 2^{float(log(worst, 2)):.1f} of exp(r)")
        print(f"{declare} kLog2e = {literal(round_to(1 / log(2), fmt.digits), fmt)};")
        print(f"{declare} kLn2 = {literal(high, fmt)}, kLn2Low = {literal(low, fmt)};")
        print(f"  static constexpr int kDegree = {fmt.degree};")
        print(f"{declare} kQ[] = {{{', '.join(literal(c, fmt) for c in rounded)}}};")


if __name__ == "__main__":
    main()
