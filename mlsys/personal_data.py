"""Recognise columns of personal data: by what their distinct values are, with the checksum where a number has one.

A column is of a kind if at least `DataKind.share` of its distinct values pass the kind's test, and there are enough of
them that this is no accident: a random number passes Luhn's test once in ten times, twenty of them do once in 10²⁰. A
name of a column alone proves nothing; where a kind has no form of its own (names of people, streets), the name says
what to look for and the values have to look like it. Coordinates and dates of birth are told and stay features; the
other kinds tell people apart and nothing else, so that no model should get them unasked.

`masked` writes a text for a report or a message: what is an address or a number of a person is named and not shown.

References
----------
ISO/IEC 7812-1:2017, annex B (Luhn); ISO 13616-1:2020 and ISO/IEC 7064:2003 (IBAN, mod 97-10).
US Social Security Administration, POMS RM 10201.035, "Invalid SSNs".
Germany: § 139b AO and § 1 StIdV (Steuer-ID), ISO/IEC 7064 mod 11,10.
Spain: Real Decreto 1553/2005, art. 11 (DNI), and Orden INT/2058/2008 (NIE).
France: INSEE, "Le numéro de sécurité sociale" (NIR), key 97 - (number mod 97), Corsica 2A = 19, 2B = 18.
Brazil: Receita Federal, Instrução Normativa RFB 1548/2015 (CPF). Netherlands: Besluit burgerservicenummer (11-proef).
United Kingdom: HMRC, National Insurance Manual NIM39110. ITU-T E.164 (telephone numbers).
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

MOST_VALUES = 4_000
"""Distinct values that are tested, spread over those that there are."""

LEAST_NUMBER, EXACT = 1_000_000, 10**19
"""Columns of smaller numbers hold no number of a person, and larger ones are no integers."""

LEAST_OCTETS = 30
"""Sum of the four numbers of an IP address below which it is rather a version."""

HEAD = 100
"""Values after which a kind is given up that fewer than half of them are."""

LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
"""Check letters of a Spanish number by its remainder modulo 23."""

GIVEN_NAMES = frozenset(
    """
    aaron abigail adam ahmed aisha alain albert alexander ali alice amanda amit amy ana andrea andreas andrew angela
    anja anna anne anthony antonio arthur ashley barbara benjamin bernard betty beverly brandon brenda brian brigitte
    bryan camille carl carlos carmen carol carolyn catherine charles cheryl christina christine christopher claire
    cynthia daniel danielle david deborah debra denise dennis dieter dmitry donald donna dorothy douglas edward elena
    elizabeth emily emma eric ethan eugene evelyn fatima felix frances francesco francisco frank gabriel gary george
    gerald giovanni giulia giuseppe gregory hannah hans harold hassan heather heike helen helga henry hiroshi isabel
    isabella isabelle ivan jacob jacqueline james janet janice jason javier jean jeffrey jennifer jeremy jerry jesse
    jessica joan joao john johannes jonas jonathan jose joseph joshua joyce juan judith judy julia julie julien jurgen
    justin karen karin karl katharina katherine kathleen kathryn kayla keith kelly kenneth kevin kimberly klaus kyle
    larry laura lauren lawrence lea lena leon lisa logan louis luca lucia luis lukas manfred manuel marco margaret maria
    marie marilyn mario markus martha martin mary matthew maximilian megan melissa mia michael michel michelle miguel
    mohamed mohammed monika muhammad nancy natalia natalie nathalie nathan nicholas nicolas nicole noah olga olivia omar
    pamela patricia patrick paul paulo pedro peter petra philip philippe pierre priya rachel rahul raj ralph raymond
    rebecca renate richard robert roger ronald ruth ryan sabine samantha samuel sandra sara sarah scott sean sergey
    sharon shirley sophia sophie stefan stephanie stephen steven susan susanne sylvie teresa terry theresa thomas
    timothy tyler ursula uwe vincent walter wei werner william wolfgang yuki zachary
    """.split()
)
"""Frequent given names of several languages: few of them are places or products."""

HONORIFIC = re.compile(r"(?i)(?:^|[\s,(])(mr|mrs|ms|miss|master|dr|prof|rev|herr|frau|mme|mlle|sr|sra|sig)\.?\s")
NAME_SHAPE = re.compile(r"[^\W\d_][\w'’.\-]*(?:[,\s]+[(\"]?[^\W\d_][\w'’.\-]*[)\"]?,?){0,7}")
NAME_OF_NAME = re.compile(
    r"(?i)(^|[_\W])(first|last|given|family|middle|maiden|sur|fore)[_\W]?name$|^(first|last|given|sur|fore)name$"
    r"|(?<=[a-z])(First|Last|Given|Family)Name$|^(vor|nach|familien)name$|^(pr[eé]nom|apellidos?|cognome|sobrenome)$"
)
NAME_OF_PERSON = re.compile(r"(?i)(^|[_\W]|[a-z])name$|^(nom|nombre|nome|person|author|player|passenger|contact)$")
NAME_OF_PHONE = re.compile(
    r"(?i)(^|[_\W\d])(tele)?(phone|fon|fono)(e|s|n?r|_?no|_?num(ber)?)?\d*($|[_\W])"
    r"|(^|[_\W])(tel|mobile|cell|cellphone|fax|handy|whatsapp|m[oó]vil|celular)(_?(no|nr|num|number))?\d*($|[_\W])"
)
NAME_OF_ADDRESS = re.compile(
    r"(?i)(^|[_\W]|[a-z])(address|addr|street|adresse|anschrift|stra(ss|ß)e|direcci[oó]n|indirizzo|endere[cç]o)"
    r"(line)?[_\W]?\d?$"
)
NAME_OF_SSN = re.compile(r"(?i)(^|[_\W])(ssn|social_?security(_?(no|num|number))?)$")
NAME_OF_BIRTH = re.compile(r"(?i)birth|(^|[_\W])dob($|[_\W])|geburt|naissance|nacimiento|nascita|nascimento")
NAME_OF_LATITUDE = re.compile(r"(?i)(^|[_\W]|[a-z])(lat|latitude)$")
NAME_OF_LONGITUDE = re.compile(r"(?i)(^|[_\W]|[a-z])(lon|lng|long|longitude)$")

EMAIL = re.compile(r"[\w.+%\-]{1,64}@[\w\-]{1,63}(?:\.[\w\-]{1,63}){0,8}\.[A-Za-z]{2,24}")
IBAN = re.compile(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?")
CARD = re.compile(r"(?<![\w.])[2-6](?:[ -]?\d){12,18}(?!\w)")
PHONE = re.compile(
    r"(?<![\w.])(?:(?:\+|00)[1-9](?:[ ./()\-]{0,2}\d){6,13}(?: ?(?:x|ext\.?) ?\d{1,6})?"
    r"|(?:1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{4}(?: ?(?:x|ext\.?) ?\d{1,6})?)(?!\w)"
)
CARD_LENGTHS = (15, 16)
SSN = re.compile(r"(?<!\w)(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?!\w)")
NINO = re.compile(
    r"(?!BG|GB|KN|NK|NT|TN|ZZ)[ABCEGHJ-PRSTW-Z][ABCEGHJ-NPRSTW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]", re.IGNORECASE
)
DIALLED = re.compile(r"\+?[\d ()./\-]{7,24}(?:(?:x|ext\.?) ?\d{1,6})?")
STREETS = (
    r"st|street|ave|avenue|rd|road|blvd|boulevard|ln|lane|dr|drive|ct|court|pl|place|sq|square|terrace|hwy|highway|way"
)
STREET = re.compile(
    rf"(?i)\d+\w?\s+(?:[\w'.\-]+\s+){{1,4}}(?:{STREETS})\b.*"
    r"|[\w.\- ]*?(?:stra(?:ss|ß)e|str\.|weg|platz|gasse|allee)\s*\d+.*"
    r"|\d+\w?,?\s+(?:rue|avenue|place|via|calle|plaza|rua)\s.+|(?:calle|via|rua|plaza)\s.+\d+.*"
)
POINT = re.compile(r"\(?\s*-?\d{1,2}\.\d{2,},?\s+-?\d{1,3}\.\d{2,}\s*\)?|POINT ?\(-?\d+\.\d+ -?\d+\.\d+\)")
DAY = re.compile(r"\d{1,4}[./\-]\d{1,2}[./\-]\d{1,4}(?:[T ].*)?")


@dataclass(frozen=True)
class DataKind:
    """A kind of personal data: its name in messages, what a value of it is, and how many have to be.

    Attributes
    ----------
    test
        Says of a value whether it is of the kind.
    column
        What the name of the column has to look like, where values alone prove nothing.
    share, least
        Share of the distinct values that pass, and how many distinct values there have to be.
    is_feature
        True for what a model may well use: it is told and kept.
    """

    title: str
    test: Callable[[str], bool]
    column: re.Pattern[str] | None = None
    share: float = 0.8
    least: int = 5
    is_feature: bool = False


@dataclass(frozen=True)
class PersonalData:
    """The kind of personal data of a column, and the share of its distinct values that are of it."""

    title: str
    share: float
    num_values: int
    is_feature: bool

    @property
    def detail(self) -> str:
        """Words for messages: what was found in how many values, without any of them."""
        return f"{self.title}: {self.share:.0%} of {self.num_values:,} different values"


def passes_luhn(digits: str) -> bool:
    """True if the last digit is the check digit of the others.

    >>> passes_luhn("4111111111111111"), passes_luhn("4111111111111112")
    (True, False)
    """
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[::-2])) + sum(doubled)) % 10 == 0


def is_card(text: str) -> bool:
    """True for a number of a payment card: 13 to 19 digits, of which the last one fits."""
    return bool(CARD.fullmatch(text)) and passes_luhn(_digits(text))


def is_iban(text: str) -> bool:
    """True for an international account number.

    >>> is_iban("GB82 WEST 1234 5698 7654 32"), is_iban("GB82 WEST 1234 5698 7654 33")
    (True, False)
    """
    plain = text.replace(" ", "").upper()
    if not IBAN.fullmatch(plain):
        return False
    return int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


def is_steuer_id(text: str) -> bool:
    """True for a German tax number: one digit of the first ten stands there two or three times.

    >>> is_steuer_id("86095742719"), is_steuer_id("86095742718")
    (True, False)
    """
    digits = text.replace(" ", "")
    if not re.fullmatch(r"[1-9]\d{10}", digits):
        return False
    times = sorted(Counter(digits[:10]).values())
    if times[-1] not in {2, 3} or (len(times) > 1 and times[-2] > 1):
        return False
    product = 10
    for digit in digits[:10]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def is_dni(text: str) -> bool:
    """True for a Spanish DNI or NIE.

    >>> is_dni("12345678Z"), is_dni("X1234567L"), is_dni("12345678A")
    (True, True, False)
    """
    match = re.fullmatch(r"([XYZ]\d{7}|\d{8})-?([A-Z])", text.upper())
    if not match:
        return False
    number = match[1].translate(str.maketrans("XYZ", "012"))
    return LETTERS[int(number) % 23] == match[2]


def is_nir(text: str) -> bool:
    """True for a French social security number with its key.

    >>> is_nir("2 55 08 14 168 025 38"), is_nir("255081416802539")
    (True, False)
    """
    plain = text.replace(" ", "").upper()
    if not re.fullmatch(r"[123478]\d{2}(?:0[1-9]|1[0-2]|[2-9]\d)(?:\d{2}|2[AB])\d{6}\d{2}", plain):
        return False
    number = plain[:13].replace("2A", "19").replace("2B", "18")
    return 97 - int(number) % 97 == int(plain[13:])


def is_cpf(text: str) -> bool:
    """True for a Brazilian CPF.

    >>> is_cpf("111.444.777-35"), is_cpf("11144477736"), is_cpf("111.111.111-11")
    (True, False, False)
    """
    if not re.fullmatch(r"\d{3}\.?\d{3}\.?\d{3}-?\d{2}", text):
        return False
    digits = [int(digit) for digit in _digits(text)]
    checks = [sum(d * (n + 1 - i) for i, d in enumerate(digits[:n])) * 10 % 11 % 10 for n in (9, 10)]
    return len(set(digits)) > 1 and checks == digits[9:]


def is_bsn(text: str) -> bool:
    """True for a Dutch BSN.

    >>> is_bsn("111222333"), is_bsn("111222334")
    (True, False)
    """
    plain = text.replace(".", "")
    if not re.fullmatch(r"\d{9}", plain) or not int(plain):
        return False
    return sum(int(digit) * weight for digit, weight in zip(plain, (9, 8, 7, 6, 5, 4, 3, 2, -1), strict=True)) % 11 == 0


def is_ip(text: str) -> bool:
    """True for an address of the internet, of version 4 or 6; four small numbers are the version of a program.

    >>> is_ip("192.168.0.1"), is_ip("2001:db8::1"), is_ip("1.12.0.3")
    (True, True, False)
    """
    if not ("." in text or ":" in text):
        return False
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.version == 6 or sum(address.packed) >= LEAST_OCTETS


def is_name(text: str) -> bool:
    """True for words that may be the name of a person."""
    return bool(NAME_SHAPE.fullmatch(text))


def has_given_name(text: str) -> bool:
    """True for the name of a person with a frequent given name, or with a title.

    >>> has_given_name("Braund, Mr. Owen Harris"), has_given_name("Maria Silva"), has_given_name("Acme Ladder 3000")
    (True, True, False)
    """
    if not is_name(text):
        return False
    words = re.split(r"[\s,]+", text.lower())
    return bool(HONORIFIC.search(text)) or any(_plain(word) in GIVEN_NAMES for word in words)


def has_full_name(text: str) -> bool:
    """True for a title, or a given name and one or two other words that are written large."""
    words = text.split()
    return has_given_name(text) and 2 <= len(words) <= 6 and all(word[:1].isupper() for word in words[:2])


DATA_KINDS = (
    DataKind("e-mail addresses", lambda text: bool(EMAIL.fullmatch(text))),
    DataKind("IBANs", is_iban),
    DataKind("payment card numbers", is_card, share=0.9, least=20),
    DataKind("French social security numbers", is_nir),
    DataKind("Spanish tax numbers (DNI, NIE)", is_dni),
    DataKind("British national insurance numbers", lambda text: bool(NINO.fullmatch(text)), share=0.9),
    DataKind("US social security numbers", lambda text: bool(SSN.fullmatch(text)), share=0.9),
    DataKind("US social security numbers", lambda text: bool(SSN.fullmatch(_dashed(text))), NAME_OF_SSN),
    DataKind("German tax numbers (Steuer-ID)", is_steuer_id, share=0.9, least=20),
    DataKind("Brazilian tax numbers (CPF)", is_cpf, share=0.9, least=20),
    DataKind("Dutch citizen service numbers (BSN)", is_bsn, share=0.9, least=20),
    DataKind("phone numbers", lambda text: bool(PHONE.fullmatch(text)), share=0.9),
    DataKind(
        "phone numbers", lambda text: bool(DIALLED.fullmatch(text)) and 7 <= len(_digits(text)) <= 21, NAME_OF_PHONE
    ),
    DataKind("IP addresses", is_ip, share=0.9),
    DataKind("person names", is_name, NAME_OF_NAME),
    DataKind("person names", has_given_name, NAME_OF_PERSON, share=0.3, least=10),
    DataKind("person names", has_full_name, share=0.6, least=20),
    DataKind("postal addresses", lambda text: bool(re.search(r"\d", text)) and len(text.split()) > 1, NAME_OF_ADDRESS),
    DataKind("postal addresses", lambda text: bool(STREET.fullmatch(text)), share=0.8, least=10),
    DataKind("coordinates", lambda text: bool(POINT.fullmatch(text)), is_feature=True),
    DataKind("coordinates", lambda text: _is_degree(text, 90), NAME_OF_LATITUDE, is_feature=True),
    DataKind("coordinates", lambda text: _is_degree(text, 180), NAME_OF_LONGITUDE, is_feature=True),
    DataKind("dates of birth", lambda text: bool(DAY.fullmatch(text)), NAME_OF_BIRTH, is_feature=True),
)
"""Kinds of personal data; of several that fit, the first is told."""


def detect(name: str, values: pa.Array | pa.ChunkedArray) -> PersonalData | None:
    """Recognise the kind of personal data of a column from its name and values, nulls aside; None for most columns."""
    texts = _texts(name, values)
    for kind in DATA_KINDS:
        if len(texts) < kind.least or (kind.column is not None and not kind.column.search(name)):
            continue
        head = texts[:HEAD]
        if sum(map(kind.test, head)) < 0.5 * kind.share * len(head):
            continue
        share = sum(map(kind.test, texts)) / len(texts)
        if share >= kind.share:
            return PersonalData(kind.title, share, len(texts), kind.is_feature)
    return None


def masked(text: str) -> str:
    """Replace addresses and numbers of persons in a text by their kind.

    Of texts that are nothing but digits only those as long as most cards are taken for one: others are codes, a
    tenth of which pass the check by chance, and a column of cards is found as such by `detect`.

    >>> masked("call +49 30 1234567 or write to jo@example.org, card 4111 1111 1111 1111")
    'call [phone number] or write to [e-mail address], card [card number]'
    >>> masked("4111111111111111"), masked("14012888888881881"), masked("2955604112903717341")
    ('[card number]', '14012888888881881', '2955604112903717341')
    """
    if text.isdecimal() and len(text) not in CARD_LENGTHS:
        return text
    text = EMAIL.sub("[e-mail address]", text)
    text = IBAN.sub(lambda match: "[IBAN]" if is_iban(match[0]) else match[0], text)
    text = CARD.sub(lambda match: "[card number]" if is_card(match[0]) else match[0], text)
    return PHONE.sub("[phone number]", SSN.sub("[social security number]", text))


def _texts(name: str, values: pa.Array | pa.ChunkedArray) -> Sequence[str]:
    """Distinct values as texts, spread over all that there are; none of numbers that can be no number of a person."""
    series = pl.Series(values=pl.from_arrow(values)).drop_nulls()
    if series.dtype.is_temporal():
        series = series.dt.to_string("%Y-%m-%d")
    elif series.dtype.is_numeric():
        series = _numbers(name, series)
    if not (series.dtype.is_numeric() or series.dtype == pl.String):
        return []
    distinct = series.unique(maintain_order=True)
    spread = distinct.gather_every(max(1, len(distinct) // MOST_VALUES))
    return [text for value in spread.cast(pl.String).to_list() if (text := value.strip()[:200])]


def _numbers(name: str, series: pl.Series) -> pl.Series:
    """Whole numbers of at least seven digits, and degrees; empty for all other columns, which are most."""
    if NAME_OF_LATITUDE.search(name) or NAME_OF_LONGITUDE.search(name):
        return series
    largest = series.max()
    if not isinstance(largest, int | float) or not LEAST_NUMBER <= largest < EXACT:
        return series.clear()
    whole = series.cast(pl.Int64, strict=False)
    return whole if (whole == series).all() else series.clear()


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _dashed(text: str) -> str:
    digits = text.zfill(9)
    return f"{digits[:3]}-{digits[3:5]}-{digits[5:]}"


def _plain(word: str) -> str:
    """A word without the accents that the list of names does not have."""
    return word.translate(str.maketrans("áéíóúüãñçèêâôëï", "aeiouuanceeaoei")).strip("()\"'.,")


def _is_degree(text: str, most: int) -> bool:
    return bool(re.fullmatch(r"-?\d{1,3}\.\d+", text)) and abs(float(text)) <= most
