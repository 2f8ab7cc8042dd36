-- Internal. The trigger of collections that are copied without the log, after each statement. Appends the ids of the rows that changed to
-- likewise.change; none if no copy was seen for an hour, for then each begins anew.
--
-- It runs with the rights of who installed Likewise, for writers have none in this schema, so it must run no code of anybody else: an id
-- that is no text any longer is not looked at. Then, and if it has another name, writers do not suffer; the copy sees that the table is another.
create or replace function likewise.note_for_copies()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $function$
begin
    if (select s.last_value from likewise.copies_seen as s) < extract(epoch from clock_timestamp()) - 3600 then
        return null;
    end if;
    if tg_op = 'TRUNCATE' or not exists (
        select from pg_attribute as a
        where a.attrelid = tg_relid and a.attname = 'id' and a.atttypid = 'text'::regtype and not a.attisdropped
    ) then
        insert into likewise.change (source, id) values (tg_relid, null);
    elsif tg_op = 'INSERT' then
        insert into likewise.change (source, id) select tg_relid, t.id from new_rows as t;
    elsif tg_op = 'DELETE' then
        insert into likewise.change (source, id) select tg_relid, t.id from old_rows as t;
    else
        insert into likewise.change (source, id)
        select tg_relid, t.id from new_rows as t
        union
        select tg_relid, t.id from old_rows as t;
    end if;
    return null;
end
$function$;

comment on function likewise.note_for_copies is 'Internal: the trigger of collections that are copied without the log';
