"""Closed tables: TOML read into typed values, where every mistake is one line naming the key."""

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from helmflow.errors import InputError

EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number greater than {gt}",
    "greater_than_equal": "a number not less than {ge}",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "less_than": "a number less than {lt}",
    "less_than_equal": "a number not greater than {le}",
    "list_type": "a list",
    "mapping_type": "a table",
    "model_type": "a table",
    "string_pattern_mismatch": "a text that matches {pattern}",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "a text that is not empty",
    "string_type": "a text in quotes",
    "too_long": "at most {max_length} entries",
    "too_short": "at least {min_length} entries",
    "tuple_type": "a list",
}
"""pydantic's kinds of error in the words of a TOML file; any other kind keeps pydantic's own."""


class ClosedTable(BaseModel):
    """A table that takes exactly its own keys, without conversion between types.

    The two exceptions are those TOML needs: a whole number is accepted where a number is asked
    for, and a list where a tuple is. Infinite numbers and NaN are rejected; a date is its text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Table = TypeVar("Table", bound=BaseModel)


def read_toml(path: Path, field: str) -> dict[str, object]:
    """The contents of a TOML file.

    Raises ``InputError(field, ...)`` when the file is missing, unreadable or not TOML.
    """
    try:
        contents = tomllib.loads(path.read_text(encoding="utf-8"))
        _refuse_long(contents)
        return contents
    except OSError as error:
        raise InputError(field, "a readable TOML file", f"{path} ({error.strerror})") from error
    except (ValueError, RecursionError) as error:  # no TOML, too long a number, too deep a table
        raise InputError(field, "a valid TOML file", f"{path} ({error})") from error


def _refuse_long(value: object) -> None:
    """Raise ValueError for a whole number of more than the 64 bits that TOML has."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _refuse_long(item)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a whole number of more than 64 bits")


def parse_table(model: type[Table], table: Mapping[str, object], *, at: str = "") -> Table:
    """The table as an instance of ``model``; ``at`` is the key path the table itself stands at.

    Raises ``InputError`` for one mistake: an unknown key first (a misspelt key is also a missing
    one, and the nearest spelling says more), then in the order of the model.
    """
    try:
        # As JSON, where strict validation takes a list for a tuple and nothing else.
        return model.model_validate_json(json.dumps(table, default=str))
    except ValidationError as failure:
        errors = failure.errors(include_url=False)
        unknown = [error for error in errors if error["type"] == "extra_forbidden"]
        raise _input_error(model, (unknown or errors)[0], at) from failure


def nearest(word: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the nearest known word, empty when none is near."""
    spelt = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), spelt, n=1)
    return f" (did you mean '{spelt[close[0]]}'?)" if close else ""


def _input_error(model: type[BaseModel], error: ErrorDetails, at: str) -> InputError:
    path = _key_path(at, error["loc"])
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, error["loc"][:-1])
        key = str(error["loc"][-1])
        return InputError(path, f"one of {', '.join(known)}{nearest(key, known)}", f"'{key}'")
    if error["type"] == "missing":
        return InputError(path, "a value", "nothing")
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if error["type"] in EXPECTED:
        message = EXPECTED[error["type"]].format(**error.get("ctx", {}))
    return InputError(path, message, repr(error["input"]))


def _key_path(at: str, location: tuple[int | str, ...]) -> str:
    path = at
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path or "file"


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        if isinstance(part, str):
            fields = {field.alias or name: field for name, field in model.model_fields.items()}
            model = _table_inside(fields[part].annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _table_inside(annotation: object) -> type[BaseModel] | None:
    """The table class in an annotation such as ``Table | None`` or ``tuple[Table, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_table_inside, get_args(annotation))), None)
