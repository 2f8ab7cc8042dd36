"""Roles that may replicate, and not write Likewise's tables: told at the start, with what to do; and no trouble of watching is embed()'s."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from likewise.abc.embedder import Embedder
from likewise.errors import BackendError
from likewise.worker import Watching, Worker, WorkerThread, watching
from worker.conftest import process, says, wait_until

Client = psycopg.Connection[Any]


@pytest.fixture
def role(client: Client) -> Iterator[str]:
    """A role of this test's own that may log in and replicate; a name that has to be quoted."""
    name = f"Tenant {secrets.token_hex(4)}"
    client.execute(f"create role \"{name}\" login replication password 'x'")
    yield name
    client.execute(f'drop owned by "{name}"; drop role "{name}"')


@pytest.fixture
def address(client: Client, role: str) -> str:
    """The database, as that role."""
    info = client.info
    return f"postgresql:///{info.dbname}?host={info.host}&port={info.port}&user={role.replace(' ', '%20')}&password=x"


GRANTS = {
    "the schema": "grant usage on schema likewise to {role}",
    "the schema, and reading": "grant usage on schema likewise to {role}; grant select on all tables in schema likewise to {role}",
}


@pytest.mark.parametrize("granted", GRANTS)
def test_the_command_says_what_a_role_lacks_and_the_cure(
    client: Client, role: str, address: str, url: str, granted: str
) -> None:
    client.execute(GRANTS[granted].format(role=f'"{role}"'))
    with process(address) as running:
        _, err = running.communicate(timeout=30)
    assert running.returncode == 1
    (line,) = err.splitlines()
    assert line.startswith(f'error: the role "{role}" may not use Likewise\'s ')
    (owner,) = client.execute("select quote_ident(current_user)").fetchone() or ("",)
    assert f"start the worker as {owner}, the role that ran `likewise install`" in line
    # The cure is one: with it the worker answers.
    client.execute("; ".join(re.findall(r"GRANT [A-Z ,]+ ON [^;]+", line)))
    with process(address, "--model", "hashing:16") as running:
        says(running, "answering")
        assert client.execute("select vector_dims(likewise.embed('x', 'hashing:16'))").fetchone() == (16,)


@pytest.mark.parametrize(
    ("revoked", "named"),
    [
        ("delete on likewise.worker", "worker"),
        ("insert on likewise.query_cache, likewise.refusal", "query_cache, refusal"),
        ("select on likewise.registry", "registry"),
        ("all on sequence likewise.turn", "turn"),
    ],
)
def test_each_right_that_is_lacking_is_named(
    client: Client, role: str, address: str, models: Callable[[str], Embedder], revoked: str, named: str
) -> None:
    client.execute(
        f'grant usage on schema likewise to "{role}"; grant all on all tables in schema likewise to "{role}"'
    )
    client.execute(f'grant all on all sequences in schema likewise to "{role}"; revoke {revoked} from "{role}"')
    with (
        pytest.raises(BackendError, match=re.escape(f"may not use Likewise's tables ({named})")) as caught,
        WorkerThread(Worker(address, embedders=models)),
    ):
        pass
    assert caught.value.sqlstate == "42501"


def test_a_role_that_may_not_even_enter_the_schema(address: str, models: Callable[[str], Embedder]) -> None:
    with (
        pytest.raises(BackendError, match="may not use Likewise's schema: start the worker as "),
        WorkerThread(Worker(address, embedders=models)),
    ):
        pass
    with process(address) as running:
        _, err = running.communicate(timeout=30)
    assert running.returncode == 1
    (line,) = err.splitlines()
    assert "permission denied for schema likewise" in line


def test_trouble_with_watching_does_not_take_embed_down(
    url: str,
    client: Client,
    role: str,
    address: str,
    models: Callable[[str], Embedder],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with WorkerThread(Worker(url, embedders=models, models=["told"], watching=Watching(address, embedders=models))):
        wait_until(lambda: "watched tables are not kept embedded" in caplog.text)
        assert client.execute("select vector_dims(likewise.embed('x', 'told'))").fetchone() == (16,)
        (first, *_) = [record for record in caplog.records if "watched tables" in record.getMessage()]
        assert "permission denied" in first.getMessage()
        assert (first.levelname, first.exc_info) == ("WARNING", None)


def test_a_fault_in_watching_is_logged_and_tried_again(
    url: str,
    client: Client,
    models: Callable[[str], Embedder],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    look = Watching._look
    faults = [RuntimeError("a fault")]

    async def looking(part: Watching, connections: Any) -> Any:
        if faults:
            raise faults.pop()
        return await look(part, connections)

    monkeypatch.setattr(Watching, "_look", looking)
    monkeypatch.setattr(watching, "_FIRST_WAIT", 0.05)
    client.execute("create table goods (id int primary key, name text); insert into goods values (1, 'a red dress')")
    client.execute("select likewise.watch('goods', content => 'name', model => 'hashing:16')")
    with WorkerThread(Worker(url, embedders=models, watching=Watching(url, embedders=models))):
        state = "select state from likewise.watches"
        wait_until(lambda: client.execute(state).fetchone() == ("ready",))
    (record,) = [record for record in caplog.records if record.exc_info]
    assert "watched tables" in record.getMessage()
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "a fault"
