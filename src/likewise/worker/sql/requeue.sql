-- Rows whose time has come to be tried again go into the queue.
with due as (
    select f.watch, f.key, f.attempts
    from likewise.failure as f
    where f.next_try <= now()
    order by f.next_try
    limit 1000
    for update skip locked
), taken as (
    update likewise.failure as f set next_try = null from due where f.watch = due.watch and f.key = due.key
)
insert into likewise.queue (watch, key, attempt) select due.watch, due.key, due.attempts from due
