"""Settings that say nothing about a run are refused instead of being passed over."""

from collections.abc import Collection

from helmflow.errors import InputError
from helmflow.settings import Settings
from helmflow.tables import ClosedTable


def refuse_unread(settings: Settings, read: Collection[str], of: str) -> None:
    """Raise InputError for the first setting that was changed and that this run does not read.

    ``read`` names keys of the tables, such as "flow.steps"; those outside of tables are read by
    every run. A value equal to the default changes nothing and passes, because the
    ``settings.toml`` of a run, from which it goes on, repeats them all.
    """
    for name, table in settings:
        if not isinstance(table, ClosedTable):
            continue
        for key in sorted(table.model_fields_set):
            value, field = getattr(table, key), type(table).model_fields[key]
            if f"{name}.{key}" not in read and value != field.default:
                raise InputError(f"{name}.{key}", f"none: {of} does not read it", repr(value))
