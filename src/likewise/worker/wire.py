"""A server that speaks PostgreSQL's protocol, so that a database can ask the worker by ``dblink``, or psql by hand.

It does one thing, ``EMBED``, for whoever knows the password. Who embeds is somebody else: :class:`WireServer` is given a function.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import ssl as tls
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from likewise.errors import InvalidArgument
from likewise.worker import _wire
from likewise.worker._connection import Connection, ConnectionLost
from likewise.worker._scram import MECHANISM, Conversation, Malformed, Refused, Verifier
from likewise.worker._statement import Embed, Nothing, Setting, WireRequest, parse_statement, wire_error
from likewise.worker._wire import ENCODINGS, EncryptionRequest, Startup, WireError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["USER", "WireRequest", "WireServer"]

_log = logging.getLogger("likewise.worker")

#: The one user there is.
USER = "likewise"
#: What is told to a client that has logged in. Clients take the version for what the server can do; ours asks for nothing that 14 has not.
_PARAMETERS = {
    "server_version": "14.0 (Likewise worker)",
    "server_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "integer_datetimes": "on",
    "standard_conforming_strings": "on",
    "TimeZone": "UTC",
}
#: Of a message before the login: a start-up message has a few names in it, one of SCRAM a few hundred bytes.
_MOST_BYTES_BEFORE_LOGIN = 4096
#: How many may be logging in at the same time; they do not count as connections yet, so that they cannot keep others out.
_MOST_LOGINS = 50
#: A wrong password is answered after so many seconds, and up to twice as many.
_PENALTY_SECONDS = 0.5
#: How long calls under way may take when the server stops.
_GRACE_SECONDS = 5.0


class WireServer:
    """Listens on ``host`` and ``port`` (0: any free one) and has ``answer`` embed what is asked for.

    Args:
        answer: gives the vector of a request; it may fail with any error, and is cancelled when the time is up or the client is gone.
        password: what the user ``likewise`` logs in with, by SCRAM-SHA-256. There is no way in without it.
        ssl: the context of the server's certificate. With it a client without TLS is refused, without it there is no TLS.
        most_connections: how many may be logged in.
        most_bytes: of a statement; a picture takes a third more than its file.
        seconds: how long an answer may take, whatever the client allows.
        login_seconds: how long a login may take.
    """

    def __init__(
        self,
        answer: Callable[[WireRequest], Awaitable[NDArray[np.float32]]],
        *,
        host: str,
        port: int,
        password: str,
        ssl: tls.SSLContext | None = None,
        most_connections: int = 200,
        most_bytes: int = 32 << 20,
        seconds: float = 300.0,
        login_seconds: float = 10.0,
    ) -> None:
        if not password:
            raise InvalidArgument("the password of the worker is empty: without one anybody could use its models")
        if not host:
            raise InvalidArgument("the worker needs an address to listen on, such as 127.0.0.1")
        self._ask = answer
        self._host, self._port = host, port
        self._ssl = ssl
        self._most_connections = most_connections
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._login_seconds = login_seconds
        self._verifier = Verifier.of(password)
        self._secret = secrets.token_bytes(32)
        self._tasks: set[asyncio.Task[None]] = set()
        self._logging_in: set[Connection] = set()
        self._logged_in: set[Connection] = set()
        self._idle: set[Connection] = set()
        self._stopping = False
        #: Where it listens, from then on.
        self.address: tuple[str, int] | None = None
        #: Set while it listens.
        self.listening = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set; calls under way are then answered first, for a few seconds.

        Raises ``InvalidArgument`` if it cannot listen there.
        """
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(lambda: Connection(self._accepted), self._host, self._port)
        except (OSError, OverflowError) as exc:
            raise InvalidArgument(
                f"the worker cannot listen on {self._host}:{self._port}: {exc}. Choose another port, or an address of this machine"
            ) from exc
        self._stopping = False
        host, port = server.sockets[0].getsockname()[:2]
        self.address = (host, port)
        self.listening.set()
        _log.info("listening on %s:%s", host, port, extra={"tls": self._ssl is not None})
        try:
            await stop.wait()
        finally:
            server.close()
            self._stopping = True
            self.listening.clear()
            await self._end(_GRACE_SECONDS if stop.is_set() else 0)

    async def _end(self, grace: float) -> None:
        last_words = _wire.error_response(_stopping())
        for connection in (*self._idle, *self._logging_in):
            connection.leave(last_words)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for connection in self._logged_in:
            connection.leave(last_words)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepted(self, connection: Connection) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a connection is closed after an error of the worker", exc_info=error)

    async def _serve(self, connection: Connection) -> None:
        try:
            async with self._place(connection, self._logging_in, _MOST_LOGINS):
                try:
                    async with asyncio.timeout(self._login_seconds):
                        encoding = await self._login(connection)
                except TimeoutError:
                    raise WireError("57014", "the login took too long", fatal=True) from None
            if encoding is not None:
                async with self._place(connection, self._logged_in, self._most_connections):
                    await self._welcome(connection, encoding)
                    await self._converse(connection, ENCODINGS[encoding.lower()])
        except ConnectionLost:
            _log.debug("a client is gone", extra={"peer": connection.peer})
        except WireError as error:
            _log.info("a connection is closed: %s", error, extra={"peer": connection.peer, "sqlstate": error.sqlstate})
            connection.leave(_wire.error_response(error))
        except OSError as error:  # TLS
            _log.info("a connection has failed: %s", error, extra={"peer": connection.peer})
        finally:
            connection.leave()

    @asynccontextmanager
    async def _place(self, connection: Connection, among: set[Connection], most: int) -> AsyncGenerator[None, None]:
        if self._stopping:
            raise _stopping()
        if len(among) >= most:
            raise WireError(
                "53300",
                f"{most} clients are connected to the worker, and it takes no more",
                hint="Try it again.",
                fatal=True,
            )
        among.add(connection)
        try:
            yield
        finally:
            among.discard(connection)

    # Logging in.

    async def _login(self, connection: Connection) -> str | None:
        """Find out who the client is: the name of its encoding, or None where it only wanted to cancel something."""
        startup = await self._startup(connection)
        if startup is None:
            return None
        if self._ssl is not None and not connection.encrypted:
            raise WireError(
                "28000", "this worker wants TLS", hint="Set sslmode to verify-full, or at least to require.", fatal=True
            )
        parameters = startup.parameters
        encoding = parameters.get("client_encoding", "UTF8").strip("'\"")
        if encoding.lower() not in ENCODINGS:
            raise WireError("22023", f"the encoding {encoding!r} is not known here", fatal=True)
        if parameters.get("replication", "false") not in {"false", "off", "no", "0"}:
            raise WireError("0A000", "this is a worker of Likewise: it has nothing to replicate", fatal=True)
        if startup.minor or startup.unknown:
            await connection.write(_wire.negotiate_version(startup.unknown))
        await self._authenticate(connection, startup.user)
        return encoding

    @staticmethod
    async def _welcome(connection: Connection, encoding: str) -> None:
        told = {**_PARAMETERS, "client_encoding": encoding}
        await connection.write(
            _wire.authentication_ok()
            + b"".join(_wire.parameter_status(name, value) for name, value in told.items())
            + _wire.key_data(secrets.randbelow(1 << 31), secrets.randbits(32))
            + _wire.ready_for_query()
        )

    async def _startup(self, connection: Connection) -> Startup | None:
        asked: set[bool] = set()
        while True:
            length = _wire.frame_length(await connection.read(4), _MOST_BYTES_BEFORE_LOGIN)
            match _wire.parse_first(await connection.read(length)):
                case Startup() as startup:
                    return startup
                case EncryptionRequest(tls=wanted) if wanted not in asked and not connection.encrypted:
                    asked.add(wanted)
                    if connection.unread:
                        raise WireError("08P01", "unencrypted bytes came after a request for encryption", fatal=True)
                    if wanted and self._ssl is not None:
                        await connection.encrypt(self._ssl, _wire.TLS, seconds=self._login_seconds)
                    else:
                        await connection.write(_wire.NO_TLS)
                case EncryptionRequest():
                    raise WireError("08P01", "encryption was asked for again", fatal=True)
                case _:  # nothing here is cancelled but by closing the connection that waits for it
                    return None

    async def _authenticate(self, connection: Connection, user: str) -> None:
        verifier = self._verifier if user == USER else Verifier.unmatched(user, self._secret)
        conversation = Conversation(verifier)
        try:
            await connection.write(_wire.sasl_mechanisms([MECHANISM]))
            mechanism, first = _wire.parse_sasl_first(await self._password_message(connection))
            if mechanism != MECHANISM:
                raise Malformed(f"the only mechanism here is {MECHANISM}")
            await connection.write(_wire.sasl_continue(conversation.first(first)))
            proof = conversation.last(await self._password_message(connection))
        except Malformed as exc:
            raise WireError("08P01", f"the login is malformed: {exc}", fatal=True) from exc
        except Refused:
            _log.warning("a login was refused", extra={"peer": connection.peer, "user": user[:63]})
            await asyncio.sleep(_PENALTY_SECONDS * random.uniform(1, 2))  # noqa: S311 -- nobody gains by guessing it
            raise WireError("28P01", f'password authentication failed for user "{user[:63]}"', fatal=True) from None
        await connection.write(_wire.sasl_final(proof))

    @staticmethod
    async def _password_message(connection: Connection) -> bytes:
        kind, body = await _message(connection, _MOST_BYTES_BEFORE_LOGIN)
        if kind != b"p":
            raise WireError("08P01", "something else came than an answer to the login", fatal=True)
        return body

    # Logged in.

    async def _converse(self, connection: Connection, codec: str) -> None:
        skipping = False
        while not self._stopping:
            self._idle.add(connection)
            try:
                kind, body = await _message(connection, self._most_bytes)
            finally:
                self._idle.discard(connection)
            match kind:
                case b"X":
                    return
                case b"S":  # Sync
                    skipping = False
                    await connection.write(_wire.ready_for_query())
                case _ if skipping or kind in {b"d", b"c", b"f"}:  # of a COPY that was refused
                    continue
                case b"Q":
                    codec = await self._query(connection, body, codec)
                case b"F":
                    await connection.write(
                        _wire.error_response(_unsupported("calls of functions")) + _wire.ready_for_query()
                    )
                case _ if kind[0] in _wire.EXTENDED:
                    skipping = True
                    await connection.write(_wire.error_response(_unsupported("the extended protocol"), codec))
                case _:
                    raise WireError("08P01", f"a message of the type {kind!r} is not understood", fatal=True)
        raise _stopping()

    async def _query(self, connection: Connection, body: bytes, codec: str) -> str:
        """Answer a simple query; the codec from now on."""
        try:
            match parse_statement(_wire.parse_query(body, codec), most_seconds=self._seconds):
                case Nothing():
                    reply = _wire.empty_query()
                case Setting(name, value):
                    reply = _wire.command_complete("SET")
                    if name == "client_encoding":
                        codec = ENCODINGS[value.lower()]
                        reply += _wire.parameter_status(name, value)
                case Embed(request):
                    reply = _wire.vector_rows(await self._embedded(connection, request))
        except WireError as error:
            if error.fatal:
                raise
            reply = _wire.error_response(error, codec)
        await connection.write(reply + _wire.ready_for_query())
        return codec

    async def _embedded(self, connection: Connection, request: WireRequest) -> NDArray[np.float32]:
        answer = asyncio.ensure_future(self._ask(request))
        try:
            await asyncio.wait((answer, connection.lost), timeout=request.within, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return _checked(answer.result())
            if connection.lost.done():
                raise ConnectionLost
            raise TimeoutError
        except ConnectionLost:
            raise
        except Exception as exc:
            error = wire_error(exc, within=request.within)
            if error.sqlstate == "LW006":
                _log.exception("a request failed", extra={"peer": connection.peer, "kind": request.kind})
            raise error from exc
        finally:
            answer.cancel()


async def _message(connection: Connection, most: int) -> tuple[bytes, bytes]:
    head = await connection.read(5)
    return head[:1], await connection.read(_wire.frame_length(head[1:], most))


def _checked(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    import numpy as np

    if vector.ndim != 1 or not len(vector) or not np.isfinite(vector).all():
        raise TypeError(f"the model gave an array of the shape {vector.shape}, or numbers that are not finite")
    return vector


def _stopping() -> WireError:
    return WireError("57P01", "the worker is stopping", hint="Try it again: another one may be there.", fatal=True)


def _unsupported(what: str) -> WireError:
    return WireError("0A000", f"this is a worker of Likewise, not a database: it has not {what}, only simple queries")
