-- The first gate of a worker that has become the one that answers: a new number, so that callers see that somebody is there.
with gate as materialized (select pg_catalog.nextval('likewise.turn') as number)
select g.number, pg_catalog.pg_advisory_lock(1818848101, g.number::int) from gate as g
