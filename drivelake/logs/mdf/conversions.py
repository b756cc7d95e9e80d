"""Physical values out of raw ones, by the conversions of MDF 4. Belongs here: every type of conversion, whole columns at a time.

Never here: parsing of blocks, units, samples in records.

Format: ASAM MDF 4.1, CCBLOCK. Values are those of asammdf 8.8.28, but for what it gets wrong:

- it squares integers in 32 bits (rational), and calculates formulas of 32-bit floats in 32 bits: here both have 64;
- it looks integers up in ranges by their upper end alone (range to value): here, integers lie in a range with both of its
  ends, and floats in one without its upper end;
- it looks up 100 or more values at once by other rules than fewer (tables of text): keys and ends lose their fractions, ranges
  that overlap hold nothing. Here the rules are those for a single value, and of ranges that overlap the lower one counts;
- of a table with text and numbers it loses the text: here both become text, numbers as Python writes them.

A formula is evaluated here and never by asammdf, which hands the file's text to `eval` where its own parser fails.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from functools import lru_cache
from math import ceil, floor
from typing import NamedTuple, TypeAlias, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.logs.arrow import numbers, texts
from drivelake.logs.mdf.model import Conversion

__all__ = ["gives_text", "indexed_texts", "physical", "readable"]

Numbers: TypeAlias = "NDArray[np.generic]"
# inside: integers and floats of all widths, which numpy promotes as it does for float64
Floats: TypeAlias = "NDArray[np.float64]"
Indices: TypeAlias = "NDArray[np.int32]"

NONE, LINEAR, RATIONAL, FORMULA, INTERPOLATED, NEAREST, RANGES, TEXTS, RANGE_TEXTS, TEXT_VALUES, TEXT_TEXTS = range(11)
TABLES = (TEXTS, RANGE_TEXTS)
FORMULA_MAX = 1000
CONSTANT_MAX = 1e308
VARIABLES = ("X", "X1", "x", "x1")
CACHED = 512

BINARY: dict[type[ast.operator], Callable[[Floats, Floats], Floats]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: operator.pow,
}  # fmt: skip
UNARY: dict[type[ast.unaryop], Callable[[Floats], Floats]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
FUNCTIONS: dict[str, Callable[..., Floats]] = {
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "exp": np.exp,
    "arcsin": np.arcsin, "arccos": np.arccos, "arctan": np.arctan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "log": np.log, "log10": np.log10, "sqrt": np.sqrt, "abs": np.abs,
}  # fmt: skip


def readable(conversion: Conversion | None) -> str:
    """Why :func:`physical` cannot apply a conversion, or nothing.

    A channel whose conversion has a formula that cannot be read is not to be given to asammdf either.
    """
    if conversion is None:
        return ""
    if conversion.kind not in range(TEXT_TEXTS + 1):
        return f"a conversion of type {conversion.kind}"
    if conversion.kind == FORMULA:
        try:
            _compiled(_formula(conversion))
        except ValueError as error:
            return f"a formula that cannot be read: {error}"
    for reference in conversion.texts:
        if isinstance(reference, Conversion):
            if conversion.kind not in TABLES or reference.kind in (TEXT_VALUES, TEXT_TEXTS):
                return f"a conversion of type {reference.kind} inside one of type {conversion.kind}"
            if reason := readable(reference):
                return reason
    return ""


def gives_text(conversion: Conversion | None) -> bool:
    """Whether a conversion gives text: a table does unless all that it holds are conversions that give numbers."""
    if conversion is None or conversion.kind not in (*TABLES, TEXT_TEXTS):
        return False
    nested = [reference for reference in conversion.texts if isinstance(reference, Conversion)]
    return not nested or any(isinstance(text, str) for text in conversion.texts) or any(map(gives_text, nested))


def physical(conversion: Conversion | None, raw: Numbers | pa.StringArray) -> Numbers | pa.StringArray:
    """Physical values of raw ones.

    Args:
        conversion: one that is :func:`readable`.
        raw: (n, ...) integers or floats; for a conversion with text keys (types 9 and 10) an Arrow column of n texts.

    Returns:
        Numbers of the shape of ``raw``: the type that numpy gives for linear conversions (float32 stays float32), float64 for
        others. Where :func:`gives_text` says so, an Arrow column of texts instead, for arrays one text an element in C order;
        a value that no entry of a table fits has the table's default, "" where it has none, and NaN among numbers.
    """
    if conversion is None or conversion.kind == NONE:
        return raw
    if isinstance(raw, pa.Array):
        return _of_texts(conversion, raw)
    if gives_text(conversion):
        indices, words = indexed_texts(conversion, raw)
        return _pick(words, indices)
    return _calculated(conversion, cast("Floats", raw))


def _calculated(conversion: Conversion, raw: Floats) -> Floats:
    with np.errstate(all="ignore"):
        match conversion.kind:
            case 1:
                return _linear(raw, conversion.values[1], conversion.values[0])
            case 2:
                return _rational(raw, conversion.values)
            case 3:
                return _evaluated(_formula(conversion), raw)
            case 4:
                return np.interp(raw, *_pairs(conversion))
            case 5:
                return _nearest(conversion, raw)
            case _:
                return _numbers(conversion, raw.reshape(-1)).reshape(raw.shape)


def indexed_texts(conversion: Conversion, raw: Numbers) -> tuple[Indices, list[str]]:
    """The texts of a table, and for each raw value, in C order, which of them is its own.

    Args:
        conversion: one that :func:`gives_text` and has no text keys.
        raw: (n, ...) integers or floats.
    """
    flat = cast("Floats", raw.reshape(-1))
    indices = _entries(conversion, flat)
    words = ["" if reference is None or isinstance(reference, Conversion) else reference for reference in conversion.texts]
    for entry, reference in enumerate(conversion.texts):
        if not isinstance(reference, Conversion):
            continue
        rows = np.flatnonzero(indices == entry)
        if not len(rows):
            continue
        if gives_text(reference):
            inner, more = indexed_texts(reference, flat[rows])
        else:
            distinct, places = np.unique(np.asarray(physical(reference, flat[rows])), return_inverse=True)
            inner = places.astype(np.int32)
            more = [str(value) for value in distinct.tolist()]
        indices[rows] = inner + np.int32(len(words))
        words += more
    return indices, words


def _linear(raw: Floats, factor: float, offset: float) -> Floats:
    scaled: Floats = raw * factor
    if offset:
        scaled += offset
    return scaled


def _rational(raw: Floats, values: tuple[float, ...]) -> Floats:
    p1, p2, p3, p4, p5, p6 = values
    if p1 == p3 == p4 == p5 == 0 != p6:
        return raw if p2 == p6 else raw * (p2 / p6)
    if p2 == p3 == p4 == p6 == 0 != p5:
        return raw if p1 == p5 else raw * (p1 / p5)
    x = raw.astype(np.float64)
    return np.asarray((p1 * x**2 + p2 * x + p3) / (p4 * x**2 + p5 * x + p6))


@lru_cache(CACHED)
def _pairs(conversion: Conversion) -> tuple[Floats, Floats]:
    """Keys in rising order, and their values."""
    table = np.array(conversion.values).reshape(-1, 2)
    table = table[np.argsort(table[:, 0], kind="stable")]
    return table[:, 0].copy(), table[:, 1].copy()


def _nearest(conversion: Conversion, raw: Floats) -> Floats:
    """The value of the nearest key, of the lower one of two that are equally near."""
    keys, values = _pairs(conversion)
    x = raw.astype(np.float64)
    above = np.minimum(np.searchsorted(keys, x), len(keys) - 1)
    below = np.maximum(above - 1, 0)
    found = np.where(np.abs(x - keys[above]) >= np.abs(x - keys[below]), values[below], values[above])
    return np.where(np.isnan(x), np.nan, found)


def _numbers(conversion: Conversion, flat: Floats) -> Floats:
    """What a table of numbers, or of conversions that give numbers, has for each value."""
    entries = _entries(conversion, flat)
    if conversion.kind == RANGES:
        return np.array([*conversion.values[2:-1:3], conversion.values[-1]])[entries]
    found = np.full(len(flat), np.nan)
    for entry, reference in enumerate(conversion.texts):
        if isinstance(reference, Conversion):
            rows = np.flatnonzero(entries == entry)
            found[rows] = np.asarray(physical(reference, flat[rows]))
    return found


class _Ranges(NamedTuple):
    """Ranges of values, in rising order of their lower ends; a key is a range with two equal ends.

    Attributes:
        lower: belongs to the range.
        upper: belongs to it if it is closed.
        closed: whether it is.
        entry: of the table.
        apart: whether no two of them overlap.
    """

    lower: Floats
    upper: Floats
    closed: NDArray[np.bool_]
    entry: Indices
    apart: bool


def _entries(conversion: Conversion, flat: Floats) -> Indices:
    """For each value the entry of the table that it belongs to, the last one being the default."""
    default = len(conversion.texts) - 1 if conversion.kind in TABLES else len(conversion.values) // 3
    table = _ranges(conversion, flat.dtype.newbyteorder("="))
    found = np.full(len(flat), default, np.int32)
    if not len(table.entry):
        return found
    if table.apart:
        place = np.searchsorted(table.lower, flat, side="right") - 1
        at = np.maximum(place, 0)
        upper = table.upper[at]
        inside = (place >= 0) & ((flat < upper) | (table.closed[at] & (flat == upper)))
        return np.where(inside, table.entry[at], found)
    for lower, upper, closed, entry in zip(*table[:4], strict=True):
        inside = (flat >= lower) & ((flat <= upper) if closed else (flat < upper))
        found[inside & (found == default)] = entry
    return found


@lru_cache(CACHED)
def _ranges(conversion: Conversion, kind: np.dtype[np.generic]) -> _Ranges:
    """The ranges of a table for raw values of a type; those of integers are integers, so that they are compared exactly."""
    values = conversion.values
    if conversion.kind == TEXTS:
        rows = [(key, key) for key in values]
    else:
        step = 3 if conversion.kind == RANGES else 2
        rows = list(zip(values[: len(values) // step * step : step], values[1::step], strict=False))
    whole = kind.kind in "iu"
    limits = np.iinfo(cast("np.dtype[np.int64]", kind)) if whole else None
    lowest, highest = (int(limits.min), int(limits.max)) if limits else (0, 0)
    table: list[tuple[float, float, bool, int]] = []
    for entry, (lower, upper) in enumerate(rows):
        if not lower <= upper:
            continue
        if whole:
            first, last = _first_whole(lower, lowest, highest), _last_whole(upper, lowest, highest)
            if first <= last:
                table.append((first, last, True, entry))
        else:
            table.append((lower, upper, lower == upper, entry))
    table.sort(key=lambda row: row[:2])
    if conversion.kind == TEXTS:
        table = [row for i, row in enumerate(table) if i == 0 or row[0] != table[i - 1][0]]
    number = cast("np.dtype[np.float64]", kind if whole else np.dtype(np.float64))
    lower_ends = np.array([row[0] for row in table], number)
    upper_ends = np.array([row[1] for row in table], number)
    closed = np.array([row[2] for row in table], np.bool_)
    apart = bool(np.all((upper_ends[:-1] < lower_ends[1:]) | (~closed[:-1] & (upper_ends[:-1] == lower_ends[1:]))))
    return _Ranges(lower_ends, upper_ends, closed, np.array([row[3] for row in table], np.int32), apart)


def _first_whole(end: float, lowest: int, highest: int) -> int:
    """The first integer of a range, no less than ``lowest``; behind ``highest`` where the range begins there."""
    if end <= lowest:
        return lowest
    return highest + 1 if end > highest else ceil(end)


def _last_whole(end: float, lowest: int, highest: int) -> int:
    if end >= highest:
        return highest
    return lowest - 1 if end < lowest else floor(end)


def _of_texts(conversion: Conversion, raw: pa.StringArray) -> Numbers | pa.StringArray:
    """Conversions whose keys are texts: once for each distinct text."""
    encoded = raw.dictionary_encode()
    keys = [text or "" for text in encoded.dictionary.to_pylist()]
    places = np.asarray(encoded.indices.fill_null(0)) if keys else np.zeros(len(raw), np.int32)
    known: dict[str, int] = {}
    if conversion.kind == TEXT_VALUES:
        for place, text in enumerate(conversion.texts):
            known.setdefault(text if isinstance(text, str) else "", place)
        values = np.array([conversion.values[known.get(key, -1)] for key in keys] or [0.0])
        return values[places]
    for place, text in enumerate(conversion.texts[:-1:2]):
        known.setdefault(text if isinstance(text, str) else "", 2 * place + 1)
    found = [conversion.texts[known.get(key, -1)] for key in keys] or [""]
    return _pick([text if isinstance(text, str) else "" for text in found], places.astype(np.int32))


def _pick(words: list[str], indices: Indices) -> pa.StringArray:
    encoded = [word.encode() for word in words]
    column = texts(np.frombuffer(b"".join(encoded), np.uint8), np.array([len(word) for word in encoded], np.int64), "utf-8")
    # Arrow takes the type of the indices from the array; its stubs do not
    indexed = pa.DictionaryArray.from_arrays(cast("pa.Int32Array", numbers(indices)), column)
    return cast("pa.StringArray", indexed.dictionary_decode())


def _formula(conversion: Conversion) -> str:
    text = conversion.texts[0] if conversion.texts else None
    return text if isinstance(text, str) else ""


def _evaluated(formula: str, raw: Floats) -> Floats:
    found = _value(_compiled(formula), raw.astype(np.float64))
    return np.array(np.broadcast_to(found, raw.shape), np.float64)


@lru_cache(CACHED)
def _compiled(formula: str) -> ast.expr:
    """The formula as a tree of what :func:`_value` knows.

    Raises:
        ValueError: it has anything else.
    """
    if len(formula) > FORMULA_MAX:
        raise ValueError(f"it has {len(formula)} characters, expected at most {FORMULA_MAX}")
    try:
        tree = ast.parse(formula.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{formula!r} is no expression") from error
    waiting: list[ast.expr] = [tree]
    while waiting:
        node = waiting.pop()
        match node:
            case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
                waiting += [left, right]
            case ast.UnaryOp(op=op, operand=operand) if type(op) in UNARY:
                waiting.append(operand)
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
                waiting.append(argument)
            case ast.Call(func=ast.Name(id="pow"), args=[base, exponent], keywords=[]):
                waiting += [base, exponent]
            case ast.Name(id=name) if name in VARIABLES:
                pass
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool) and abs(value) < CONSTANT_MAX:
                pass
            case _:
                raise ValueError(f"{ast.unparse(node)!r} in {formula!r} is not known")
    return tree


def _value(node: ast.expr, x: Floats) -> Floats:
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            return BINARY[type(op)](_value(left, x), _value(right, x))
        case ast.UnaryOp(op=op, operand=operand):
            return UNARY[type(op)](_value(operand, x))
        case ast.Call(func=ast.Name(id="pow"), args=[base, exponent]):
            return np.asarray(_value(base, x) ** _value(exponent, x))
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return FUNCTIONS[name](_value(argument, x))
        case ast.Constant(value=int() | float() as value):
            return np.array(value, np.float64)
    return x
