-- This worker is there, for as long as its connection is: callers look whether anybody holds this lock.
select pg_catalog.pg_advisory_lock_shared(1818848101, -1)
