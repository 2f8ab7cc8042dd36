"""``collections``, ``search``, ``sql``, ``install`` and ``doctor`` against a real PostgreSQL."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

import likewise as package
from likewise import CollectionSpec, Embedder, Record
from likewise.cli.exits import Exit

if TYPE_CHECKING:
    from cli.conftest import Likewise


@pytest.fixture
def vectors(likewise: Likewise, fresh_database_url: str) -> Likewise:
    """A collection ``things`` of four records with vectors of their own."""
    with package.connect(fresh_database_url) as store:
        collection = store.ensure_collection(CollectionSpec("things", dimension=2))
        collection.insert(
            [
                Record("a", [1.0, 0.0], {"n": 1, "title": "first"}, "east"),
                Record("b", [0.9, 0.1], {"n": 2}, "nearly east"),
                Record("c", [0.0, 1.0], {"n": 3}, "north \x1b[31m\u202eof it"),
                Record("--d", [-1.0, 0.1], {"n": 4}),
            ]
        )
    return likewise


class TestCollections:
    def test_a_life(self, likewise: Likewise) -> None:
        assert likewise("collections", "--json").json == {"collections": []}
        assert "likewise demo" in likewise("collections").err
        created = likewise("collections", "create", "things", "--dimension", 3, "--metric", "l2", "--json").json
        assert (created["name"], created["dimension"], created["metric"], created["records"]) == ("things", 3, "l2", 0)
        assert {i["method"] for i in created["indexes"]} == {"hnsw", "gin"}
        assert likewise("collections", "create", "things", "--dimension", 3, "--metric", "l2").code == Exit.OK
        again = likewise("collections", "create", "things", "--dimension", 4, "--json")
        assert (again.code, again.error["type"]) == (Exit.INVALID, "SchemaMismatch")
        assert likewise("collections", "describe", "things", "--json").json == created
        assert "things" in likewise("collections").out
        stats = likewise("collections", "stats", "--json").json
        assert stats["collections"][0]["recall"] is None
        assert likewise("collections", "drop", "things").code == Exit.INVALID
        assert likewise("collections", "drop", "things", "--yes", "--json").json == {"dropped": "things"}
        assert likewise("collections", "drop", "things", "--yes", "--json").error["type"] == "CollectionNotFound"
        assert likewise("collections", "drop", "things", "--yes", "--missing-ok").code == Exit.OK
        assert likewise("collections", "describe", "things").code == Exit.NOT_FOUND

    @pytest.mark.parametrize("name", ["", "1st", "a b", "a;drop table x", "a" * 64, "ü", "a\x00b", '"'])
    def test_names_that_cannot_be(self, likewise: Likewise, name: str) -> None:
        done = likewise("collections", "create", name, "--dimension", 3, "--json")
        assert (done.code, done.error["type"]) == (Exit.INVALID, "InvalidArgument")

    def test_a_collection_without_a_vector(self, likewise: Likewise) -> None:
        assert likewise("collections", "create", "things").code == Exit.INVALID

    def test_an_unknown_model(self, likewise: Likewise) -> None:
        done = likewise("collections", "create", "things", "--embedder", "no-such-model", "--json")
        assert done.code != Exit.OK
        assert "no-such-model" in done.error["message"]
        assert likewise("collections", "--json").json == {"collections": []}

    def test_stats_measure_recall(self, vectors: Likewise) -> None:
        found = vectors("collections", "stats", "things", "-k", 2, "--sample", 4, "--json").json
        assert found["k"] == 2
        assert found["collections"][0]["recall"] == {"vector": 1.0}


class TestSearch:
    def test_json(self, vectors: Likewise) -> None:
        found = vectors("search", "--like", "a", "-k", 2, "--json").json
        assert found["collection"] == "things"
        assert found["query"] == {"like": "a"}
        assert [r["id"] for r in found["results"]] == ["b", "c"]
        assert (found["count"], found["complete"]) == (2, True)
        assert set(found["results"][0]) == {
            "rank", "id", "score", "similarity", "distance", "modality", "content_id", "content", "metadata"
        }  # fmt: skip

    def test_a_table_without_control_characters(self, vectors: Likewise) -> None:
        done = vectors("search", "--like", "a", "-c", "things")
        assert "\x1b" not in done.out
        assert "\u202e" not in done.out
        lines = done.out.splitlines()
        assert lines[0].split() == ["#", "similarity", "id", "what"]
        assert lines[2].split()[:3] == ["2", "0.000", "c"]
        assert "north \\x1b[31m\\u202eof it" in lines[2]

    def test_a_filter(self, vectors: Likewise) -> None:
        found = vectors("search", "--like", "a", "--where", '{"n": {"$gte": 3}}', "--json").json
        assert [r["id"] for r in found["results"]] == ["c", "--d"]

    def test_nothing_found_is_no_failure(self, vectors: Likewise) -> None:
        done = vectors("search", "--like", "a", "--where", '{"n": 99}')
        assert (done.code, done.out, done.err) == (Exit.OK, "", "nothing found\n")

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["words", "--like", "a"],
            ["words"],
            ["--like", "a", "-k", "0"],
            ["--like", "a", "-k", "-1"],
            ["--like", "a", "-k", "99999999999999999999"],
            ["--like", "a", "--where", "{"],
            ["--like", "a", "--where", "[]"],
            ["--like", "a", "--where", "null"],
            ["--like", "a", "--where", '{"n": {"$near": 1}}'],
            ["--like", "a", "--where", '{"$drop": 1}'],
            ["--like", "a", "--where", "[" * 100_000],
            ["--like", "a", "--where", '{"n": NaN}'],
            ["--like", "a", "--where", '{"n": "\\u0000"}'],
            ["--like", "a", "--ef-search", "0"],
            ["--like", "a", "--min-score", "nan"],
            ["--like", "a", "--modality", "image"],
            ["--like", "a\x00"],
        ],
    )
    def test_what_is_refused(self, vectors: Likewise, arguments: list[str]) -> None:
        done = vectors("search", "--json", *arguments)
        assert done.code == Exit.INVALID, done.out
        assert done.error["message"]

    def test_what_is_not_there(self, vectors: Likewise, tmp_path: Path) -> None:
        assert vectors("search", "--like", "nobody", "--json").error["type"] == "RecordNotFound"
        assert vectors("search", "--like", "a", "-c", "nothing").code == Exit.NOT_FOUND
        assert vectors("search", "--image", tmp_path / "no.png").code == Exit.NOT_FOUND
        assert vectors("search", "--image", tmp_path).code == Exit.NOT_FOUND

    def test_an_id_that_looks_like_an_option(self, vectors: Likewise) -> None:
        assert vectors("search", "--like=--d", "-k", 1, "--json").json["results"][0]["id"] == "c"

    def test_which_collection(self, vectors: Likewise) -> None:
        vectors("collections", "create", "others", "--dimension", 2)
        done = vectors("search", "--like", "a", "--json")
        assert done.code == Exit.INVALID
        assert "others, things" in done.error["message"]

    def test_no_collection_at_all(self, likewise: Likewise) -> None:
        assert likewise("search", "words").code == Exit.NOT_FOUND


class TestSql:
    def test_a_table(self, vectors: Likewise) -> None:
        done = vectors("sql", "select id, metadata ->> 'n' as n, content from things order by n")
        assert done.code == Exit.OK
        assert done.out.splitlines()[:2] == ["id   n  content", "a    1  east"]
        assert "\x1b" not in done.out
        assert done.err == "(4 rows)\n"

    def test_json(self, likewise: Likewise) -> None:
        statement = (
            "select 1 as a, 2.5::numeric as a, null as n, '{\"x\": [1]}'::jsonb as j, '[1,2]'::vector as v; select true"
        )
        with_vector = "create extension if not exists vector"
        likewise("sql", with_vector)
        results = likewise("sql", statement, "--json").json["results"]
        assert results[0] == {
            "status": "SELECT 1",
            "columns": ["a", "a", "n", "j", "v"],
            "rows": [[1, 2.5, None, {"x": [1]}, results[0]["rows"][0][4]]],
        }
        assert results[1]["rows"] == [[True]]

    def test_a_percent_sign_stands_for_itself(self, likewise: Likewise) -> None:
        assert likewise("sql", "select 7 % 4 as n, '%s' like '%%s' as t", "--json").json["results"][0]["rows"] == [
            [3, True]
        ]

    def test_standard_input(self, likewise: Likewise, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO("create table x (n int);\ninsert into x values (1), (2);"))
        assert likewise("sql").out == "CREATE TABLE\nINSERT 0 2\n"
        monkeypatch.setattr(sys, "stdin", io.StringIO("  \n"))
        assert likewise("sql", "--json").error["type"] == "InvalidArgument"

    def test_all_or_nothing(self, likewise: Likewise) -> None:
        done = likewise("sql", "create table x (n int); select 1 / 0", "--json")
        assert (done.code, done.error["type"]) == (Exit.FAILURE, "BackendError")
        assert "division by zero" in done.error["message"]
        assert likewise("sql", "select * from x").code == Exit.FAILURE

    def test_what_needs_no_transaction(self, likewise: Likewise) -> None:
        assert "psql" in likewise("sql", "vacuum").err

    def test_not_without_sql(self, run: Likewise) -> None:
        assert run("sql", "select 1", "--database", "memory://", "--json").error["type"] == "UnsupportedFeature"

    @pytest.mark.parametrize("pair", ["q", "=x", "a b=x", ""])
    def test_embed_that_is_refused(self, likewise: Likewise, pair: str) -> None:
        assert likewise("sql", "select 1", f"--embed={pair}").code == Exit.INVALID

    def test_embed(self, likewise: Likewise) -> None:
        likewise("sql", "create extension if not exists vector")
        statement = "select vector_dims(%(q)s::vector) > 1, (%(q)s::vector <=> %(p)s::vector) > 0.01"
        done = likewise("sql", statement, "--embed", "q=a red fruit", "--embed", "p=a ship = a boat", "--json")
        assert done.json["results"][0]["rows"] == [[True, True]]


class TestInstall:
    def test_functions_are_found_without_their_schema(self, likewise: Likewise, fresh_database_url: str) -> None:
        done = likewise("install", "--json").json
        assert "find_similar_multimodal" in done["functions"]
        assert done["search_path"].endswith("likewise")
        assert done["problem"] is None
        assert likewise("install", "--json").json == done
        with psycopg.connect(fresh_database_url) as connection:
            found = connection.execute("select to_regproc('find_similar_multimodal')").fetchone()
        assert found is not None
        assert found[0] is not None

    def test_the_path_can_be_left_alone(self, likewise: Likewise, fresh_database_url: str) -> None:
        assert likewise("install", "--no-search-path", "--json").json["search_path"] is None
        with psycopg.connect(fresh_database_url) as connection:
            settings = connection.execute(
                "select 1 from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase where d.datname = current_database()"
            ).fetchall()
        assert settings == []

    def test_not_without_sql(self, run: Likewise) -> None:
        assert run("install", "--database", "memory://").code == Exit.INVALID


class TestModels:
    def test_list(self, run: Likewise) -> None:
        models = {m["name"]: m for m in run("models", "--json").json["models"]}
        assert models["mini"]["dimension"] == 384
        assert models["mini"]["modalities"] == ["text", "image"]
        assert "after the colon" in models["fastembed:NAME"]["description"]
        # Other tests register families of their own, some of them broken.
        assert not [name for name in ("mini", "clip", "fastembed:NAME", "bge-m3") if "problem" in models[name]]
        shown = run("models", "list").out
        assert "mini" in shown
        assert "128 tokens" in shown

    def test_one_that_cannot_be_made_does_not_hide_the_others(self, run: Likewise) -> None:
        from likewise.embedding import register_embedder
        from likewise.embedding.registry import _factories

        def broken(_variant: str) -> Embedder:
            raise ValueError("say which")

        register_embedder("broken", broken)
        try:
            models = {m["name"]: m for m in run("models", "--json").json["models"]}
            assert "say which" in models["broken"]["problem"]
            assert "mini" in models
            assert "say which" in run("models").out
        finally:
            del _factories["broken"]

    def test_show(self, run: Likewise) -> None:
        card = run("models", "show", "mini:conse", "--json").json
        assert (card["name"], card["normalised"], card["max_tokens"]) == ("mini:conse", True, 128)
        assert "loaded_seconds" not in card
        loaded = run("models", "show", "hashing:32", "--load", "--json").json
        assert loaded["dimension"] == 32
        assert loaded["loaded_seconds"] >= 0
        assert "Flickr8k" in run("models", "show", "mini").out
        assert run("models", "show", "no-such-model").code == Exit.FAILURE

    def test_bench(self, run: Likewise) -> None:
        done = run("models", "bench", "mini", "--texts", "8", "--images", "2", "--rounds", "1", "--json").json
        assert done["texts_per_second"] > 0
        assert 0 < done["seconds_for_one_text"] < 10
        assert done["images_per_second"] > 0
        assert "texts per second" in run("models", "bench", "hashing", "--texts", "2", "--rounds", "1").out


class TestDoctor:
    def test_in_order(self, vectors: Likewise) -> None:
        done = vectors("doctor", "--json")
        assert done.code == Exit.OK, done.out
        found = {f["check"]: f for f in done.json["findings"]}
        assert done.json["ok"] is True
        assert {"python", "model mini", "database", "pgvector", "setting shared_buffers", "disk"} <= set(found)
        assert found["collection things"]["detail"] == "4 records, no index"
        assert "everything is in order" in vectors("doctor").out or done.json["warnings"]

    def test_an_index_that_is_not_valid(self, vectors: Likewise, fresh_database_url: str) -> None:
        vectors("sql", "create index idx_things_vector_hnsw on things using hnsw (vector vector_cosine_ops)")
        with psycopg.connect(fresh_database_url, autocommit=True) as connection:
            connection.execute(
                "update pg_index set indisvalid = false where indexrelid = 'idx_things_vector_hnsw'::regclass"
            )
        done = vectors("doctor", "--json")
        assert done.code == Exit.FAILURE
        assert [f["check"] for f in done.json["findings"] if f["status"] == "error"] == ["collection things"]
        assert "INVALID" in vectors("collections").out

    def test_a_collection_whose_model_is_another_one(self, vectors: Likewise, fresh_database_url: str) -> None:
        with package.connect(fresh_database_url) as store:
            store.ensure_collection(CollectionSpec("words", embedder="hashing"))
            with store.transaction() as connection:
                connection.execute(
                    "update likewise.registry set spec = jsonb_set(spec, '{model,revision}', '\"0\"') where name = 'words'"
                )
        done = vectors("doctor", "--json")
        assert done.code == Exit.OK
        (warning,) = [f for f in done.json["findings"] if f["check"] == "collection words" and f["status"] == "warning"]
        assert "'hashing' in revision '0'" in warning["detail"]

    def test_no_database(self, run: Likewise) -> None:
        done = run("doctor", "--json", "--database", "postgresql://me:secret@127.0.0.1:1/x?connect_timeout=2")
        assert done.code == Exit.FAILURE
        assert "secret" not in done.out
        wrong = [f for f in json.loads(done.out)["findings"] if f["status"] == "error"]
        assert [f["check"] for f in wrong] == ["database"]

    def test_an_unknown_model(self, run: Likewise) -> None:
        done = run("doctor", "--json", "--database", "memory://", "--model", "no-such-model")
        assert done.code == Exit.FAILURE
