select p as key from likewise.page_watched(%(watch)s, %(after)s, %(most)s) as p
