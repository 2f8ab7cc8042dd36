"""The searches of the SQL interface: what they find, by which way, for whom, and what they refuse.

``likewise.query_vector``, which asks a model, is replaced by one that reads a table of texts and their vectors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import psycopg
import pytest
from psycopg import sql

import likewise
from likewise import Btree, Calibration, Collection, CollectionSpec, Column, Curve, Hnsw, IvfFlat, Metadata, VectorStore
from likewise.filters import serialise
from likewise.testing.database import empty_database
from oracle.generate import Generator

ROWS, DIMENSION = 3_000, 16
KINDS: tuple[Literal["text", "image"], ...] = ("text", "image")
GAP = Calibration(text_text=Curve(0.80, 0.04), text_image=Curve(0.12, 0.05), image_image=Curve(0.7, 0.06))
STAND_IN = """
    create table public.query_vectors (query text primary key, vector public.vector not null);
    grant select on public.query_vectors to public;
    create or replace function likewise.query_vector(query text, spec jsonb) returns public.vector
    language sql stable as 'select v.vector from public.query_vectors as v where v.query = $1';
"""


class Database:
    """A store, and a connection to its database for SQL."""

    def __init__(self, url: str, store: VectorStore, connection: psycopg.Connection[Any]) -> None:
        self.url = url
        self.store = store
        self.connection = connection

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self.connection.execute(query.encode(), values).fetchall()

    def do(self, statement: str, *parts: str) -> None:
        self.connection.execute(sql.SQL(statement).format(*map(sql.SQL, parts)))

    def teach(self, query: str, vector: Any) -> None:
        """Have the stand-in for a model know this text."""
        self.connection.execute(
            "insert into public.query_vectors values (%s, %s::vector)",
            (query, str(np.asarray(vector, np.float32).tolist())),
        )

    def with_model(self, name: str) -> None:
        """Have the registry say that the collection has a model."""
        self.connection.execute(
            "update likewise.registry set spec = jsonb_set(spec, '{embedder}', '\"mini\"') where name = %s", (name,)
        )

    def scans(self, index: str, query: str, *values: object) -> tuple[list[tuple[Any, ...]], int]:
        """What a query gives, and how often it scanned this index."""
        with self.connection.transaction():
            count = "select pg_stat_get_xact_numscans(%s::regclass)"
            before = self.rows(count, index)[0][0]
            found = self.rows(query, *values)
            return found, self.rows(count, index)[0][0] - before


@pytest.fixture(params=["postgres_server", "postgres_16_server"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with (
        empty_database(request.getfixturevalue(request.param)) as url,
        likewise.connect(url) as store,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        store.ensure_collection(CollectionSpec("unrelated", dimension=2))
        connection.execute(STAND_IN)
        yield Database(url, store, connection)


def fill(database: Database, *, multimodal: bool = False, calibration: Calibration | None = None) -> Collection:
    """3,000 records around twenty centres; of the multimodal ones every fifth is a picture, and two share a content_id."""
    collection = database.store.ensure_collection(
        CollectionSpec("things", dimension=DIMENSION, multimodal=multimodal, calibration=calibration)
    )
    draw = np.random.default_rng(7)
    vectors = draw.normal(size=(20, DIMENSION))[np.arange(ROWS) % 20] + 0.7 * draw.normal(size=(ROWS, DIMENSION))
    images = np.arange(ROWS) % 5 == 0
    if calibration:
        vectors[:, 0] += np.where(images, -4.0, 4.0)
    collection.upsert_columns(
        ids=[f"r{n}" for n in range(ROWS)],
        vectors=vectors.astype(np.float32),
        metadata=[{"n": n, "tenth": n % 10, "half": n % 2, "rare": n % 500, "it's": "\\ ' \" %s"} for n in range(ROWS)],
        content=[f"number {n} of {'even' if n % 2 == 0 else 'odd'} things" for n in range(ROWS)],
        modality=[KINDS[int(image)] for image in images] if multimodal else None,
        content_id=[f"c{n // 2}" for n in range(ROWS)] if multimodal else None,
    )
    database.with_model("things")
    database.teach("q", vectors[100])
    database.do("vacuum analyze things")
    return collection


ALL = (
    'select content_id from likewise.semantic_search(\'q\', 0, 20, \'things\', \'{"tenth": {"$lt": 9}, "$content": {"$text_match": "Number"}}\')',
    'select content_id from likewise.similar_to(\'r100\', 20, \'things\', \'{"$id": {"$in": ["r1", "r2", "r103"]}}\')',
    "select content_id from likewise.hybrid_search('q', 20, 'things', '{\"n\": {\"$between\": [1, 2000]}}')",
    "select content_id from likewise.find_similar_multimodal((select vector from public.query_vectors), null, 0, 20, 'things')",
)
SEMANTIC = "select * from likewise.semantic_search('q', 0, %s, 'things', %s)"


@pytest.mark.parametrize("multimodal", [False, True])
def test_semantic_search_gives_what_python_gives(database: Database, multimodal: bool) -> None:
    collection = fill(database, multimodal=multimodal, calibration=GAP if multimodal else None)
    (stored,) = database.rows("select vector::real[] from public.query_vectors")
    generator = Generator(11, multimodal=multimodal)
    filters: list[Any] = [serialise(generator.filter()) for _ in range(40)]
    filters += [
        None,
        {"tenth": 3},
        {"n": {"$lt": 5}},
        {"n": {"$gt": 20}},
        {"it's": "\\ ' \" %s"},
        {"$id": {"$gte": "r5"}},
    ]
    for number, where in enumerate(filters):
        target = [None, "text", "image"][number % 3] if multimodal else None
        threshold = [0.0, 0.4][number % 2]
        wanted = collection.search(
            vector=stored[0],
            query_modality="text",
            where=where,
            top_k=25,
            exact=True,
            target_modality=target,  # type: ignore[arg-type]
            min_similarity=threshold,
        )
        found = database.rows(
            "select * from likewise.semantic_search('q', %s, 25, null, %s, %s)",
            threshold,
            None if where is None else json.dumps(where),
            target,
        )
        assert [row[0] for row in found] == [r.record.content_id if multimodal else r.id for r in wanted], where
        assert [row[1] for row in found] == pytest.approx([r.similarity for r in wanted], abs=1e-4)
        assert [row[3:5] for row in found] == [(r.record.content, r.record.metadata) for r in wanted]
        assert [row[5] for row in found] == pytest.approx([r.distance for r in wanted], abs=1e-4)
        assert {row[2] for row in found} <= ({"text", "image"} if multimodal else {None})


def test_a_filter_is_answered_by_the_cheaper_way_and_never_short(database: Database) -> None:
    collection = fill(database)
    collection.ensure_indexes()
    (stored,) = database.rows("select vector::real[] from public.query_vectors")
    # What a search of ten is answered by: pgvector's index, or that of the metadata.
    by_index = {
        "{}": (True, False),
        '{"half": 1}': (True, False),
        '{"n": {"$gt": 20}}': (True, False),
        '{"tenth": 3}': (False, True),
        '{"rare": 3}': (False, True),
        '{"n": -1}': (False, True),
    }
    for where, served in by_index.items():
        for wanted in (1, 10, 40):
            truth = collection.search_by_vector(stored[0], top_k=wanted, where=json.loads(where), exact=True)
            found, scans = database.scans("idx_things_vector_hnsw", SEMANTIC, wanted, where)
            assert len(found) == len(truth), where
            assert len({row[0] for row in found} & {r.id for r in truth}) >= 0.9 * len(truth), where
            if wanted == 10:
                other = database.scans("idx_things_metadata_gin", SEMANTIC, wanted, where)[1]
                assert (scans > 0, other > 0) == served, where
    assert len(database.rows(SEMANTIC, 1_000, None)) == 1_000
    assert len(database.rows(SEMANTIC, 1_000, '{"n": {"$lt": 990}}')) == 990
    assert len(database.rows(SEMANTIC, 100_000, None)) == ROWS
    assert len(database.rows(SEMANTIC, 2**31 - 1, '{"tenth": 3}')) == ROWS // 10


def test_an_index_on_a_key_serves_comparisons(database: Database) -> None:
    collection = fill(database)
    collection.ensure_indexes(metadata=Btree("n"))
    database.do("analyze things")
    found, scans = database.scans("idx_things_metadata_n", SEMANTIC, 10, '{"n": {"$between": [2990, 2994]}}')
    assert {row[0] for row in found} == {f"r{n}" for n in range(2990, 2995)}
    assert scans > 0


def test_estimates_that_are_wrong_cost_no_results(database: Database) -> None:
    collection = fill(database)
    collection.ensure_indexes()
    # No statistics of these: the planner believes that a third, or half a percent, of the rows match.
    for where, matching in (('{"n": {"$gt": 2995}}', 4), ('{"n": {"$gte": 0}, "tenth": {"$ne": 11}}', ROWS)):
        assert len(database.rows(SEMANTIC, 50, where)) == min(50, matching)
    # What matches lies at the far end from the query, where the index does not get to.
    database.do("update things set metadata = jsonb_build_object('far', true) where id in (select id from things order by vector <=> "
                "(select vector from public.query_vectors) desc limit 1000)")  # fmt: skip
    database.do("vacuum analyze things")
    found, scans = database.scans("idx_things_vector_hnsw", SEMANTIC, 10, '{"far": true}')
    assert scans > 0
    truth = database.rows(
        "select id from things where metadata @> '{\"far\": true}' order by (vector <=> (select vector from public.query_vectors)) + 0 limit 10"
    )
    assert len(found) == 10
    assert {row[0] for row in found} == {row[0] for row in truth}


@pytest.mark.parametrize(
    "index", [Hnsw(quantization="half"), Hnsw(quantization="binary"), IvfFlat(lists=20)], ids=lambda i: f"{i}"
)
def test_every_kind_of_index_is_used(database: Database, index: Hnsw | IvfFlat) -> None:
    collection = fill(database)
    names = [i.name for i in collection.ensure_indexes(vector=index) if i.vector is not None]
    (stored,) = database.rows("select vector::real[] from public.query_vectors")
    for where in (None, Metadata("tenth") == 3):
        wire = None if where is None else json.dumps(serialise(where))
        found, scans = database.scans(names[0], SEMANTIC, 10, wire)
        by_python = collection.search_by_vector(stored[0], top_k=10, where=where)
        assert len({row[0] for row in found} & {r.id for r in by_python}) >= 9
        assert scans > 0 or where is not None


def test_half_precision_vectors_are_searched(database: Database) -> None:
    collection = database.store.ensure_collection(CollectionSpec("halves", dimension=4, storage="halfvec"))
    collection.upsert_columns(ids=["a", "b"], vectors=np.eye(4, dtype=np.float32)[:2])
    collection.ensure_indexes()
    database.with_model("halves")
    database.teach("q", [0, 1, 0, 0])
    assert [r[0] for r in database.rows("select * from likewise.semantic_search('q', 0.5)")] == ["b"]
    assert [r[1] for r in database.rows("select * from likewise.similar_to('a', 5, 'halves')")] == ["b"]


def test_similar_to_leaves_the_record_itself_out(database: Database) -> None:
    collection = fill(database)
    wanted = [r.id for r in collection.search(like="r8", top_k=10, where=Metadata("tenth") < 5, exact=True)]
    columns = "select content_id, similarity, distance, metadata from likewise.similar_to"
    found = database.rows(columns + "('r8', 10, 'things', '{\"tenth\": {\"$lt\": 5}}')")
    assert [row[0] for row in found] == wanted
    assert len(database.rows(columns + "('r8', 100000, 'things')")) == ROWS - 1
    assert all(
        row[1] >= 0.9 for row in database.rows(columns + "('r8', collection => 'things', similarity_threshold => 0.9)")
    )
    with pytest.raises(psycopg.errors.NoDataFound, match="collection 'things' has no record 'absent'"):
        database.rows(columns + "('absent', 10, 'things')")
    with pytest.raises(psycopg.errors.AmbiguousParameter, match=r"public\.things, public\.unrelated"):
        database.rows(columns + "('r8')")


def test_similar_to_leaves_everything_of_the_same_thing_out(database: Database) -> None:
    collection = fill(database, multimodal=True, calibration=GAP)
    names = "select id, content_id, modality from likewise.similar_to"
    for content_id in ("r10", "c5"):  # c5 is r10, a picture, and r11, a text
        found = database.rows(names + "(%s, 100000, 'things')", content_id)
        assert len(found) == ROWS - 2
        assert "c5" not in {row[1] for row in found}
    assert {row[2] for row in database.rows(names + "('r10', 50, 'things', target_modality => 'image')")} == {"image"}
    by_text = [row[0] for row in database.rows(names + "('c5', 20, 'things')")]
    wanted = collection.search(like="r11", top_k=20, where=Column("content_id") != "c5", exact=True)
    assert by_text == [row[0] for row in database.rows(names + "('r11', 20, 'things')")]
    assert by_text == [r.id for r in wanted]
    database.do("update things set content_id = null where id = 'r11'")
    assert "r11" not in [row[0] for row in database.rows(names + "('r11', 100000, 'things')")]


HYBRID = "select content_id, similarity, score, semantic_rank, keyword_rank, content from likewise.hybrid_search"


def test_hybrid_search_fuses_meaning_and_words(database: Database) -> None:
    fill(database)
    database.teach("number 2222 things", database.rows("select vector::real[] from public.query_vectors")[0][0])
    found = database.rows(HYBRID + "('number 2222 things', 300)")
    by_id = {row[0]: row for row in found}
    assert by_id["r2222"][4] == 1, "the rare word is worth more than the frequent ones"
    by_meaning = [
        row[0] for row in database.rows("select * from likewise.semantic_search('number 2222 things', 0, 1500)")
    ]
    for content_id, similarity, score, semantic, keyword, _ in found:
        parts = [0.5 / (60 + rank) for rank in (semantic, keyword) if rank is not None]
        assert score == pytest.approx(61 * sum(parts))
        assert semantic is None or by_meaning[semantic - 1] == content_id
        assert 0 <= similarity <= 1
    assert [row[2] for row in found] == sorted((row[2] for row in found), reverse=True)
    only_words = database.rows(HYBRID + "('number 2222 things', 1, semantic_weight => 0)")
    assert (only_words[0][0], only_words[0][2]) == ("r2222", 1.0)
    only_meaning = database.rows(HYBRID + "('number 2222 things', 5, semantic_weight => 1)")
    assert [row[0] for row in only_meaning] == by_meaning[:5]
    filtered = database.rows(HYBRID + "('number 2222 things', 50, filter => '{\"tenth\": 3}')")
    assert len(filtered) == 50
    assert all(row[0].endswith("3") for row in filtered)


def test_a_query_of_stop_words_or_unknown_words_is_answered_by_meaning(database: Database) -> None:
    fill(database)
    vector = database.rows("select vector::real[] from public.query_vectors")[0][0]
    for query in ("the of and", "", "'' & ! | \\ <-> :*"):
        database.teach(query, vector)
        found = database.rows(HYBRID + "(%s, 5, semantic_weight => 0.2, language => 'english')", query)
        assert [row[3:5] for row in found] == [(place, None) for place in range(1, 6)]
        assert found[0][2] == 1.0
    hostile = "it's \\' | things & 'x':* !"
    database.teach(hostile, vector)
    found = database.rows(HYBRID + "(%s, 5, language => 'english')", hostile)
    assert any(row[4] for row in found)


def test_an_index_on_the_words_is_used_and_the_work_is_bounded(database: Database) -> None:
    fill(database)
    vector = database.rows("select vector::real[] from public.query_vectors")[0][0]
    for query in ("number 2222", "things", "even 2221"):
        database.teach(query, vector)
    without = database.rows(HYBRID + "('number 2222', 10, language => 'english')")
    assert [row[0] for row in without if row[4] == 1] == ["r2222"]
    database.do("create index words on things using gin (to_tsvector('english', content))")
    database.do("analyze things")
    for query in ("number 2222", "even 2221"):
        found, scans = database.scans("words", HYBRID + "(%s, 10, language => 'english')", query)
        assert scans > 0
        assert [row[0] for row in found if row[4] == 1] == [f"r{query[-4:]}"], "rare words are worth more"
    ranked = database.rows(
        "select cardinality(likewise.keyword_ids('public', 'things', null, 'english', array['thing'], %s))", ROWS - 500
    )
    assert ranked == [(ROWS - 500,)], "a word that every record has: no more than the depth is ranked"
    assert database.scans("words", HYBRID + "('things', 10, language => 'simple')")[1] == 0, "of another language"


@pytest.mark.parametrize(
    ("call", "error", "complaint"),
    [
        ("semantic_search(null)", psycopg.errors.NullValueNotAllowed, "query is null"),
        ("semantic_search('q', 'NaN')", psycopg.errors.InvalidParameterValue, "similarity_threshold is NaN"),
        ("semantic_search('q', 0, 0)", psycopg.errors.InvalidParameterValue, "max_results is 0"),
        ("semantic_search('q', 0, null)", psycopg.errors.InvalidParameterValue, "max_results is <NULL>"),
        ("semantic_search('q', 0, 1, 'unrelated')", psycopg.errors.ObjectNotInPrerequisiteState, "'unrelated' has no model"),
        ("semantic_search('q', 0, 1, $$a'; drop table things; --$$)", psycopg.errors.UndefinedTable, "no collection 'a''; drop"),
        ("semantic_search('q', 0, 1, null, '[]')", psycopg.errors.InvalidParameterValue, "filter: must be an object"),
        ("semantic_search('q', 0, 1, null, '{\"$modality\": \"text\"}')", psycopg.errors.InvalidParameterValue, "not multimodal"),
        ("semantic_search('q', 0, 1, null, null, 'text')", psycopg.errors.InvalidParameterValue, "not multimodal"),
        ("semantic_search('q', 0, 1, null, null, $$'x$$)", psycopg.errors.InvalidParameterValue, "target_modality is '''x'"),
        ("semantic_search('unknown')", psycopg.errors.NullValueNotAllowed, "query_embedding is null"),
        ("semantic_search('short')", psycopg.errors.DataException, "dimension 2, collection 'things' has 16"),
        ("semantic_search('nought')", psycopg.errors.DataException, "only zeros"),
        ("similar_to(null, 1, 'things')", psycopg.errors.NullValueNotAllowed, "content_id is null"),
        ("similar_to($$' or true; --$$, 1, 'things')", psycopg.errors.NoDataFound, "no record ''' or true; --'"),
        ("hybrid_search(null)", psycopg.errors.NullValueNotAllowed, "query is null"),
        ("hybrid_search('q', semantic_weight => 1.1)", psycopg.errors.InvalidParameterValue, "semantic_weight is 1.1"),
        ("hybrid_search('q', semantic_weight => 'NaN')", psycopg.errors.InvalidParameterValue, "semantic_weight is NaN"),
        ("hybrid_search('q', semantic_weight => null)", psycopg.errors.InvalidParameterValue, "semantic_weight is <NULL>"),
        ("hybrid_search('q', language => null)", psycopg.errors.NullValueNotAllowed, "language is null"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(refusing: Database, call: str, error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint.replace("(", r"\(")):
        refusing.rows("select * from likewise." + call)


@pytest.fixture(scope="module")
def refusing(postgres_server: str) -> Iterator[Database]:
    with (
        empty_database(postgres_server) as url,
        likewise.connect(url) as store,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        database = Database(url, store, connection)
        store.ensure_collection(CollectionSpec("unrelated", dimension=2))
        connection.execute(STAND_IN)
        fill(database)
        database.teach("short", [1, 2])
        database.teach("nought", [0] * DIMENSION)
        yield database


def test_a_collection_without_records_gives_none(database: Database) -> None:
    database.with_model("unrelated")
    database.teach("q", [1, 0])
    for indexed in (False, True):
        if indexed:
            database.store.collection("unrelated").ensure_indexes()
        for function in ("semantic_search('q', 0)", "semantic_search('q', 0, 5, null, '{}')", "hybrid_search('q')"):
            assert database.rows("select * from likewise." + function) == []


def test_a_threshold_of_null_is_none(database: Database) -> None:
    fill(database)
    assert len(database.rows("select * from likewise.semantic_search('q', null, 100000)")) == ROWS
    assert len(database.rows(ALL[3].replace("0, 20", "null, 100000"))) == ROWS


def test_which_collection_is_searched_when_none_is_named(database: Database) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable, match="there is no collection with a model"):
        database.rows("select * from likewise.semantic_search('q')")
    fill(database)
    assert database.rows("select * from likewise.semantic_search('q')")
    database.with_model("unrelated")
    with pytest.raises(psycopg.errors.AmbiguousParameter, match=r"public\.things, public\.unrelated"):
        database.rows("select * from likewise.semantic_search('q')")
    database.do("drop table unrelated")
    assert database.rows("select * from likewise.semantic_search('q')")


def test_a_hostile_search_path_changes_nothing(database: Database) -> None:
    fill(database).ensure_indexes()
    honest = [database.rows(query) for query in ALL]
    assert all(honest)
    database.do("create schema evil")
    body = "plpgsql as $$begin raise 'hijacked'; end$$"
    for signature, result in (
        *((name, "text") for name in ("quote_literal(text)", "quote_ident(text)", "lower(text)", "concat_ws(text, text, text)")),
        *((name, "text") for name in ("jsonb_typeof(jsonb)", "jsonb_each(jsonb)", "jsonb_array_elements(jsonb)", "format(text, text, text)")),
        *((name, "text") for name in ("array_to_string(anyarray, text)", "set_config(text, text, boolean)")),
        ("vector_dims(public.vector)", "int"), ("to_tsvector(regconfig, text)", "tsvector"),
    ):  # fmt: skip
        database.do("create function evil.{} returns {} language {}", signature, result, body)
    for number, (symbol, left, right, result) in enumerate((
        ("=", "text", "text", "boolean"), ("||", "text", "text", "text"), ("->>", "jsonb", "text", "text"), ("@>", "jsonb", "jsonb", "boolean"),
        ("<=>", "public.vector", "public.vector", "float8"), ("+", "float8", "int", "float8"), ("@@", "tsvector", "tsquery", "boolean"),
        ("->", "jsonb", "text", "jsonb"), ("#>>", "jsonb", "text[]", "text"),
    )):  # fmt: skip
        called = "evil.o" + str(number)
        database.do("create function {}({}, {}) returns {} language {}", called, left, right, result, body)
        database.do("create operator evil.{} (leftarg = {}, rightarg = {}, function = {})", symbol, left, right, called)
    for schema in ("evil", "pg_temp"):
        for table in ("things", "registry", "pg_class", "pg_namespace", "pg_index", "found", "query_vectors"):
            database.do("create table {}.{} (id text, schema_name text, name text, spec jsonb)", schema, table)
        for kind in ("jsonb", "tsquery", "regconfig", "float8"):
            database.do("create domain {}.{} as pg_catalog.int4 check (value < 0)", schema, kind)
    database.do("set search_path = evil, pg_temp, public, pg_catalog")
    with pytest.raises(psycopg.Error, match="hijacked"):
        database.rows("select lower('x'::pg_catalog.text)")
    assert [database.rows(query) for query in ALL] == honest


def test_every_function_has_a_search_path_of_its_own(database: Database) -> None:
    without = database.rows(
        "select proname from pg_proc where pronamespace = 'likewise'::regnamespace"
        " and 'search_path=pg_catalog, pg_temp' <> all (coalesce(proconfig, '{}')) order by proname"
    )
    # The expressions of a watch are understood by the path of whoever watches; these two name everything of their own in full. And the stand-in.
    assert without == [("check_expression",), ("query_vector",), ("watch",)]


def test_an_ordinary_role_sees_what_row_security_lets_it_see(database: Database) -> None:
    collection = fill(database)
    database.do("create role searching nologin")
    try:
        database.do("grant usage on schema likewise to searching; grant select on likewise.registry to searching")
        database.do("set role searching")
        for query in ALL:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="things"):
                database.rows(query)
        database.do("reset role; grant select on things to searching")
        everything = [database.rows(query) for query in ALL]
        database.do("set role searching")
        assert [database.rows(query) for query in ALL] == everything
        database.do("reset role; alter table things enable row level security")
        database.do("create policy own on things using ((metadata ->> 'rare')::int in (1, 2, 100))")
        for indexed in (False, True):
            if indexed:
                collection.ensure_indexes()
            database.do("set role searching")
            visible = {row[0] for row in database.rows("select id from things")}
            assert len(visible) == 18
            found = [{row[0] for row in database.rows(query.replace("20,", "10,"))} for query in ALL]
            assert [len(ids) for ids in found] == [10, 2, 10, 10], "never short"
            assert all(ids <= visible for ids in found)
            with pytest.raises(psycopg.errors.NoDataFound):
                database.rows("select * from likewise.similar_to('r3', 10, 'things')")
            database.do("reset role")
    finally:
        database.do("reset role; drop owned by searching; drop role searching")


def test_a_read_only_transaction_will_do_and_nothing_is_left_set_in_it(database: Database) -> None:
    fill(database).ensure_indexes()
    names = sql.SQL(", ").join(
        sql.SQL("current_setting({})").format(name)
        for name in ("hnsw.ef_search", "hnsw.iterative_scan", "hnsw.max_scan_tuples", "ivfflat.probes", "search_path")
    )
    with database.connection.transaction():
        database.do("set transaction read only")
        before = database.connection.execute(sql.SQL("select {}").format(names)).fetchone()
        for query in ALL:
            database.rows(query)
        assert database.connection.execute(sql.SQL("select {}").format(names)).fetchone() == before
