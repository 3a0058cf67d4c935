"""Columns of personal data are recognised by their values, and ordinary columns are not taken for them."""

from __future__ import annotations

import datetime as dt
import itertools

import numpy as np
import pyarrow as pa
import pytest

from mlsys import personal_data
from mlsys.personal_data import detect, masked

N = 300
RNG = np.random.default_rng(0)


def title(name, values):
    found = detect(name, pa.array(values))
    return None if found is None else found.title


def digits(count, first=1, last=9):
    low, high = (digit * 10 ** (count - 1) for digit in (first, last + 1))
    return [f"{value:0{count}d}" for value in RNG.integers(low, high, N).tolist()]


def passing(test, numbers):
    """Numbers with the last two digits that make them pass."""
    ends = [f"{end:02d}" for end in range(100)]
    return [next(number + end for end in ends if test(number + end)) for number in numbers]


def steuer_id():
    """Numbers in which one of the ten first digits stands twice."""
    while True:
        order = RNG.permutation(10)
        head = [int(order[0]), *map(int, order[:9])]
        number = "".join(map(str, head))
        made = [number + str(end) for end in range(10) if personal_data.is_steuer_id(number + str(end))]
        if made:
            yield made[0]


NAMES = ["Anna Schmidt", "Thomas Weber", "Maria Lopez", "James Miller", "Julia Braun", "Li Fang", "Omar Aziz"]
SURNAMES = [
    f"{a}{b}".title() for a, b in itertools.product(["mei", "hol", "ber", "stein", "kal"], ["er", "mann", "ov"])
]

PERSONAL = {
    "e-mail addresses": ("contact", [f"user{i}@example.org" for i in range(N)]),
    "IBANs": (
        "account",
        [f"DE{c:02d}{b}" for b in digits(18) for c in range(2, 99) if personal_data.is_iban(f"DE{c:02d}{b}")],
    ),
    "payment card numbers": ("number", [int(n) for n in passing(personal_data.is_card, digits(14, 4, 5))]),
    "French social security numbers": (
        "numero",
        passing(personal_data.is_nir, [f"180{i % 12 + 1:02d}75{i:06d}" for i in range(N)]),
    ),
    "Spanish tax numbers (DNI, NIE)": ("documento", [f"{n}{personal_data.LETTERS[int(n) % 23]}" for n in digits(8)]),
    "British national insurance numbers": ("ni", [f"AB{n[:6]}{'ABCD'[i % 4]}" for i, n in enumerate(digits(6))]),
    "US social security numbers": ("code", [f"{100 + i}-{10 + i % 80}-{1000 + i}" for i in range(N)]),
    "German tax numbers (Steuer-ID)": ("nummer", [n for n in itertools.islice(steuer_id(), 60) if n[0] != "0"]),
    "Brazilian tax numbers (CPF)": ("doc", passing(personal_data.is_cpf, digits(9))),
    "Dutch citizen service numbers (BSN)": ("nr", passing(personal_data.is_bsn, digits(7))),
    "phone numbers": ("number", [f"+49 30 {n[:3]} {n[3:]}" for n in digits(7)]),
    "IP addresses": ("host", [f"10.{i % 7}.{i % 250}.{200 + i % 50}" for i in range(N)]),
    "person names": ("name", [f"{name} {SURNAMES[i % 15]}" for i, name in enumerate(NAMES * 9)]),
    "postal addresses": ("location", [f"{i} {SURNAMES[i % 15]} Street, Springfield" for i in range(N)]),
    "coordinates": ("Latitude", RNG.uniform(30, 50, N).round(5)),
    "dates of birth": ("date_of_birth", [dt.date(1950 + i % 50, 1, 1 + i % 28) for i in range(N)]),
}


@pytest.mark.parametrize("kind", PERSONAL)
def test_a_kind_is_recognised_in_a_column_with_some_other_values_and_nulls(kind):
    name, values = PERSONAL[kind]
    values = list(values)
    assert title(name, [None, *values]) == kind
    if isinstance(values[0], str):
        assert title(name, [*values, *(f"unknown {i}" for i in range(len(values) // 12))]) == kind
        assert title(name, [*values, *(f"unknown {i}" for i in range(len(values) * 3))]) is None


def test_a_local_phone_number_is_one_where_the_column_says_so():
    numbers = [f"0{n}" for n in digits(9)]
    assert title("mobile_phone", numbers) == title("Tel.", numbers) == "phone numbers"
    assert title("part_no", numbers) is None
    assert title("hotel", numbers) is None


def test_first_names_and_surnames_are_names_where_the_column_says_so():
    assert title("last_name", SURNAMES) == title("Nachname", SURNAMES) == "person names"
    assert title("customerName", [f"{name} {i}x" for i, name in enumerate(SURNAMES)]) is None


ORDINARY = {
    "sixteen random digits": ("order", [int(n) for n in digits(16, 4, 5)]),
    "nine random digits": ("customer_id", [int(n) for n in digits(9)]),
    "eleven random digits": ("tracking", digits(11)),
    "a counter": ("id", range(1_000_000, 1_000_000 + N)),
    "order numbers": ("order_no", [f"{n[:3]}-{n[3:]}" for n in digits(10)]),
    "numbers in the form of phones": ("ticket", [f"{n[:3]}-{n[3:6]}-{n[6:]}" for n in digits(10)]),
    "numbers in the form of SSN": ("lot", [f"{n[:3]}-{n[3:5]}-{n[5:]}" for n in digits(9)]),
    "product names": (
        "name",
        [
            f"{a} {b}"
            for a, b in itertools.product(
                ["Acer", "Steel", "Royal", "Classic", "Mini"], ["Laptop", "Kettle", "Chair", "Pro", "Grace"]
            )
        ],
    ),
    "companies": (
        "customer_name",
        [f"{name} {form}" for name, form in itertools.product(SURNAMES, ["GmbH", "Ltd", "Inc"])],
    ),
    "cities": (
        "city",
        ["Paris", "London", "San Jose", "New York", "Berlin", "Santa Maria", "Lima", "Oslo", "Rome", "Bonn"] * 3,
    ),
    "sentences": ("text", [f"call me at home when Anna is there, item {i}" for i in range(N)]),
    "versions": ("version", [f"{i % 3}.{i % 9}.{i % 7}.{i % 20}" for i in range(90)]),
    "times": ("created_at", [dt.datetime(2024, 1, 1) + dt.timedelta(hours=i) for i in range(N)]),  # noqa: DTZ001
    "written dates": ("day", [f"2024-{i % 12 + 1:02d}-{i % 28 + 1:02d}" for i in range(N)]),
    "amounts": ("amount", RNG.normal(1e6, 1e5, N)),
    "large whole amounts": ("revenue", RNG.integers(10**8, 10**10, N)),
    "hashes": ("hash", [f"{value:032x}" for value in RNG.integers(0, 2**62, N).tolist()]),
    "codes": ("stock_code", [f"{n}{'ABCDEFGH'[i % 8]}" for i, n in enumerate(digits(8))]),
    "decimals": ("lateness", RNG.normal(size=N)),
    "an electronic address of a machine": ("mac_address", [f"00:1b:44:11:3a:{i % 256:02x}" for i in range(N)]),
    "kinds of street": ("Street", ["Pave", "Grvl"] * 50),
    "flags": ("phone_service", [True, False] * 50),
}


@pytest.mark.parametrize("column", ORDINARY)
def test_an_ordinary_column_is_not_taken_for_personal(column):
    name, values = ORDINARY[column]
    assert title(name, list(values)) is None


def test_a_message_names_the_kind_and_shows_no_value():
    found = detect("email", pa.array([f"user{i}@example.org" for i in range(10)]))
    assert found.detail == "e-mail addresses: 100% of 10 different values"


def test_a_text_is_masked_where_it_shows_a_person():
    text = "row 4: 'jo@example.org', GB82 WEST 1234 5698 7654 32, 078-05-1120, (212) 555-0100, order 4111111111111112"
    assert masked(text) == (
        "row 4: '[e-mail address]', [IBAN], [social security number], [phone number], order 4111111111111112"
    )


def test_codes_keep_their_digits():
    rng = np.random.default_rng(3)
    for text in map(str, rng.integers(2**60, 2**64, 5_000, dtype=np.uint64)):
        assert masked(text) == text
    for text in ("order 14111111111111111", "x4111111111111111", "0.4111111111111111", "831350+49301234567"):
        assert masked(text) == text


def test_masking_takes_linear_time_for_any_text():
    for text in ("a" * 100_000, "1" * 100_000, "+1" * 50_000, "GB82" + "A" * 100_000, "x@" * 50_000):
        masked(text)
