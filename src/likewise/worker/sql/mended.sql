delete from likewise.failure as f where f.watch = %(watch)s and f.key = any (%(keys)s::text[])
