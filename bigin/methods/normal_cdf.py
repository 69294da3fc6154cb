"""The normal distribution's CDF in decimal arithmetic, so that no C library decides a bit."""

from __future__ import annotations

from decimal import Context, Decimal, localcontext
from functools import cache

# Phi(-40) is about 1e-350, and is taken from 1/2 with at least 50 digits to spare.
LIMIT = Decimal(40)
DIGITS = 410
CONTEXT = Context(prec=DIGITS, Emin=-999_999, Emax=999_999)


def cdf(x: Decimal) -> Decimal:
    """Phi(x), the probability that a standard normal is below x; x is first brought into [-40, 40].

    1/2 + phi(x) (x + x^3/3 + x^5/(3 5) + ...), whose terms all have one sign (Abramowitz and Stegun 26.2.11).
    """
    with localcontext(CONTEXT):
        x = max(-LIMIT, min(LIMIT, x))
        square = x * x
        term = total = x
        odd = 1
        while abs(term) > abs(total).scaleb(-DIGITS):
            odd += 2
            term = term * square / odd
            total += term
        return Decimal("0.5") + total * (-square / 2).exp() / (2 * pi()).sqrt()


@cache
def pi() -> Decimal:
    """pi by Machin's formula, 16 atan(1/5) - 4 atan(1/239)."""
    with localcontext(CONTEXT) as context:
        context.prec += 10
        return 16 * _atan_inverse(5) - 4 * _atan_inverse(239)


def _atan_inverse(n: int) -> Decimal:
    power = total = Decimal(1) / n
    odd, sign = 1, 1
    while power.adjusted() > -DIGITS - 15:
        power /= n * n
        odd, sign = odd + 2, -sign
        total += sign * power / odd
    return total
