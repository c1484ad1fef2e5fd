"""What a file can make a reader do grows with the file, not with its square: operations counted, and small ceilings."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest

from orz_ckpt import strict_json
from orz_ckpt.errors import FormatError
from orz_ckpt.formats import archive
from orz_ckpt.formats.inert import BadPickleError, Limits
from orz_ckpt.formats.inert_pickle import load_pickle
from orz_ckpt.formats.pickle_machine import Machine
from orz_ckpt.formats.safetensors import parse_header
from orz_ckpt.strict_json import MAX_MEMORY_BYTES, FieldError, JsonError, TooLargeError, parse
from orz_ckpt.tensors import gather
from orz_ckpt.tensors.gather import Files, Gatherer
from orz_ckpt.tensors.pieces import PiecesInOrder
from orz_ckpt.tensors.source import Block, Piece, SourceTensor

pytestmark = pytest.mark.unit

FEW = Limits(number_keys=10)


class Counted(bytes):
    """Bytes that count those copied out of them."""

    copied: ClassVar[int] = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        if isinstance(found, bytes):
            Counted.copied += len(found)
            return Counted(found)
        return found


@pytest.fixture(autouse=True)
def _from_zero() -> None:
    Counted.copied = 0


# --- keys -----------------------------------------------------------------------------------------------


def test_hashes_of_blocks_cannot_be_chosen() -> None:
    """2**61 and 1 have one hash, and so have all shapes made of them; as tensors they differ."""
    shapes = list(itertools.product((1, 2**61), repeat=6))
    blocks = [Block(path=Path("x"), offset=0, dtype="F32", shape=(0, *shape), strides=(1,) * 7) for shape in shapes]

    assert 1 == len(set(map(hash, shapes)))
    assert 64 == len(set(map(hash, blocks)))
    assert hash(blocks[3]) == hash(
        Block(path=Path("x"), offset=0, dtype="F32", shape=blocks[3].shape, strides=(1,) * 7)
    )


@pytest.mark.parametrize(
    "value",
    [
        {number << 32: None for number in range(12)},
        {-1 - number: None for number in range(11)},
        {number + 0.5: None for number in range(11)},
        {number << 32 for number in range(12)},
        [{number << 32: None} for number in range(11)] + [{1 << 40: None}],
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_numbers_that_can_collide_are_few(value: Any, protocol: int) -> None:
    """Numbers as keys that do not count up are counted over the whole pickle."""
    with pytest.raises(BadPickleError, match="more than 10 numbers as keys"):
        load_pickle(pickle.dumps(value, protocol), limits=FEW)


@pytest.mark.parametrize("make", [b"ccollections\nOrderedDict\n", b"cbuiltins\ndict\n", b"cbuiltins\nset\n"])
def test_numbers_in_calls_are_counted(make: bytes) -> None:
    """A call that makes a dictionary or a set of a list is counted like one that is filled."""
    items = [number << 32 if b"set" in make else (number << 32, None) for number in range(12)]
    data = b"\x80\2" + make + pickle.dumps(items, 2)[2:-1] + b"\x85R."

    with pytest.raises(BadPickleError, match="more than 10 numbers as keys"):
        load_pickle(data, limits=FEW)


def test_numbers_that_count_up_are_free() -> None:
    """The parameters of an optimizer are numbered; so is the memo of a pickle."""
    value = {number: str(number) for number in range(500)}

    assert value == load_pickle(pickle.dumps(value, 2), limits=FEW).value
    assert set(value) == load_pickle(pickle.dumps(set(value), 4), limits=FEW).value


def test_a_memo_of_chosen_numbers_is_refused() -> None:
    """The memo is a dictionary, and LONG_BINPUT lets a file choose its keys."""
    puts = b"".join(b"Nr" + struct.pack("<I", number << 20) + b"0" for number in range(1, 12))
    with pytest.raises(BadPickleError, match="more than 10 numbers as keys"):
        load_pickle(b"\x80\2" + puts + b"N.", limits=FEW)


def test_no_tensors_in_tuples_as_keys() -> None:
    """Tuples can be made to collide, and are then compared field by field; tensors in them would be, too."""
    block = Block(path=Path("x"), offset=0, dtype="F32", shape=(1,), strides=(1,))
    data = b"\x80\2}N\x85Q\x85Ns."
    with pytest.raises(BadPickleError, match="key of type Block"):
        load_pickle(data, persistent=lambda _: block)
    assert {block: None} == load_pickle(b"\x80\2}N\x85QNs.", persistent=lambda _: block).value


def test_shapes_are_short() -> None:
    """The product of a hundred thousand numbers is one of a million digits, and takes as long as their square."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [2**62] * 100_000, "data_offsets": [0, 4]}}).encode()
    with pytest.raises(FormatError, match="100,000 dimensions; 64 are allowed"):
        parse_header(io.BytesIO(struct.pack("<Q", len(header)) + header))


# --- bytes ----------------------------------------------------------------------------------------------


def test_long_lines() -> None:
    """Lines a little longer than the first look are read with a few times their bytes."""
    line = b"V" + b"a" * 1500 + b"\n0"
    data = Counted(line * 200)
    machine = Machine(data, {}, None, frozenset(), Limits())
    for _ in range(200):
        machine.position += 1
        assert 1500 == len(machine.line())
        machine.position += 1

    assert Counted.copied < 4 * len(data)


def test_a_line_that_never_ends() -> None:
    """The whole of what is allowed is looked at, and no more."""
    with pytest.raises(BadPickleError, match="a line does not end"):
        load_pickle(b"\x80\2V" + b"a" * 100_000, limits=Limits(text_bytes=5000))
    assert "a" * 4999 == load_pickle(b"\x80\2V" + b"a" * 4999 + b"\n.", limits=Limits(text_bytes=5000)).value


def test_extra_fields() -> None:
    """Thousands of empty extra fields are split without copying what is left for each."""
    extra = Counted(b"".join(struct.pack("<HH", kind, 2) + b"ab" for kind in range(5000)))
    found = archive._fields(extra)

    assert (5000, b"ab") == (len(found), found[4999])
    assert Counted.copied <= len(extra)


# --- JSON -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["[],", "{},", '{"":0},', '"ab",', "[[[0]]],", '["ab","cd"],'])
def test_documents_of_brackets(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few megabytes of brackets are refused before they are parsed, as bytes and as text."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(json, "loads", never)
    document = f"[{text * 2_200_000}0]"
    for data in (document, document.encode()):
        with pytest.raises(JsonError, match=r"would take about [\d,]+ bytes of memory; 134,217,728 are allowed"):
            parse(data)


def test_large_documents() -> None:
    """A header of 100,000 tensors is let through, an index of a million: both by what one more of them takes."""
    tensor = '"model.layers.0.mlp.experts.%d.w":{"dtype":"BF16","shape":[2048,768],"data_offsets":[0,3145728]}'
    entry = '"model.layers.0.mlp.experts.%d.w":"model-00001-of-00163.safetensors"'
    for text, number in ((tensor, 100_000), (entry, 1_000_000)):
        document = "{" + ",".join(text % index for index in range(100)) + "}"
        allowed = MAX_MEMORY_BYTES * 100 // number
        parse(document, memory_bytes=allowed)
        with pytest.raises(JsonError, match="bytes of memory"):
            parse(document, memory_bytes=allowed // 3)


# --- pieces ---------------------------------------------------------------------------------------------


def pieces_of(path: Path, shape: tuple[int, int], cut: tuple[int, int]) -> tuple[SourceTensor, np.ndarray[Any, Any]]:
    """Return a tensor in `cut[0]` by `cut[1]` boxes, one behind the other in a file, out of order, and its numbers."""
    whole = np.arange(shape[0] * shape[1], dtype="<i4").reshape(shape)
    size = (shape[0] // cut[0], shape[1] // cut[1])
    pieces, offset = [], 0
    with path.open("wb") as stream:
        for row, column in sorted(
            itertools.product(range(cut[0]), range(cut[1])), key=lambda at: (at[0] * 7 + at[1]) % 5
        ):
            start = (row * size[0], column * size[1])
            box = whole[start[0] : start[0] + size[0], start[1] : start[1] + size[1]]
            stream.write(box.tobytes())
            block = Block(path=path, offset=offset, dtype="I32", shape=size, strides=(size[1], 1))
            pieces.append(Piece(block=block, start=start))
            offset += box.nbytes
    empty = Block(path=path, offset=0, dtype="I32", shape=(0, shape[1]), strides=(shape[1], 1))
    pieces.append(Piece(block=empty, start=(shape[0], 0)))
    return SourceTensor(name="w", dtype="I32", shape=shape, grid=shape, pieces=tuple(pieces)), whole


@pytest.mark.parametrize(("cut", "at_most"), [((64, 1), 4), ((1, 64), 65), ((16, 4), 4), ((4, 16), 16)])
def test_many_ranks(cut: tuple[int, int], at_most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor of 64 ranks is read whole in parts of two rows, and each part looks at the pieces near it only."""
    tensor, whole = pieces_of(tmp_path / "x", (128, 64), cut)
    seen: list[int] = []

    class Watched(PiecesInOrder):
        def near(self, *corners: Any) -> Any:
            found = super().near(*corners)
            seen.append(len(found))
            return found

    monkeypatch.setattr(gather, "PiecesInOrder", Watched)
    out = bytearray()
    with Files() as files:
        gatherer = Gatherer(files)
        for begin in range(0, tensor.numel, 128):
            part = bytearray(128 * 4)
            gatherer.read(tensor, begin, begin + 128, memoryview(part))
            out += part

    assert whole.tobytes() == bytes(out)
    assert 64 <= len(seen) <= 2 * 64  # for runs, and once more where there are none
    assert max(seen) <= at_most


def test_pieces_in_pieces(tmp_path: Path) -> None:
    """An empty piece that begins with a full one, and a long one that begins before short ones, hide nothing."""
    path = tmp_path / "x"
    path.write_bytes(bytes(range(20)))

    def flat(start: int, size: int) -> Piece:
        return Piece(block=Block(path=path, offset=start, dtype="U8", shape=(size,), strides=(1,)), start=(start,))

    order = PiecesInOrder([flat(0, 10), flat(10, 10), flat(10, 0)])
    assert [10] == [piece.block.numel for piece in order.near((12,), (15,)) if piece.block.numel]
    order = PiecesInOrder([flat(0, 20), flat(3, 2), flat(5, 0)])
    assert 20 in [piece.block.numel for piece in order.near((12,), (15,))]
    tensor = SourceTensor(
        name="w", dtype="U8", shape=(20,), grid=(20,), pieces=(flat(0, 10), flat(10, 10), flat(10, 0))
    )
    out = bytearray(3)
    with Files() as files:
        Gatherer(files).read(tensor, 12, 15, memoryview(out))

    assert bytes([12, 13, 14]) == bytes(out)


# --- wide characters -------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", [r"\u51fa", r"\ud83d\ude00", r"\\\"\u51fa", r"\u51fa\\"])
def test_a_wide_text_costs_its_own_length(letter: str) -> None:
    """A name that is no ASCII makes its own text wide, not the document; one long text counts as what it takes."""
    others = ", ".join(f'"{number:0100}"' for number in range(10_000))
    document = f'["{letter}", {others}, "a{letter}"]'.encode()  # a megabyte; four bytes for each character is too much
    assert json.loads(document) == parse(document, memory_bytes=1_900_000)
    for text in (f'"{letter}{"a" * 300_000}"', f'"{"a" * 300_000}{letter}"', f'"{letter}{"a" * 300_000}{letter}"'):
        with pytest.raises(TooLargeError, match=r"of memory; 1,900,000 are allowed"):
            parse(text.encode(), memory_bytes=1_900_000)


def test_a_wide_text_behind_many_quotes() -> None:
    """Where the beginning of a text is far away behind escaped quotes, it is not taken for nearer than it is."""
    text = '"' + '\\"' * 50_000 + '\\u51fa"'
    with pytest.raises(TooLargeError):
        parse(text.encode(), memory_bytes=600_000)
    assert '"' * 50_000 + "\u51fa" == parse(text.encode(), memory_bytes=750_000)


def test_long_texts_are_counted() -> None:
    """A text takes its bytes three times, as it is read, decoded and kept; texts as short as names are not counted."""
    long, short = '"' + "a" * 500_000 + '"', "[" + ",".join(['"' + "a" * 60 + '"'] * 8000) + "]"
    for data in (long, long.encode()):
        with pytest.raises(TooLargeError, match=r"about 1,499,814 bytes of memory; 1,400,000 are allowed"):
            parse(data, memory_bytes=1_400_000)
        assert "a" * 500_000 == parse(data, memory_bytes=1_500_000)
    assert 8000 == len(cast("list[str]", parse(short, memory_bytes=600_000)))
    with pytest.raises(TooLargeError):
        parse('"' + '\\"' * 250_000 + '"', memory_bytes=1_400_000)  # quotes in a text begin none


class CountedSearches(bytes):
    """Bytes that count how often a quote was looked for backwards."""

    searches: ClassVar[int] = 0

    def rfind(self, *arguments: Any) -> int:
        CountedSearches.searches += 1
        return super().rfind(*arguments)


def test_escaped_quotes_in_many_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through how many of them a beginning is looked for is limited in all, not for each text."""
    CountedSearches.searches = 0
    monkeypatch.setattr(strict_json, "_MAX_QUOTES", 5000)
    texts = ['"' + '\\"' * 99 + "\u51fa" + '"'] * 1000
    data = CountedSearches(("[" + ",".join(texts) + "]").encode())
    assert ['"' * 99 + "\u51fa"] * 1000 == parse(data)
    assert 5000 < CountedSearches.searches < 5200


def test_many_wide_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind so many that each was looked at, all that is left counts as wide."""
    document = ("[" + ",".join([r'"\u51fa"'] * 100) + ', "' + "a" * 100_000 + '"]').encode()
    assert 101 == len(cast("list[str]", parse(document, memory_bytes=350_000)))
    monkeypatch.setattr(strict_json, "_MAX_WIDE_TEXTS", 10)
    with pytest.raises(TooLargeError):
        parse(document, memory_bytes=350_000)


def test_names_are_short() -> None:
    """A tensor's name is repeated in messages: one of megabytes is refused."""
    for length in (65_536, 65_537):
        header = json.dumps({"w" * length: {"dtype": "U8", "shape": [], "data_offsets": [0, 1]}}).encode()
        stream = io.BytesIO(struct.pack("<Q", len(header)) + header + b"0")
        if length == 65_536:
            assert "w" * length == parse_header(stream).tensors[0].name
        else:
            with pytest.raises(FormatError, match="a name of 65,537 characters; 65,536 are allowed"):
                parse_header(stream)


def test_fields_are_short() -> None:
    """A field of a manifest is repeated in what is said of it, and has an end, too."""
    assert "w" * 65_536 == strict_json.text_field({"writer": "w" * 65_536}, "writer")
    with pytest.raises(FieldError, match="writer: a text of 65,537 characters; 65,536 are allowed"):
        strict_json.text_field({"writer": "w" * 65_537}, "writer")
