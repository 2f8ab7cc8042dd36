"""``likewise ask``: an answer and its citations, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import likewise as package
from embedding.openai_server import Answer, Reply, Seen, Server, as_json, problem, serving
from likewise import CollectionSpec, Record
from likewise.cli.exits import Exit

if TYPE_CHECKING:
    from cli.conftest import Likewise

QUESTION = "When does the night train leave?"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LIKEWISE_CHAT_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def handbook(likewise: Likewise, fresh_database_url: str) -> Likewise:
    """The command, with a collection in the database."""
    place = {"source": "trains.pdf", "page": 3, "headings": ["Travel", "Night\ntrains"], "start": 7, "end": 58}
    with package.connect(fresh_database_url) as store:
        store.ensure_collection(CollectionSpec("handbook", embedder="mini")).upsert(
            [
                Record("t", content="The night train leaves at ten.\x1b[2J It is often full.", metadata=place),
                Record("h", content="Herons wait for fish in shallow water.", metadata={"source": "birds.md"}),
            ]
        )
    return likewise


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        server.answer = says("At ten [1], or eleven [5].")
        yield server


def says(text: str) -> Answer:
    def answer(_: Seen) -> Reply:
        return as_json({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})

    return answer


def test_an_answer_with_its_citations(handbook: Likewise) -> None:
    done = handbook("ask", QUESTION, "-c", "handbook")
    assert (done.code, done.err) == (Exit.OK, "")
    answer, empty, citation, quote, *_ = done.out.splitlines()
    assert answer.startswith("The night train leaves at ten.")
    assert answer.endswith("[1]")
    assert empty == ""
    assert citation.startswith("[1] trains.pdf, page 3, Travel > Night trains (similarity 0.")
    assert quote == r"    The night train leaves at ten.\x1b[2J It is often full."


def test_json(handbook: Likewise) -> None:
    found = handbook("ask", QUESTION, "--json").json
    assert found.keys() == {"collection", "text", "citations", "found", "by", "question", "unknown_citations"}
    assert (found["collection"], found["found"], found["by"], found["question"]) == (
        "handbook",
        True,
        "extract",
        QUESTION,
    )
    first = found["citations"][0]
    assert (first["number"], first["record_id"], first["page"], first["start"], first["end"]) == (1, "t", 3, 7, 58)


def test_nothing_found_is_no_failure(handbook: Likewise) -> None:
    done = handbook("ask", "Who painted the ceiling of the chapel?")
    assert (done.code, done.out) == (Exit.OK, "Nothing was found that answers this.\n")
    narrowed = handbook("ask", QUESTION, "--where", '{"source": "birds.md"}', "--json")
    assert narrowed.json["found"] is False
    assert handbook("ask", QUESTION, "--min-similarity", "1", "--json").json["found"] is False


def test_a_chat_model(handbook: Likewise, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKEWISE_CHAT_API_KEY", "sk-chat")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-all")
    done = handbook("ask", QUESTION, "-k", "1", "--chat", "tiny", "--chat-url", server.url)
    assert done.code == Exit.OK
    assert done.out.splitlines()[0] == "At ten [1], or eleven."
    assert "tiny cited what was no passage: 5" in done.err
    (seen,) = server.seen
    assert seen.body["model"] == "tiny"
    assert seen.headers["authorization"] == "Bearer sk-chat"
    assert '"passage": 2' not in seen.body["messages"][1]["content"]


def test_what_cites_nothing_is_warned_of(handbook: Likewise, server: Server) -> None:
    server.answer = says("At ten, I think.")
    done = handbook("ask", QUESTION, "--chat", "tiny", "--chat-url", server.url)
    assert done.out == "At ten, I think.\n"
    assert "cited no passage" in done.err


def test_the_key_of_all_programs_is_for_the_address_of_all(
    handbook: Likewise, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-all")
    handbook("ask", QUESTION, "--chat", "tiny", "--chat-url", server.url)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    handbook("ask", QUESTION, "--chat", "tiny")
    assert [seen.headers.get("authorization") for seen in server.seen] == [None, "Bearer sk-all"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["ask"], Exit.USAGE, "QUESTION"),
        (["ask", " "], Exit.INVALID, "the question is ' '"),
        (["ask", QUESTION, "-k", "0"], Exit.INVALID, "top_k is 0"),
        (["ask", QUESTION, "-c", "nowhere"], Exit.NOT_FOUND, "there is no collection 'nowhere'"),
        (["ask", QUESTION, "--where", "{"], Exit.INVALID, "--where is not JSON"),
        (["ask", QUESTION, "--chat-url", "http://127.0.0.1:9/v1"], Exit.INVALID, "with --chat MODEL"),
        (["ask", QUESTION, "--chat", "m", "--chat-url", "ftp://x"], Exit.INVALID, "base_url is 'ftp://x'"),
        (["ask", QUESTION, "--chat", "m"], Exit.FAILURE, "needs a key"),
    ],
)
def test_what_is_refused(handbook: Likewise, arguments: list[str], code: Exit, message: str) -> None:
    done = handbook(*arguments, "--json")
    assert done.code == code
    assert message in done.error["message"]


def test_a_server_that_refuses(handbook: Likewise, server: Server) -> None:
    server.answer = problem(404, "no model 'tiny'")
    done = handbook("ask", QUESTION, "--chat", "tiny", "--chat-url", server.url)
    assert (done.code, done.out) == (Exit.FAILURE, "")
    assert "does not have it (status 404): no model 'tiny'" in done.err


def test_help_says_where_the_key_is(run: Likewise, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("ask", "--help")
    assert "LIKEWISE_CHAT_API_KEY" in capsys.readouterr().out
