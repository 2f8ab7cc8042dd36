select k.round, k.stage, k.place from likewise.walk as k where k.watch = %(watch)s
