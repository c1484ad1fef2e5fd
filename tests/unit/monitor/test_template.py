"""Templates of text with gaps: each number and gap where it stands, by the scanner and by regular expressions."""

from __future__ import annotations

import math
import random
import re
from decimal import Decimal
from fractions import Fraction

import msgspec
import numpy as np
import pytest

from orz_monitor.dialects import passes
from orz_monitor.dialects.orz.episodes import EpisodeSteps
from orz_monitor.transport import template
from orz_monitor.transport.scanning import SCANNER, SOURCE_FILE
from orz_monitor.transport.template import COUNT, LONGEST_COUNT, LONGEST_NUMBER, NUMBER, Template, Until

pytestmark = pytest.mark.unit

METRICS = Template([b" - a:b:", NUMBER, b" - lr(1e-4):np.float64(", NUMBER, b") - kl:", NUMBER, b"\n"])


@pytest.fixture(params=["scanner", "python"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read by the compiled scanner, and without it."""
    name: str = request.param
    if name == "python":
        monkeypatch.setattr(template, "SCANNER", None)
    elif SCANNER is None:
        pytest.skip("the scanner was not compiled: no C compiler when orz-monitor was installed")
    return name


def read(lines: list[bytes], form: Template = METRICS) -> list[list[float] | None]:
    """Read lines, between which stand others; None for each that does not fit to its end."""
    text = b"x:1\n" + b"x: - :\n".join(line + b"\n" for line in lines)
    starts = 4 + np.cumsum([0, *(len(line) + 8 for line in lines[:-1])])
    fits = form.read(text, starts)
    ends = [start + len(line) + 1 for start, line in zip(starts.tolist(), lines, strict=True)]
    assert [end for end in fits.ends.tolist() if end >= 0] == [
        end for end, found in zip(ends, fits.ends.tolist(), strict=True) if found >= 0
    ]
    return [
        values if found >= 0 else None for values, found in zip(fits.values.tolist(), fits.ends.tolist(), strict=True)
    ]


def line(index: int) -> bytes:
    return b" - a:b:%d - lr(1e-4):np.float64(-%d.25) - kl:%de-06" % (index, index, index)


def test_each_value_is_read_where_it_stands() -> None:
    """Values that are shorter and longer, and words that hold what ends others."""
    assert read([line(at) for at in range(99, 200)]) == [[at, -at - 0.25, float(f"{at}e-06")] for at in range(99, 200)]


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b" - a:b:",
        b" - a:b:1 - lr(1e-4):np.float64(2)",
        b" - a:b:1 - lr(1e-4):np.float64(2) - kl:3 - kl:3",
        b" - a:c:1 - lr(1e-4):np.float64(2) - kl:3",
        b" - a:b:1 - lr(1e-3):np.float64(2) - kl:3",
        b" - a:b:1 - lr(1e-4):np.float32(2) - kl:3",
        b" - a:b:1 - lr(1e-4):2 - kl:3",
        b" - a:b:1 - lr(1e-4):np.float64(2 - kl:3",
        b" - a:b:1 - lr(1e-4):np.float64() - kl:3",
        b" - a:b:1 - lr(1e-4):np.float64(2) - kl:",
        b" - a:b: - lr(1e-4):np.float64(2) - kl:3",
        b" - a:b:1 - lr(1e-4):np.float64(2)- kl:3",
        b"x - a:b:1 - lr(1e-4):np.float64(2) - kl:3",
        b" - a:b:1 - lr(1e-4):np.float64(2) - kl:" + b"3" * 61,
        b" - a:b:None - lr(1e-4):np.float64(2) - kl:3",
        b" - a:b:1 - lr(1e-4):np.float64(2) - kl:3 ",
        b" - a:b:1 - lr(1e-4):np.float64(2) - kl:3\r",
        b" - a:b:1,2 - lr(1e-4):np.float64(2) - kl:3",
        b" - a:b:1_000 - lr(1e-4):np.float64(2) - kl:3",
        b" - a:b:0x1 - lr(1e-4):np.float64(2) - kl:3",
        b" - a:b:1e - lr(1e-4):np.float64(2) - kl:3",
        b" - a:b:. - lr(1e-4):np.float64(2) - kl:3",
        b" - a:b:.nan - lr(1e-4):np.float64(2) - kl:3",
        b" - a:b:-.e5 - lr(1e-4):np.float64(2) - kl:3",
        b" - a:b:infi - lr(1e-4):np.float64(2) - kl:3",
        b" - a:b:+-1 - lr(1e-4):np.float64(2) - kl:3",
        b" - a:\0:1 - lr(1e-4):np.float64(2) - kl:3",
    ],
)
@pytest.mark.parametrize("at", [0, 7, 12])
def test_a_line_that_differs_does_not_fit(odd: bytes, at: int) -> None:
    """Wherever it stands, and the others are read as if it were not there."""
    lines = [line(index) for index in range(12)]
    alone = read(lines)
    assert read([*lines[:at], odd, *lines[at:]]) == [*alone[:at], None, *alone[at:]]


@pytest.mark.parametrize(
    "text",
    [
        *("0", "-0", "-0.0", "1", "+1", "1.", ".5", "-.5e3", "1e5", "1E+5", "1e-05", "00012.500", "0e0", "0e500"),
        *("0.1", "0.3", "1e22", "1e23", "9007199254740993", "9007199254740992", "18446744073709551615"),
        *("18446744073709551616", "99999999999999999999", "0.30000000000000004", "2.2250738585072011e-308"),
        *("5e-324", "2e-324", "1.7976931348623157e308", "1.8e308", "-1e400", "1e-400", "8.41e21", "1e-27", "1e-28"),
        *("0.000000000000000000000000000000000000000000000000000000001", "123456789012345678901234567890.5"),
        *("nan", "-nan", "NaN", "inf", "-inf", "Infinity", "-INFINITY", "1e99999999999999999999"),
    ],
)
def test_a_number_is_what_python_makes_of_it(text: str) -> None:
    """To the last bit."""
    (found,) = read([f" - a:b:1 - lr(1e-4):np.float64(2) - kl:{text}".encode()])
    assert found is not None
    expected = float(text)
    assert math.isnan(expected) == math.isnan(found[2])
    assert math.isnan(expected) or found[2].hex() == expected.hex()


def test_numbers_of_any_precision_are_what_python_makes_of_them() -> None:
    """Those that computers print, and those that lie by a hair beside the middle between two doubles."""
    rng = random.Random(0)  # noqa: S311 - test data
    texts = [repr(rng.uniform(-1, 1) * 10 ** rng.uniform(-30, 30)) for _ in range(4000)]
    texts += [f"{rng.uniform(-1, 1):.{rng.randrange(22)}{rng.choice('efg')}}" for _ in range(4000)]
    for digits in range(17, 20):  # by a hair beside the middle of two doubles, so that a long double is in it
        for _ in range(2000):
            low = rng.uniform(1e-6, 1)
            middle = (Fraction(low) + Fraction(math.nextafter(low, 2))) / 2
            near = f"{Decimal(middle.numerator) / Decimal(middle.denominator):.{digits + 5}f}"
            texts += [near[: digits + 2], near]
    for _ in range(2000):  # the middle of two doubles, exactly, and the next decimal
        middle = (2 * rng.randrange(1 << 52, 1 << 53) + 1) << rng.randrange(10)
        texts += [str(middle), str(middle + 1), f"{middle}.{'0' * rng.randrange(1, 20)}1"]
    starts = np.cumsum([0, *(len(text) + 1 for text in texts[:-1])])
    found = Template([NUMBER, b"\n"]).read("\n".join([*texts, ""]).encode(), starts)
    assert (found.ends > 0).all()
    assert [value.hex() for value in found.values[:, 0].tolist()] == [float(text).hex() for text in texts]


def test_a_number_that_is_not_sure_makes_all_of_its_line_be_read_again() -> None:
    """Whatever follows it; and so does one after another that was sure."""
    form = Template([NUMBER, b",", NUMBER])
    for text in ("0.1234567890123456789012,5", "5,0.1234567890123456789012", "0.00007968801158540801411,1e-300"):
        assert form.read(text.encode(), np.array([0])).values.tolist() == [[float(one) for one in text.split(",")]]


@pytest.mark.parametrize("text", ["0" * 60, "0." + "0" * 58, "-" + "1" * 59, "1" * 57 + "e-9"])
def test_no_number_has_more_than_sixty_characters(text: str) -> None:
    """Zeros that mean nothing count, too."""
    assert len(text) == 60
    form = Template([NUMBER, b"\n"])
    assert form.read(f"{text}\n".encode(), np.array([0])).values.tolist() == [[float(text)]]
    assert form.read(f"{text}0\n".encode(), np.array([0])).ends.tolist() == [-1]


def test_gaps_end_at_their_byte() -> None:
    """They hold anything but it and the ends of lines and refreshes, are not empty, and not too long."""
    bar = Template([b"|", Until(b"|", 4), b"| ", COUNT, b"/", COUNT, b" [", Until(b"]", 9), b"]"])
    sound = b"|##  | 17/18 [00:10<02]"
    fits = bar.read(b"x" + sound, np.array([1]))
    assert (fits.ends.tolist(), fits.values.tolist()) == ([1 + len(sound)], [[17, 18]])
    assert [(b"x" + sound)[begin:end] for begin, end in fits.spans[0].tolist()] == [b"##  ", b"00:10<02"]
    for odd in (
        b"||| 17/18 [00:10]",
        b"|#####| 17/18 [00:10]",
        b"|##\n | 17/18 [00:10]",
        b"|##\r | 17/18 [00:10]",
        b"|##  | 17/18 []",
        b"|##  | 17/18 [0123456789]",
        b"|##  | 17/18 [0123456",
        b"|##  | -7/18 [00:10]",
        b"|##  | 1.0/18 [00:10]",
        b"|##  | /18 [00:10]",
        b"|##  | 1234567890123456/18 [00:10]",
    ):
        assert bar.read(odd, np.array([0])).ends.tolist() == [-1], odd


def test_places_outside_of_the_text_hold_nothing() -> None:
    """Before it, at its end and behind."""
    fits = Template([b"a", NUMBER]).read(b"a1", np.array([-1, 0, 1, 2, 3, 1 << 40]))
    assert fits.ends.tolist() == [-1, 2, -1, -1, -1, -1]


def test_a_template_of_nothing_fits_everywhere() -> None:
    """And no places are no fits."""
    assert Template([]).read(b"ab", np.array([0, 2])).ends.tolist() == [0, 2]
    assert METRICS.read(b"ab", np.array([], np.int64)).values.shape == (0, 3)


def test_the_scanner_has_the_limits_of_the_patterns() -> None:
    """The longest number and the longest count are the same in C; nowhere else is either written down."""
    (limits,) = re.findall(r"LONGEST_NUMBER = (\d+), LONGEST_COUNT = (\d+)", SOURCE_FILE.read_text(encoding="utf-8"))
    assert (str(LONGEST_NUMBER), str(LONGEST_COUNT)) == limits


def test_a_count_of_sixteen_digits_fits_nowhere() -> None:
    """Fifteen are a count, whether a template, a bar's counters or the steps of episodes meet them."""
    most, more = 10**15 - 1, 10**15
    form = Template([b"at ", COUNT, b"\n"])
    assert [[float(most)], None] == read([b"at %d" % most, b"at %d" % more], form)
    assert [most] == passes._INTEGERS.decode(b"[%d]" % most)
    with pytest.raises(msgspec.ValidationError):
        passes._INTEGERS.decode(b"[%d]" % more)
    assert more == EpisodeSteps().done(2, 7, most)
