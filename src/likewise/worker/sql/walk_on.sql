-- Nothing is changed if the comparison was begun again meanwhile.
update likewise.walk as k
set stage = %(stage)s, place = %(place)s, done = k.done + %(done)s
where k.watch = %(watch)s and k.round = %(round)s
