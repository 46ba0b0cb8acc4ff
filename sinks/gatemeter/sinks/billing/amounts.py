"""Amounts and quantities as exact decimals of 12 digits after the point, and what an export writes instead.

An amount comes as text, as a JSON number (read as a decimal, never as a float) or as a Parquet decimal; a Parquet
double is taken by its shortest decimal form. What has more than 12 digits after the point is exact if the rest is
zeros, else rounded half-even once: 0.0000000000005 → 0, 0.0000000000015 → 0.000000000002.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Final

from gatemeter.sinks.billing.errors import BadRow

DIGITS: Final = 12
_LIMIT: Final = Decimal(10) ** 26  # Decimal(38, 12) holds what is below
_STEP: Final = Decimal(1).scaleb(-DIGITS)
_WIDE: Final = Context(prec=100, rounding=ROUND_HALF_EVEN)
_NUMBER: Final = re.compile(r"[+-]?(\d{1,60}(\.\d{0,60})?|\.\d{1,60})([eE][+-]?\d{1,2})?")

# Active codes of ISO 4217; its codes of no currency are none that a bill is made out in.
_CODES: Final = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY
    COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS
    INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP
    MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR
    SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV
    WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG
"""
CURRENCIES: Final = frozenset(re.findall(r"[A-Z]{3}", _CODES))


def number_of(field: str, value: object) -> Decimal | None:
    """A value as an exact number; None and '' are None. Raises `BadRow`."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        raise BadRow(field, f"must be a number, got {value}")
    if isinstance(value, Decimal):
        number = value
    elif isinstance(value, int):
        number = Decimal(value)
    elif isinstance(value, float):
        number = Decimal(repr(value))
    else:
        text = str(value).strip()
        if not _NUMBER.fullmatch(text):
            raise BadRow(field, f"must be a number such as -12.5 or 1e-05, got {text[:60]!r}")
        try:
            number = Decimal(text)
        except InvalidOperation:  # digits of another script
            raise BadRow(field, f"must be a number such as -12.5 or 1e-05, got {text[:60]!r}") from None
    if not number.is_finite():
        raise BadRow(field, f"must be a finite number, got {number}")
    if abs(number) >= _LIMIT:
        raise BadRow(field, f"must be within ±10²⁶, got {number:.3e}")
    return number


def rounded(number: Decimal) -> tuple[Decimal, bool]:
    """The number with at most 12 digits after the point, and whether that changed it."""
    quantized = number.quantize(_STEP, context=_WIDE)
    return quantized, quantized != number


def scaled(number: Decimal, exponent: int) -> Decimal:
    """`number` · 10^`exponent`, exactly."""
    return number.scaleb(exponent, context=_WIDE)


def multiplied(number: Decimal, factor: Decimal) -> Decimal:
    """The product, exactly: amounts and factors have fewer than 100 digits together."""
    return _WIDE.multiply(number, factor)


def difference(plus: list[Decimal], minus: list[Decimal]) -> Decimal:
    """The sum of `plus` less that of `minus`, exactly."""
    total = Decimal(0)
    for value in plus:
        total = _WIDE.add(total, value)
    for value in minus:
        total = _WIDE.subtract(total, value)
    return total


def currency_of(value: str) -> str:
    """An ISO 4217 code in capitals. Raises `BadRow`."""
    code = value.strip().upper()
    if code not in CURRENCIES:
        raise BadRow("currency", f"must be an ISO 4217 code such as USD, got {value[:20]!r}")
    return code
