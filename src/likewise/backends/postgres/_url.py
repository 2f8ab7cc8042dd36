"""Connection strings: checked before the driver sees them, and shown without their secrets. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from likewise.errors import InvalidArgument

__all__ = ["check_url", "public_url"]

_SECRET = {"password", "sslpassword", "passcode", "oauth_client_secret"}


def check_url(url: str) -> None:
    """``InvalidArgument`` if libpq cannot read the string. Its own message is left out, since it may quote a password."""
    try:
        conninfo_to_dict(url)
    except psycopg.Error:
        raise InvalidArgument(
            "the connection string is malformed; it should look like postgresql://user@host:5432/database "
            "(special characters in it must be percent-encoded)"
        ) from None


def public_url(url: str, info: Any) -> str:
    """The connection string as psql accepts it, with the parameters that were given and no secret in it."""
    given = {k: str(v) for k, v in conninfo_to_dict(url).items() if k not in _SECRET and v is not None}
    user = given.pop("user", "") or info.user
    database = given.pop("dbname", "") or info.dbname
    host, port = given.pop("host", ""), given.pop("port", "")
    if host and not host.startswith(("/", "@")) and "," not in host:
        place = f"[{host}]" if ":" in host else quote(host, safe="")
        place += f":{port}" if port else ""
    else:
        place = ""
        given |= {k: v for k, v in (("host", host), ("port", port)) if v}
    query = f"?{urlencode(given, quote_via=quote, safe='')}" if given else ""
    return f"postgresql://{quote(user, safe='')}@{place}/{quote(database, safe='')}{query}"
