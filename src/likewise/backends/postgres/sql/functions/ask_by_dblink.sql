-- The vector of a text or picture, asked of a worker over the network: for servers without logical decoding, for standbys, and for
-- REPEATABLE READ and read-only transactions.
-- Internal: likewise.embed calls it. The worker is the one that the foreign server likewise_worker names, reached by contrib's dblink with
-- the caller's user mapping. A session keeps one connection, called likewise_worker. Nothing is read from the database or written to it.
-- The answer is polled for rather than waited for in dblink, because before version 17 that could not be cancelled, and because a worker
-- that hangs must not hold a query for longer than it allows.
create or replace function likewise.ask_by_dblink(request jsonb, seconds float8)
returns real[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
-- dblink says in a notice what it also says by its result.
set client_min_messages = warning
as $function$
declare
    link constant text := 'likewise_worker';
    began constant timestamptz := clock_timestamp();
    dblink text;
    worker record;
    kept boolean;
    sent int;
    busy int;
    answer real[];
    code text;
    problem text;
    reason text;
    address text;
begin
    if request is null or seconds is null then
        raise exception '% is null', case when request is null then 'request' else 'seconds' end using errcode = 'null_value_not_allowed';
    elsif not (seconds > 0 and seconds < 'infinity') then
        raise exception 'seconds is %; it must be more than 0, and finite', seconds using errcode = 'invalid_parameter_value';
    end if;
    select n.nspname into dblink
    from pg_extension as e join pg_namespace as n on n.oid = e.extnamespace
    where e.extname = 'dblink';
    if dblink is null then
        raise exception 'the extension dblink is not installed in this database, and the worker is asked by it'
            using errcode = 'undefined_object', hint = 'likewise install --transport dblink --worker HOST:PORT sets it up';
    end if;
    select has_server_privilege(s.oid, 'usage') as usable, s.srvoptions as options into worker
    from pg_foreign_server as s where s.srvname = link;
    if not found then
        raise exception 'there is no foreign server "%", which says where the worker is', link
            using errcode = 'undefined_object', hint = 'likewise install --transport dblink --worker HOST:PORT sets it up';
    elsif not worker.usable then
        raise exception 'permission denied for foreign server "%"', link
            using errcode = 'insufficient_privilege', hint = format('grant usage on foreign server %I to %I', link, current_user);
    end if;

    -- Twice at most: the worker that the kept connection leads to may have ended since, and another one be there.
    loop
        begin
            execute format('select $1 = any (%I.dblink_get_connections())', dblink) into kept using link;
            if kept is not true then  -- null where there is no connection at all
                kept := false;
                execute format('select %I.dblink_connect($1, $1)', dblink) using link;
            end if;
            execute format('select %I.dblink_send_query($1, $2)', dblink) into sent using link, 'EMBED ' ||
                (request || jsonb_build_object('within', greatest(seconds - extract(epoch from clock_timestamp() - began), 0.001)))::text;
            if sent <> 1 then
                raise exception 'the connection takes no request' using errcode = 'connection_failure';
            end if;
            loop
                execute format('select %I.dblink_is_busy($1)', dblink) into busy using link;
                exit when busy = 0;
                -- A little more, so that the worker can say itself that the time is up.
                if extract(epoch from clock_timestamp() - began) > seconds + 0.25 then
                    raise exception 'no answer from the worker within % s', seconds using errcode = 'LW002',
                        hint = 'It hangs, or the network does: look at its log.';
                end if;
                -- What the worker remembers comes within the first millisecond. A model takes several, and looking all the time would
                -- take a processor from it.
                if extract(epoch from clock_timestamp() - began) > 0.001 then
                    perform pg_sleep(0.001);
                end if;
            end loop;
            execute format('select a.vector from %I.dblink_get_result($1) as a (vector real[])', dblink) into answer using link;
            -- Once more, to no result: only then does the connection take the next request.
            execute format('select a.vector from %I.dblink_get_result($1) as a (vector real[])', dblink) using link;
            return answer;
        exception when others or query_canceled then
            get stacked diagnostics code = returned_sqlstate, problem = message_text, reason = pg_exception_detail;
            -- Whatever happened, the next request begins with a connection of which everything is known.
            execute format('select case when $1 = any (%1$I.dblink_get_connections()) then %1$I.dblink_disconnect($1) end', dblink) using link;
            if kept and (code like '08%' or code = '57P01') then
                continue;
            elsif code not like '08%' then
                raise;
            end if;
            select concat_ws(':',
                coalesce(max(o.option_value) filter (where o.option_name = 'host'), max(o.option_value) filter (where o.option_name = 'hostaddr')),
                coalesce(max(o.option_value) filter (where o.option_name = 'port'), '5432')) into address
            from pg_options_to_table(worker.options) as o;
            reason := coalesce(nullif(reason, ''), problem);
            if reason like '%FATAL:%' then
                raise exception 'the worker at % refuses the connection', address using errcode = code, detail = reason,
                    hint = 'The user mapping needs the user likewise and the worker''s password; its log says more.';
            end if;
            raise exception 'no worker answers at %', address using errcode = 'LW001', detail = reason,
                hint = format('start one: likewise worker --listen %s', address);
        end;
    end loop;
end
$function$;

comment on function likewise.ask_by_dblink is 'Internal: the vector of a text or picture by a worker that is reached through dblink';
