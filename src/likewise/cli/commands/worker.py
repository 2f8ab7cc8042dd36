"""``likewise worker``: answers ``embed()`` of SQL in one database, until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import ssl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from likewise.cli.context import Context
from likewise.cli.exits import Exit
from likewise.errors import BackendError, InvalidArgument, ModelNotAvailable, UnsupportedFeature

if TYPE_CHECKING:
    from likewise.abc.embedder import Embedder
    from likewise.backends.postgres import PostgresStore
    from likewise.worker import Worker
    from likewise.worker.wire import WireServer

HELP = "answer embed() in SQL, and keep watched tables embedded"
#: A worker that is not ready after so long waits for transactions that write.
_SLOW_SECONDS = 2.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        action="append",
        default=[],
        help="offer this model too, beside those of the database's collections and its default; may be given again",
    )
    parser.add_argument(
        "--warm-up", action="store_true", help="load the models before the first request rather than at it"
    )
    parser.add_argument(
        "--image-root",
        metavar="DIR",
        action="append",
        default=[],
        help="a folder that pictures of watched tables, named by a path, may be read from; may be given again",
    )
    parser.add_argument(
        "--image-urls", action="store_true", help="fetch pictures of watched tables that are named by a URL"
    )
    parser.add_argument(
        "--metrics",
        metavar="HOST:PORT",
        help="serve the counts at http://HOST:PORT/metrics, and /health; without authentication",
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="answer what databases ask through dblink at this address; the password is read from --password-file or "
        "$LIKEWISE_WORKER_PASSWORD",
    )
    parser.add_argument("--password-file", metavar="FILE", help="the password of --listen, in the file's first line")
    parser.add_argument(
        "--certificate", metavar="FILE", help="the certificate of --listen: TLS, and nothing without it"
    )
    parser.add_argument("--key", metavar="FILE", help="the certificate's key, where it is not in the same file")


def run(context: Context) -> int:
    """Serve until SIGTERM or Ctrl-C; what is being embedded then is still answered. Warnings of the library are printed on stderr."""
    # With --debug the log is there already, whole.
    with contextlib.nullcontext() if context.options.debug else context.output.log("likewise"):
        return _run(context)


def _run(context: Context) -> int:
    from likewise.backends.postgres import PostgresStore
    from likewise.embedding import load_embedder
    from likewise.worker import Exposing, Watching, Worker

    options = context.options
    models = [load_embedder(name) for name in options.model]
    address = None if options.metrics is None else parse_address(options.metrics)
    listen = None if options.listen is None else parse_address(options.listen)
    password = "" if listen is None else read_password(options.password_file)
    with context.store() as store:
        if not isinstance(store, PostgresStore):
            raise UnsupportedFeature("a worker", backend=store.capabilities.backend)
        standby, by_log = _prepare(store)
        if not by_log and listen is None:
            raise InvalidArgument(
                "requests of this database go over dblink, or it is a standby: say where to listen for them, by --listen HOST:PORT"
            )
        if options.warm_up:
            for model in models:
                with context.output.progress(f"loading {model.card.name}"):
                    model.warm_up()
        embedded = context.database is None or context.database.startswith("embedded:")
        conninfo = store.url if embedded or context.database is None else context.database
        watching = None
        if not standby:
            watching = Watching(
                conninfo,
                embedders=_offering(options.model),
                image_roots=options.image_root,
                urls=options.image_urls,
            )
        worker = Worker(conninfo, embedders=load_embedder, models=options.model, log=by_log, watching=watching)
        server = None
        if listen is not None:
            server = worker.listen(*listen, password, ssl=_tls(options.certificate, options.key))
        if address is not None:
            worker.add(Exposing(*address, worker.metrics, worker.ready.is_set))
        # Of sockets that libpq has opened this kind of loop can be told on every system.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(_serve(worker, server, context, store.url if by_log else None))
    counts = worker.metrics()
    context.output.document({"counts": counts})
    context.output.note(
        f"answered {counts['answered']:,.0f} requests in {counts['batches']:,.0f} calls of models; wrote {counts.get('watch_written', 0):,.0f} "
        "vectors of watched tables"
    )
    return Exit.OK


def _offering(names: Sequence[str]) -> Callable[[str], Embedder]:
    """The models that watched tables may name: who owns a table does not decide what is fetched onto the worker's machine, or paid for."""
    from likewise.embedding import load_embedder
    from likewise.embedding.registry import OPEN_FAMILIES

    def load(name: str) -> Embedder:
        embedder = load_embedder(name)
        if name not in names and (embedder.remote or name.partition(":")[0] in OPEN_FAMILIES):
            raise ModelNotAvailable(
                f"the worker does not offer the model {name!r:.80} for watched tables; whoever runs it can: likewise worker --model {name:.80}",
                model=name,
            )
        return embedder

    return load


def _prepare(store: PostgresStore) -> tuple[bool, bool]:
    """See that the database is up to date; whether it is a standby, and whether its requests come over the log."""
    with store.transaction() as connection:
        standby = connection.execute("select pg_catalog.pg_is_in_recovery()").fetchone()
    if standby == (True,):
        return True, False
    try:
        store.install()
    except BackendError as error:
        if error.sqlstate == "42501":
            _check_rights(store)
        raise
    with store.transaction() as connection:
        found = connection.execute("select s.value from likewise.setting as s where s.name = 'transport'").fetchone()
    by_log = found is None or found[0] != "dblink"
    if by_log:
        # Here rather than when the worker's parts are running side by side, and each has something to say of it.
        _check_rights(store)
    return False, by_log


def _check_rights(store: PostgresStore) -> None:
    """Say what the role lacks as a worker, if it is that."""
    from likewise.worker._sql import statement
    from likewise.worker.post import check_rights

    with store.transaction() as connection:
        for role, owner, enters, closed in connection.execute(statement("rights")):
            check_rights(role, owner, closed, enters=enters)


def _tls(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(f"the certificate {certificate} or its key cannot be used: {error}") from error
    return context


async def _serve(worker: Worker, server: WireServer | None, context: Context, shown: str | None) -> None:
    """Serve until a signal; ``shown`` is the database whose log is read, if it is."""
    stop = asyncio.Event()
    with _stopping(stop):
        saying = []
        if server is not None:
            saying.append(asyncio.create_task(_say_where(server, context)))
        if shown is not None:
            saying.append(asyncio.create_task(_say(worker, context, shown)))
        try:
            await worker.run(stop)
        finally:
            for task in saying:
                task.cancel()


async def _say_where(server: WireServer, context: Context) -> None:
    """Where it listens, once it does."""
    await server.listening.wait()
    assert server.address is not None
    host, port = server.address
    context.output.note(f"listening on {f'[{host}]' if ':' in host else host}:{port} for dblink")


async def _say(worker: Worker, context: Context, shown: str) -> None:
    """What the worker is, when that changes."""
    said = None
    try:
        # Not wait_for, which in Python 3.11 can swallow a cancellation.
        async with asyncio.timeout(_SLOW_SECONDS):
            await worker.ready.wait()
    except TimeoutError:
        context.output.note(
            "waiting until the transactions have ended that are writing now: the server then lets the log be read"
        )
        await worker.ready.wait()
    while True:
        is_ = (
            "answering"
            if worker.leads
            else "ready to take over"
            if worker.ready.is_set()
            else "waiting for the database"
        )
        if is_ != said:
            context.output.note(f"{is_}: {shown}")
            said = is_
        await asyncio.sleep(0.2)


@contextlib.contextmanager
def _stopping(stop: asyncio.Event) -> Iterator[None]:
    """SIGTERM and Ctrl-C set ``stop``, the first time; the second time they do what they do elsewhere."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def received() -> None:
        stop.set()
        for number in signals:
            loop.remove_signal_handler(number)

    try:
        for number in signals:
            loop.add_signal_handler(number, received)
    except (
        NotImplementedError,
        ValueError,
        RuntimeError,
    ):  # Windows, or not the main thread: Ctrl-C interrupts at once.
        pass
    try:
        yield
    finally:
        for number in signals:
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                loop.remove_signal_handler(number)


def read_password(file: str | None) -> str:
    """The password of a worker: of a file, or of the environment; never an argument, which every user of the machine can see."""
    if file is not None:
        path = Path(file)
        try:
            password = path.read_text(encoding="utf-8").split("\n", 1)[0].strip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"the password file {file} cannot be read: {error}") from error
    else:
        password = os.environ.get("LIKEWISE_WORKER_PASSWORD", "")
    if not password:
        raise InvalidArgument(
            "the worker's password is missing: give --password-file FILE, or set LIKEWISE_WORKER_PASSWORD"
        )
    return password


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT``, an IPv6 address in brackets."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise InvalidArgument(f"{text!r:.80} is no address; one is HOST:PORT, such as 127.0.0.1:9187")
    return host.strip("[]"), int(port)
