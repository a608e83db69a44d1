"""Who may be personalized: the one rule that stream, builds, serving and training apply.

`permitted` is for values, `permitted_column` for Ibis tables and `permitted_sql` for SQL text; a test holds
the three to one truth table. `stated_sql` finds what users state today.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import ibis.expr.types as ir

D = TypeVar("D", bool, None)


def permitted(event: bool | None, user: bool | None, default: D) -> bool | D:
    """Whether personalization is permitted.

    A user's denial holds whatever an event says. Else the event decides, else the user, else the default.

    Args:
        event: what the event or the request states; `None` for nothing.
        user: what the user's newest record states.
        default: what holds where neither states anything; `None` returns that nothing was stated.
    """
    if user is False:
        return False
    if event is not None:
        return event
    return default if user is None else user


def permitted_column(
    event: ir.BooleanValue, user: ir.BooleanValue, default: bool | ir.BooleanValue
) -> ir.BooleanValue:
    """`permitted` over columns."""
    import ibis  # noqa: PLC0415 - half a second, and the stream imports this module

    denied = (user == ibis.literal(False)).fill_null(False)
    return ~denied & ibis.coalesce(event, user, default)


def permitted_sql(event: str, user: str, default: bool) -> str:
    """`permitted` over SQL expressions."""
    return f"(coalesce({user}, true) AND coalesce({event}, {user}, {str(default).lower()}))"


def stated_sql(users: str) -> str:
    """A query of `user_id` and `stated`, what the user's newest record states, over users of the lake."""
    newest = "arg_max({'said': consent}, ingested_at)"  # a null of its own would be passed over
    return f"SELECT user_id, struct_extract({newest}, 'said') AS stated FROM {users} GROUP BY user_id"
