-- Rows that failed: once more, or for the first time since they changed.
insert into likewise.failure as f (watch, key, attempts, error, failed_at, next_try)
select %(watch)s, given.key, given.attempts, given.error, now(), now() + given.seconds * interval '1 second'
from unnest(%(keys)s::text[], %(attempts)s::int[], %(errors)s::text[], %(seconds)s::float8[]) as given (key, attempts, error, seconds)
on conflict (watch, key) do update
    set attempts = excluded.attempts, error = excluded.error, failed_at = excluded.failed_at, next_try = excluded.next_try
