"""Texts in another notation than that of programming languages, translated to it: numbers with marks, other dates.

======================  ======================================================================================
``1.234,56``            decimal comma, points between thousands; likewise ``1,234.56``, ``1 234,56``, ``1'234.56``
``1234,56``             decimal comma alone
``1.234,56 €``          a currency sign or code before or after the number, or none
``1234.56 kg``          a word of a unit behind the number, or none: ``384 min``, ``16GB``, ``12.5 km/h``
``1234.56 %``           percent: 45 % is the number 45
``%d/%m/%Y``            31/01/2024, also 31/1/2024; a clock time may follow: ``10:30``, ``10:30:59.5``, ``10:30 PM``
``%d %b %Y``            31 Jan 2024, 31-JAN-24, 31JAN2024:10:30:00, 31. Januar 2024; ``%b %d %Y``: Jan 31, 2024
``%b %d %H:%M:%S %Y``   Wed Jan 31 10:30:00 2024, also with an offset before the year, as C and others print times
``%b %Y``, ``%Y-%m``    Jan 2024, Januar-2024; 2024-01: the first day of the month
``%Y %q``, ``%q %Y``    2024 Q1, 2024Q1, 2024-Q1; Q1/2024, Q1 2024: the first day of the quarter
any other directives    as ``strptime`` reads them
======================  ======================================================================================

Negative numbers may have their sign behind (``12,50-``) or stand in parentheses (``(1,234.50)``), and ``12,-`` is
12. Dates in ISO 8601 are read beside those of the notation. `count` says in which notations the texts of a column
can be read; which one it has is decided over all of them by `mlsys.collect.notation_inference`.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

import polars as pl
import pyarrow as pa

from mlsys.notation import NumberNotation, number_notation

SPACES = " \u00a0\u202f\u2009"
CURRENCIES = (
    r"\p{Sc}|[A-Z]{1,2}\$|AUD|BRL|CAD|CHF|CNY|CZK|DKK|EUR|GBP|HUF|INR|JPY|KRW|MXN|NOK|PLN|RUB|SEK|TRY|USD|ZAR"
    r"|[Ff]r\.|kr\.?|zł|Kč|Ft|Rs\.?"
)
MEASURE = r"[\p{L}°µ][\p{L}²³/·]{0,11}"
"""A unit of measurement: a word, which a number may have behind it."""
MONEY = rf"^(?:%|{CURRENCIES})$"
MAX_UNITS = 20
"""Words behind the numbers of a batch that are counted, the most frequent ones: a column has one unit, or none."""
NUMBER = (
    rf"^(?P<open>\()?(?P<sign>[+\-−])?[{SPACES}]*(?P<before>{CURRENCIES})?[{SPACES}]*(?P<inner>[+\-−])?"
    rf"(?P<body>(?:\d[\d.,'’{SPACES}]*?|[.,]\d+)(?:[eE][+-]?\d+)?)(?P<cents>[.,][-–]{{1,2}})?"
    rf"[{SPACES}]*(?P<after>%|{CURRENCIES}|{MEASURE})?(?P<behind>[\-−])?(?P<close>\))?$"
)
"""A number with all that may stand around it; whether its marks stand in their places is looked at next."""
NUMBER_LIKE = rf"^[{SPACES}(+\-−]*(?:{CURRENCIES})?[{SPACES}+\-−]*[.,]?\d"

EXPONENT = r"(?:[eE][+-]?\d+)?"
GROUPED = r"[1-9]\d{{0,2}}(?:{0}\d{{3}})"
MARKS = {",": ",", ".": r"\.", " ": f"[{SPACES}]", "'": "['’]"}
"""Marks in numbers, as regular expressions."""

SHAPES = {
    "digits": rf"^\d+{EXPONENT}$",
    **{f"{mark}1": f"^{GROUPED.format(form)}$" for mark, form in list(MARKS.items())[:2]},
    **{f"{mark}g": f"^{GROUPED.format(form)}{{2,}}$" for mark, form in list(MARKS.items())[:2]},
    **{f"{mark}d": rf"^\d*{form}\d*{EXPONENT}$" for mark, form in list(MARKS.items())[:2]},
    ",.": rf"^(?:{GROUPED.format(',')}+|[1-9]\d?(?:,\d{{2}})+,\d{{3}})(?:\.\d*)?$",  # India writes 12,34,567.8
    ".,": rf"^{GROUPED.format(MARKS['.'])}+,\d*$",
    **{
        f"{mark}{decimal}": f"^{GROUPED.format(MARKS[mark])}+{end}$"
        for mark in " '"
        for decimal, end in (("", ""), (".", r"\.\d*"), (",", r",\d*"))
    },
}
"""Shapes of numbers, of which the first that matches counts.

``,1`` is one comma before three digits, which may be a decimal comma or stand between thousands; ``,g`` are several
such, ``,d`` is a comma that can only be a decimal one; ``,.`` a point behind commas, and so on.
"""

CLOCK = (
    r"(?:[T :,]+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?P<part>[.,]\d{1,9})?)?"
    r"\s?(?P<half>[AaPp]\.?[Mm]\.?)?\s?(?P<offset>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?)?$"
)
WEEKDAY = r"^\s*(?:[A-Za-z]{2,9}\.?,? )?"
MONTH = r"(?P<month>[A-Za-zéûäç]{3,10})"
YEAR = r"(?P<year>(?:1[89]|20|21)\d{2})"
QUARTER = r"[Qq](?P<quarter>[1-4])"
DATES = {
    "numbers": (r"^\s*(?P<first>\d{1,4})(?P<mark>[/.\-])(?P<middle>\d{1,2})(?P<again>[/.\-])(?P<last>\d{1,4})" + CLOCK),
    "%d %b %Y": (rf"{WEEKDAY}(?P<day>\d{{1,2}})(?:\.? |[\-./])?{MONTH}\.?[ \-./,]*(?P<year>\d{{4}}|\d{{2}}){CLOCK}"),
    "%b %d %Y": rf"{WEEKDAY}{MONTH}\.? (?P<day>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<year>\d{{4}}){CLOCK}",
    "%b %d %H:%M:%S %Y": (
        rf"{WEEKDAY}{MONTH} +(?P<day>\d{{1,2}}) (?P<hour>\d{{1,2}}):(?P<minute>\d{{2}}):(?P<second>\d{{2}}) "
        rf"(?:(?P<offset>UTC|GMT|[+-]\d{{4}}) )?{YEAR}\s*$"
    ),
    "%b %Y": rf"^\s*{MONTH}\.?[ \-/,]{{1,2}}{YEAR}\s*$",
    "%Y-%m": rf"^\s*{YEAR}[\-/]?(?P<month>0[1-9]|1[0-2])\s*$",
    "%Y %q": rf"^\s*{YEAR}[ \-/]?{QUARTER}\s*$",
    "%q %Y": rf"^\s*{QUARTER}[ \-/]?{YEAR}\s*$",
}
"""Families of dates: three numbers in one of their orders, and orders with the name of a month; months and quarters."""
DATE_LIKE = (
    r"^\s*(?:\d{1,4}[/.\-]\d|\d{1,2}\.?[ \-./]?[A-Za-zéûäç]{3}|\d{4}[ \-/]?[Qq][1-4]|[Qq][1-4]"
    r"|[A-Za-zéûäç]{2,10}\.?[,\-/]? ?(?:[A-Za-zéûäç]{3,10}\.? +)?\d)"
)
CLOCK_PARTS = ("hour", "minute", "second", "part", "half", "offset")
ORDERED = re.compile(r"%([dmYy])([/.\-])%([dmYy])\2%([dmYy])")
NAMED = {re.sub(r"[ ,.\-/]", "", name): name for name in list(DATES)[1:]}
ORDERS = ("%d{0}%m{0}%Y", "%m{0}%d{0}%Y", "%Y{0}%m{0}%d", "%d{0}%m{0}%y", "%m{0}%d{0}%y")

MONTHS = {
    name: number
    for number, names in enumerate(
        """jan januar janvier january janv enero ene gennaio gen januari
        feb februar february fév févr février febrero febbraio februari
        mar mär märz march mars marzo mrt maart mrz
        apr april avr avril abr abril aprile
        may mai mayo mag maggio mei
        jun juni june juin junio giu giugno
        jul juli july juil juillet julio lug luglio
        aug august août aou aout ago agosto augustus
        sep sept september septembre septiembre set settembre
        oct okt october oktober octobre octubre ott ottobre
        nov november novembre noviembre
        dec dez december dezember déc décembre dic diciembre dicembre""".splitlines(),
        1,
    )
    for name in names.split()
}
"""Names of months in English, German, French, Spanish, Italian and Dutch."""
CENTURY = 69
"""Years of two digits from this one are of the last century, as POSIX has it."""


def count(values: pa.Array) -> dict[str, int]:
    """Count the texts that have each shape of a number, each unit, and each notation of a date.

    Units are counted under ``unit €``, dates with a clock time also under ``clock``, and times of a
    twelve-hour clock under ``half``. ``either /`` are those that are a date with the day or with the month first.
    """
    texts = pl.Series(values=pl.from_arrow(values), dtype=pl.String)
    counts: Counter[str] = Counter()
    numbers = texts.filter(texts.str.contains(NUMBER_LIKE))
    if len(numbers):
        parts = _number_parts(numbers)
        shapes = _shape(parts["body"])
        units = parts["unit"].filter(shapes.is_not_null())
        known = units.value_counts(sort=True).head(MAX_UNITS)["unit"] if len(units) else units
        shapes = shapes.zip_with(parts["unit"].is_in(known.implode()), shapes.clear(len(shapes)))
        is_number = shapes.is_not_null()
        counts.update(dict(shapes.drop_nulls().value_counts().iter_rows()))
        units = parts["unit"].filter(is_number & (parts["unit"] != ""))
        counts.update({f"unit {unit}": n for unit, n in units.value_counts().iter_rows()})
    dates = texts.filter(texts.str.contains(DATE_LIKE))
    if len(dates):
        counts.update(_count_dates(dates))
    return dict(counts)


@lru_cache(maxsize=256)
def is_measure(unit: str) -> bool:
    """Tell a unit of measurement from a currency and from percent.

    >>> [is_measure(unit) for unit in ("kg", "EUR", "$", "%", "")]
    [True, False, False, False, False]
    """
    return bool(unit) and not pl.Series([unit]).str.contains(MONEY)[0]


def translated(texts: pl.Series, notation: str) -> pl.Series:
    """Texts of a notation as programming languages and ISO 8601 write them; null for other texts.

    >>> translated(pl.Series(["1.299,50", "12,-", "(3,1)", "1,299.5"]), "1.234,56").to_list()
    ['1299.50', '12', '-3.1', None]
    >>> translated(pl.Series(["31/1/2024", "31/01/2024 10:30 PM"]), "%d/%m/%Y").to_list()
    ['2024-01-31', '2024-01-31 22:30:00']
    """
    numbers = number_notation(notation)
    return _plain_numbers(texts, numbers) if numbers is not None else _iso_dates(texts, notation)


def _number_parts(texts: pl.Series) -> pl.DataFrame:
    """Sign, body and unit of numbers; a null body where something stands around it that no number has."""
    parts = texts.str.extract_groups(NUMBER).struct.unnest()
    before, after = pl.col("before").fill_null(""), pl.col("after").fill_null("")
    signs = [pl.col(name).is_not_null() for name in ("sign", "inner", "behind", "open")]
    is_bare = ~pl.col("body").str.contains(r"[.,'’ ]") & (before == "") & (after == "")
    is_code = pl.col("body").str.contains(r"^0\d")  # 007A
    is_number = (
        (pl.col("open").is_null() == pl.col("close").is_null())
        & (pl.sum_horizontal(signs) <= 1)
        & ((before == "") | (after == ""))
        & ~(is_bare & pl.any_horizontal(signs[2:]))  # (2) and 1- of their own may be footnotes and grades
        & ~(after.str.contains(f"^{MEASURE}$") & ~after.str.contains(MONEY) & (pl.any_horizontal(signs[2:]) | is_code))
    )
    minus = pl.any_horizontal([pl.col(name).is_in(["-", "−"]).fill_null(value=False) for name in ("sign", "inner")])
    return parts.select(
        sign=pl.when(minus | pl.any_horizontal(signs[2:])).then(pl.lit("-")).otherwise(pl.lit("")),
        body=pl.when(is_number).then(pl.col("body")),
        unit=before + after,
        is_whole=pl.col("cents").is_not_null(),
    )


def _shape(body: pl.Series) -> pl.Series:
    shape: pl.Expr = pl.lit(None, pl.String)
    for name, pattern in reversed(SHAPES.items()):
        shape = pl.when(pl.col("body").str.contains(pattern)).then(pl.lit(name)).otherwise(shape)
    return body.rename("body").to_frame().select(shape=shape)["shape"]


def _plain_numbers(texts: pl.Series, notation: NumberNotation) -> pl.Series:
    parts = _number_parts(texts.str.strip_chars(SPACES + "\t\r\n"))
    decimal, thousands = MARKS[notation.decimal], MARKS.get(notation.thousands)
    whole = rf"(?:{GROUPED.format(thousands)}+|\d+)" if thousands else r"\d+"
    if notation.thousands == ",":
        whole = rf"(?:{whole}|[1-9]\d?(?:,\d{{2}})+,\d{{3}})"
    form = rf"^(?:{whole}(?:{decimal}\d*)?|{decimal}\d+){EXPONENT}$"
    body = pl.col("body").str.replace_all(thousands, "") if thousands else pl.col("body")
    units = [notation.unit] if notation.unit == "%" else ["", notation.unit]
    fits = pl.col("body").str.contains(form) & pl.col("unit").is_in(units)
    return parts.select(plain=pl.when(fits).then(pl.col("sign") + body.str.replace(decimal, ".")))["plain"]


def _count_dates(texts: pl.Series) -> Counter[str]:
    """Count dates by notation, those of three numbers under each order that they may have."""
    counts: Counter[str] = Counter()
    parts = texts.str.extract_groups(DATES["numbers"]).struct.unnest()
    if len(parts := parts.filter(pl.col("mark") == pl.col("again"))):
        for (mark,), some in parts.group_by("mark"):
            for order in ORDERS:
                notation = order.format(mark)
                if number := int(_is_date(some, notation).sum()):
                    counts[notation] += number
            first, second = (_is_date(some, order.format(mark)) for order in ORDERS[:2])
            counts[f"either {mark}"] += int((first | second).sum())
        counts += _count_clocks(parts)
    for name in list(DATES)[1:]:
        parts = _named_parts(texts, name).filter(pl.col("month").is_not_null())
        counts += Counter({name: len(parts)}) + _count_clocks(parts)
    return counts


def _named_parts(texts: pl.Series, name: str) -> pl.DataFrame:
    """Year, month as a number, day and clock of a family; of a month or a quarter the first day."""
    parts = texts.str.extract_groups(DATES[name]).struct.unnest()
    missing = {part: pl.lit(None, pl.String) for part in CLOCK_PARTS if part not in parts.columns}
    if "quarter" in parts.columns:
        month = 3 * pl.col("quarter").cast(pl.Int64) - 2
    elif "%m" in name:
        month = pl.col("month").cast(pl.Int64)
    else:
        month = pl.col("month").str.to_lowercase().replace_strict(MONTHS, default=None, return_dtype=pl.Int64)
    day = pl.col("day") if "day" in parts.columns else pl.lit("1")
    return parts.with_columns(month=month, day=day, **missing)


def _count_clocks(parts: pl.DataFrame) -> Counter[str]:
    return Counter({"clock": parts["hour"].count(), "half": parts["half"].count()})


def _is_date(parts: pl.DataFrame, notation: str) -> pl.Series:
    """The mask of dates in which the numbers lie where the notation has them."""
    return _iso_of_numbers(parts, notation).str.to_date("%Y-%m-%d", strict=False).is_not_null()


@lru_cache(maxsize=64)
def _places(notation: str) -> dict[str, str]:
    """Directive → place of its number among three."""
    return dict(zip(re.findall("%(.)", notation), ("first", "middle", "last"), strict=True))


def _iso_of_numbers(parts: pl.DataFrame, notation: str) -> pl.Series:
    """Dates of three numbers in ISO 8601; null where one has another number of digits than its place."""
    places = _places(notation)
    short = "y" in places
    year = pl.col(places["y" if short else "Y"])
    day, month = pl.col(places["d"]), pl.col(places["m"])
    fits = (year.str.len_chars() == (2 if short else 4)) & (day.str.len_chars() <= 2) & (month.str.len_chars() <= 2)
    if short and "/" not in notation:  # 1.2.10 may be a version
        fits &= (day.str.len_chars() == 2) & (month.str.len_chars() == 2)
    date = _full_year(year) + "-" + month.str.zfill(2) + "-" + day.str.zfill(2)
    return parts.select(date=pl.when(fits & (pl.col("mark") == pl.col("again"))).then(date))["date"]


def _full_year(year: pl.Expr) -> pl.Expr:
    century = pl.when(year.cast(pl.Int32, strict=False) < CENTURY).then(pl.lit("20")).otherwise(pl.lit("19"))
    return pl.when(year.str.len_chars() == 2).then(century + year).otherwise(year)


def _iso_dates(texts: pl.Series, notation: str) -> pl.Series:
    named = NAMED.get(re.sub(r"[ ,.\-/]", "", notation.replace("%B", "%b").replace("%y", "%Y")))
    if ORDERED.fullmatch(notation) and sorted(re.findall("%(.)", notation.lower())) == ["d", "m", "y"]:
        parts = texts.str.extract_groups(DATES["numbers"]).struct.unnest()
        mark = ORDERED.fullmatch(notation)[2]  # type: ignore[index]
        date = _iso_of_numbers(parts.with_columns(again=pl.when(pl.col("mark") == mark).then("again")), notation)
    elif named is not None:
        parts = _named_parts(texts, named)
        month, day = pl.col("month").cast(pl.String).str.zfill(2), pl.col("day").str.zfill(2)
        written = _full_year(pl.col("year")) + "-" + month + "-" + day
        date = parts.select(date=written)["date"]
    else:
        return _by_strptime(texts, notation)
    return _with_clock(parts, date)


def _with_clock(parts: pl.DataFrame, date: pl.Series) -> pl.Series:
    """Dates with the clock times that stand behind them, of 24 hours; null for an hour that no clock shows."""
    hour = pl.col("hour").cast(pl.Int64)
    late = pl.col("half").str.to_lowercase().str.starts_with("p")
    of_day = pl.when(pl.col("half").is_null()).then(hour).when(hour.is_between(1, 12)).then(hour % 12 + 12 * late)
    clock = of_day.cast(pl.String).str.zfill(2) + ":" + pl.col("minute") + ":" + pl.col("second").fill_null("00")
    zone = pl.col("offset").fill_null("").replace({"UTC": "Z", "GMT": "Z"})
    time = clock + pl.col("part").fill_null("") + zone
    shown = pl.when(pl.col("hour").is_null()).then(pl.col("date")).otherwise(pl.col("date") + " " + time)
    return parts.with_columns(date=date).select(shown=shown)["shown"]


def _by_strptime(texts: pl.Series, notation: str) -> pl.Series:
    bare = texts.str.strip_chars()
    if re.search("%[-#]?[HIMSfT]", notation):
        return bare.str.to_datetime(notation, strict=False).dt.strftime("%Y-%m-%d %H:%M:%S%.6f")
    return bare.str.to_date(notation, strict=False).dt.strftime("%Y-%m-%d")
