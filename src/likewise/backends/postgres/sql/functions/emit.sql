-- Writes a message into the write-ahead log, from where it reaches a worker at once. Before PostgreSQL 17 nothing can be asked to flush it;
-- the worker sees to that.
do $$
begin
    execute format(
        $create$
        create or replace function likewise.emit(prefix text, content text)
        returns void
        language sql
        volatile
        set search_path = pg_catalog, pg_temp
        as 'select pg_logical_emit_message(false, prefix, content%s)'
        $create$,
        case when current_setting('server_version_num')::int >= 170000 then ', true' end
    );
end
$$;

comment on function likewise.emit is 'Internal: A message to the workers';
