"""The shop of ``examples/shop``, made and asked by psql, with a worker beside it."""

from __future__ import annotations

import subprocess
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

import likewise_demo_data
from likewise.backends.postgres.embedded.binaries import find_binaries
from worker.conftest import ROOT, process, wait_until

DATA = Path(likewise_demo_data.DIRECTORY)
SHOP = ROOT / "examples" / "shop"


def psql(url: str, file: str, *options: str) -> str:
    program = find_binaries(None).program("psql")
    command = [str(program), "-X", "--quiet", "--no-align", "--tuples-only", *options, "-f", str(SHOP / file), url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    printed: str = done.stdout
    return printed


@pytest.mark.slow
def test_the_shop(url: str) -> None:
    psql(url, "shop.sql", "-v", f"data={DATA}")
    with process(url, "--image-root", str(DATA / "images")), psycopg.connect(url, autocommit=True) as connection:

        def settled() -> bool:
            state = (
                "select w.state, p.depth, p.failed from likewise.watches as w join likewise.pending as p using (name)"
            )
            return connection.execute(state).fetchone() == ("ready", 0, 0)

        wait_until(settled, 90)
        assert connection.execute("select count(*) from products_embeddings").fetchone() == (514,)

        birds, sweets, categories, alike = split(psql(url, "search.sql"))
        assert len(birds) == 5
        assert all(Decimal(price) < 30 for _, price, _ in birds)
        assert [float(similarity) for *_, similarity in birds] == sorted((float(s) for *_, s in birds), reverse=True)
        of_birds = (
            "select name from products p join categories c on c.id = p.category_id where c.path = 'animals/birds'"
        )
        known = {row[0] for row in connection.execute(of_birds).fetchall()}
        assert len({name for name, *_ in birds} & known) >= 4
        assert sweets
        assert categories[0][0].startswith("food/")
        assert len(alike) == 3

        # What is sold out is gone from the view with the same statement; what is new is found when it is embedded.
        (name, brand, _), *_ = sweets
        found = "select count(*) from smart_product_search where name = %s and brand = %s"
        connection.execute("set shop.words = 'something sweet to eat'")
        assert connection.execute(found, [name, brand]).fetchone() != (0,)
        connection.execute(
            "update products p set stock = 0 from brands b where b.id = p.brand_id and p.name = %s and b.name = %s",
            [name, brand],
        )
        assert connection.execute(found, [name, brand]).fetchone() == (0,)
        connection.execute(
            "insert into products (id, name, category_id, brand_id, price, stock) select 'new', 'Apron for the kitchen', min(c.id), 1, 12, 3"
            " from categories c"
        )
        wait_until(settled, 30)
        best = "select p.id from products_search('kitchen apron', 0.3) s join products p using (id) order by s.similarity desc limit 1"
        assert connection.execute(best).fetchone() == ("new",)

        # With a fixed snapshot words that somebody has searched for do, and others are refused with a reason.
        with connection.transaction(force_rollback=True):
            connection.execute("set transaction isolation level repeatable read")
            assert connection.execute(best).fetchone() == ("new",)
            with pytest.raises(psycopg.Error, match="REPEATABLE READ") as refused:
                connection.execute("select * from products_search('words of nobody')")
        assert refused.value.sqlstate == "LW003"

        # A category goes with its products, and they with their vectors.
        connection.execute("delete from categories where path = 'animals/birds'")
        wait_until(settled, 30)
        orphans = "select count(*) from products_embeddings e where not exists (select from products p where p.id = e.content_id)"
        assert connection.execute(orphans).fetchone() == (0,)


def split(output: str) -> list[list[list[str]]]:
    """The rows of each statement, which its heading precedes."""
    results: list[list[list[str]]] = []
    for line in output.splitlines():
        if line.endswith(":"):
            results.append([])
        elif line:
            results[-1].append(line.split("|"))
    return results
