-- Opens a gate: takes the lock of the next one, says so, and lets go of the one at which callers wait. The select list is evaluated in order.
select
    pg_catalog.pg_advisory_lock(1818848101, %(next)s::int),
    pg_catalog.nextval('likewise.turn') as number,
    pg_catalog.pg_advisory_unlock(1818848101, %(gate)s::int)
