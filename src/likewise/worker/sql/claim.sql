-- The oldest entries of a queue that no other worker has, held until the transaction ends.
select q.id, q.key, q.attempt
from likewise.queue as q
where q.watch = %(watch)s
order by q.id
limit %(most)s
for update skip locked
