-- This worker goes.
delete from likewise.worker as w where w.id = %(id)s::uuid
