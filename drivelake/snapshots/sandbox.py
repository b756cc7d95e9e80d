"""SQL of people in a DuckDB that can read what it was given and nothing else. Belongs here: which tables a query names,
the locks, the words of errors.

Never here: what tables there are, where they stand. ADR 0006 says why there are locks.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import duckdb

from drivelake.errors import Denied, InputError, StoreError, Unavailable
from drivelake.snapshots.remote import literal

__all__ = ["Named", "connect", "lock", "named_tables", "told", "words_of"]

MEMORY_LIMIT = "2GB"
READ_ONLY = "a query is one SELECT: it reads the tables of one commit, and writes nothing"
SELECT_ONLY = duckdb.StatementType.SELECT
SOURCES = ("BASE_TABLE", "JOIN")
STATUS_DENIED = (401, 403)

Node = Mapping[str, object]


@dataclass
class Named:
    """A table that a query names.

    Attributes:
        schema: as written; empty where none is.
        name: as written.
        equal: by column, the values that the query's own WHERE leaves; only columns held to constants stand here.
        perhaps_own: the query also defines this name itself, in WITH.
    """

    schema: str
    name: str
    equal: dict[str, frozenset[str]] = field(default_factory=dict)
    perhaps_own: bool = False


def connect(threads: int | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that loads nothing by itself and sees no Python variable; not locked yet.

    Args:
        threads: None for one a core. Sums of floating-point numbers are the same from run to run with one only.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_persistent_secrets": False,
        "python_enable_replacements": False,
        "memory_limit": MEMORY_LIMIT,
        # made when it is needed, and removed with the connection
        "temp_directory": str(Path(tempfile.gettempdir(), f"drivelake-query-{secrets.token_hex(6)}")),
    }
    if threads is not None:
        config["threads"] = threads
    connection = duckdb.connect(config=config)
    connection.execute("SET parquet_metadata_cache = true")
    return connection


def lock(connection: duckdb.DuckDBPyConnection, uris: Iterable[str]) -> None:
    """Take away the right to open anything but these addresses, and to change that."""
    connection.execute(f"SET allowed_paths = [{', '.join(literal(uri) for uri in uris)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


@contextmanager
def told(what: str = "The query") -> Iterator[None]:
    """Turn DuckDB's errors within the block into ours, with its words kept.

    Raises:
        InputError: the SQL cannot be run.
        Denied, Unavailable, StoreError: a file could not be read.
    """
    try:
        yield
    except duckdb.HTTPException as error:
        status = int(getattr(error, "status_code", 0))
        if status in STATUS_DENIED:
            raise Denied(f"{what} may not read a table: {words_of(error)}", next_step="check the credentials for S3") from None
        if 400 <= status < 500:
            raise StoreError(f"{what} cannot read a table: {words_of(error)}", next_step="drivelake verify --all") from None
        raise Unavailable(f"{what} cannot reach a table: {words_of(error)}", next_step="run it again") from None
    except duckdb.PermissionException as error:
        raise InputError(f"{what} is refused: {words_of(error)}", next_step=READ_ONLY) from None
    except duckdb.IOException as error:
        raise StoreError(
            f"{what} cannot read a table: {words_of(error)}", next_step="check the network and the disk, and run it again"
        ) from None
    except duckdb.OutOfMemoryException as error:
        raise InputError(
            f"{what} needs more than {MEMORY_LIMIT}: {words_of(error)}", next_step="select fewer rows or columns, or group them"
        ) from None
    except duckdb.Error as error:
        raise InputError(f"{what} does not run: {words_of(error)}", next_step="correct the SQL; SELECT * FROM tables") from None


def words_of(error: duckdb.Error) -> str:
    """What DuckDB said, with a full stop."""
    said = str(error).strip()
    return said if said.endswith((".", "!", "?", "^")) else f"{said}."


def named_tables(connection: duckdb.DuckDBPyConnection, query: str) -> list[Named]:
    """The tables that a query names, wherever in it; nothing is bound or opened.

    Args:
        connection: any; used to parse.
        query: the SQL.

    Raises:
        InputError: it is not one SELECT.
    """
    with told():
        statements = connection.extract_statements(query)
        if len(statements) != 1:
            raise InputError(f"The query holds {len(statements)} statements, expected one SELECT.", next_step=READ_ONLY)
        answer = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchone()
    assert answer is not None, "a scalar function gives one row"
    try:
        parsed = json.loads(answer[0])
        if parsed["error"] or statements[0].type != SELECT_ONLY:
            # PIVOT without a list of values, too: DuckDB makes several statements of it
            kind = statements[0].type.name
            raise InputError(f"The query is a statement {kind}; {parsed.get('error_message', '')}", next_step=READ_ONLY)
        found: list[Named] = []
        own: set[str] = set()
        _walk(parsed["statements"], found, own)
    except RecursionError:
        raise InputError("The query is nested too deep to be looked through.", next_step="flatten it") from None
    for table in found:
        table.perhaps_own = not table.schema and table.name.casefold() in own
        if table.perhaps_own:
            table.equal = {}
    return found


def _walk(node: object, found: list[Named], own: set[str]) -> None:
    if isinstance(node, list):
        for item in node:
            _walk(item, found, own)
        return
    if not isinstance(node, dict):
        return
    kind = node.get("type")
    if kind == "SHOW_REF" and node.get("query") is None:
        raise InputError("SHOW lists only what a query has opened, which is nothing.", next_step="SELECT * FROM tables")
    own.update(str(entry["key"]).casefold() for entry in _entries(node.get("cte_map")))
    if kind in SOURCES:
        _sources(node, None, None, found, own)
        return
    if kind == "SELECT_NODE":
        where = None if node["sample"] is not None else node["where_clause"]  # a sample may be taken of rows that are left out
        _sources(node["from_table"], where, None, found, own)
        node = {key: value for key, value in node.items() if key != "from_table"}
    for value in node.values():
        _walk(value, found, own)


def _sources(node: Node, where: object, bare: frozenset[str] | None, found: list[Named], own: set[str]) -> None:
    """Tables below FROM, each with what WHERE says of it.

    Args:
        node: a table, a join, a subquery ...
        where: a condition that every row of it has to meet.
        bare: columns that mean this table's where no table is named; None for all.
        found: where to.
        own: names that WITH defines.
    """
    if node["type"] == "BASE_TABLE":
        table = _named(node)
        if node["sample"] is None:
            _constants(where, str(node["alias"] or table.name).casefold(), bare, table.equal)
        found.append(table)
    elif node["type"] == "JOIN":
        inner = node["join_type"] == "INNER" and node["ref_type"] in {"REGULAR", "CROSS"}
        using = frozenset(str(name).casefold() for name in cast("list[str]", node["using_columns"]))
        for side in (node["left"], node["right"]):
            _sources(cast("Node", side), where if inner else None, using if bare is None else using & bare, found, own)
        _walk(node["condition"], found, own)
    else:
        _walk(node, found, own)


def _named(node: Node) -> Named:
    return Named(str(node["schema_name"]), str(node["table_name"]))


def _entries(cte_map: object) -> list[Mapping[str, object]]:
    return cast("list[Mapping[str, object]]", cte_map["map"]) if isinstance(cte_map, dict) else []


def _constants(where: object, alias: str, bare: frozenset[str] | None, equal: dict[str, frozenset[str]]) -> None:
    """Note ``column = 'a'`` and ``column IN ('a', 'b')``, where all rows have to meet them."""

    def note(column: Node, constants: list[Node]) -> None:
        if column["class"] != "COLUMN_REF" or not all(_is_text(constant) for constant in constants):
            return
        *prefix, name = (str(part).casefold() for part in cast("list[str]", column["column_names"]))
        if prefix == [alias] or (not prefix and (bare is None or name in bare)):
            values = frozenset(str(cast("Node", constant["value"])["value"]) for constant in constants)
            equal[name] = equal[name] & values if name in equal else values

    if not isinstance(where, dict):
        return
    if where["type"] == "CONJUNCTION_AND":
        for child in where["children"]:
            _constants(child, alias, bare, equal)
    elif where["type"] == "COMPARE_EQUAL":
        note(where["left"], [where["right"]])
        note(where["right"], [where["left"]])
    elif where["type"] == "COMPARE_IN":
        note(where["children"][0], where["children"][1:])


def _is_text(node: Node) -> bool:
    if node.get("class") != "CONSTANT":
        return False
    value = cast("Node", node["value"])
    return cast("Node", value["type"])["id"] == "VARCHAR" and not value["is_null"]
