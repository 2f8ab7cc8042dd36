-- Internal. The trigger of watched tables, after each statement. Appends the keys of the rows that changed to likewise.queue.
-- Its arguments are the watch, the key's column and the columns that the watch's expressions use ('' for all). It runs with the rights of who
-- installed Likewise, for writers have none in this schema, so it must run no code of anybody else: keys are written by the output functions
-- of their types, rows are compared as bytes, and the expressions themselves are left to the worker.
create or replace function likewise.note_changes()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $function$
declare
    watch constant int := tg_argv[0];
    present constant text[] := array(
        select a.attname::text from pg_attribute as a where a.attrelid = tg_relid and a.attnum > 0 and not a.attisdropped
    );
    used constant text[] := string_to_array(nullif(tg_argv[2], ''), ',');
    key_text text;
    image text;
    noted bigint;
begin
    if tg_op = 'TRUNCATE' or tg_argv[1] <> all (present) then
        -- The key's column has another name now. Writers are not to suffer from it; the worker's error says what to do.
        insert into likewise.queue (watch, key) values (watch, null);
        perform likewise.wake_workers();
        return null;
    end if;
    key_text := format('pg_catalog.format(''%%s'', t.%I)', tg_argv[1]);
    if tg_op = 'INSERT' then
        execute format('insert into likewise.queue (watch, key) select $1, %s from new_rows as t', key_text) using watch;
    elsif tg_op = 'DELETE' then
        execute format('insert into likewise.queue (watch, key) select $1, %s from old_rows as t', key_text) using watch;
    else
        -- A column that is not there by its name has been renamed: then any change counts.
        image := case when used <@ present then (select string_agg(format('t.%I', c), ', ') from unnest(used) as c) else 't.*' end;
        execute format(
            'insert into likewise.queue (watch, key) select $1, changed.key from ('
            ' select coalesce(o.key, n.key) as key, o.key is null or n.key is null or o.image operator(pg_catalog.*<>) n.image as differs'
            ' from (select %1$s as key, row(%2$s) as image from old_rows as t) as o'
            ' full join (select %1$s as key, row(%2$s) as image from new_rows as t) as n on n.key = o.key'
            ') as changed where changed.differs', key_text, image
        ) using watch;
    end if;
    get diagnostics noted = row_count;
    if noted > 0 then
        perform likewise.wake_workers();
    end if;
    return null;
end
$function$;

comment on function likewise.note_changes is 'Internal: the trigger of watched tables';

-- Has workers look into the queue when this transaction has committed, rather than when they look next anyway. A message in the log, where
-- workers read it: NOTIFY would have all who commit wait for each other.
create or replace function likewise.wake_workers()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $function$
begin
    if current_setting('wal_level') = 'logical' then
        perform pg_logical_emit_message(true, 'likewise.changed', '');
    end if;
end
$function$;

comment on function likewise.wake_workers is 'Internal: has workers look into the queue';
