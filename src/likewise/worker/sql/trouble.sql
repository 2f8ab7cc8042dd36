update likewise.watch as w
set error = %(error)s, error_at = case when %(error)s::text is not null then now() end
where w.id = %(watch)s and w.error is distinct from %(error)s
