-- A comparison of all rows begins, from the first on if one was under way.
insert into likewise.walk as k (watch, round) values (%(watch)s, 2)
on conflict (watch) do update set round = k.round + 1, stage = 'rows', place = null, done = 0, started_at = now()
