-- Become the worker that answers, if nobody is: one at a time holds this lock.
select pg_catalog.pg_try_advisory_lock(1818848101, 0) as leads
