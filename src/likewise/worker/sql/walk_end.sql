delete from likewise.walk as k where k.watch = %(watch)s and k.round = %(round)s
