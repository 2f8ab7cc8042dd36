delete from likewise.queue as q where q.watch = %(watch)s and q.id = any (%(ids)s::bigint[])
