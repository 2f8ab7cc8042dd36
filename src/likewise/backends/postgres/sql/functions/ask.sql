-- Has something embedded by a worker, and waits for the vector: what embed() does with what is not remembered.
--
-- The request goes out as a message in the write-ahead log, which leaves at once, before any commit, and can be written in any
-- transaction of a primary. The worker reads the log by a replication slot, stores the vector in likewise.query_cache, and opens the gate:
-- it holds the advisory lock whose number is likewise.turn's, takes the next one, advances the sequence, and lets go of the first, so
-- that all who wait wake together. A worker that dies lets go without advancing, and its callers know at once.
create or replace function likewise.ask(kind text, input text, digest bytea, model text, identity jsonb)
returns real[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $function$
declare
    gate constant int := 1818848101;
    within constant float8 := likewise.embed_seconds();
    request constant uuid := gen_random_uuid();
    asked timestamptz := clock_timestamp();
    ends constant timestamptz := asked + make_interval(secs => within);
    -- When to send the request once more, in case it was lost between two workers; what is large fills the log, so that later.
    again float8 := case when octet_length(input) < 100000 then 1 else 5 end;
    -- Since when nobody has answered, if nobody does; and whether the message may have been lost to whoever answers now.
    alone timestamptz;
    pause float8;
    waited int;
    turn bigint;
    answer record;
    message jsonb := jsonb_build_object('request', request, 'kind', kind, 'input', input, 'model', model, 'identity', identity, 'within', within);
begin
    if (select s.value from likewise.setting as s where s.name = 'transport') = 'dblink' then
        return likewise.ask_by_dblink(
            message - 'request' || jsonb_build_object('identity', jsonb_path_query_array(identity, '$[0 to 3]')), within
        );
    end if;
    if pg_is_in_recovery() then
        raise exception 'a standby cannot ask a worker for a vector that is not remembered' using errcode = 'LW004',
            hint = 'embed on the primary, or have requests go over dblink: likewise install --transport dblink';
    end if;
    if current_setting('wal_level') <> 'logical' then
        raise exception 'embed() reaches its worker through logical decoding, and wal_level is %', current_setting('wal_level')
            using errcode = 'LW004',
            hint = 'set wal_level = logical and restart the server, or have requests go over dblink: likewise install --transport dblink';
    end if;
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception 'in a % transaction a vector that is not remembered yet cannot be seen when it comes',
            upper(current_setting('transaction_isolation')) using errcode = 'LW003',
            hint = 'call embed() with the same text in a READ COMMITTED transaction first; or have requests go over dblink: '
                'likewise install --transport dblink';
    end if;
    perform likewise.emit('likewise.embed', message::text);
    loop
        -- First the number of the gate, then, in a later snapshot, whether the answer is there: one that comes in between opens this gate.
        select t.last_value into turn from likewise.turn as t;
        if identity is null then
            identity := likewise.model_identity(model) || case kind when 'image' then '["image"]'::jsonb else '[]' end;
        end if;
        select r.vector, r.refusal into answer from likewise.remembered(identity, digest, request) as r;
        if answer.vector is not null then
            return answer.vector;
        elsif answer.refusal ->> 'hint' is not null then
            raise exception '%', answer.refusal ->> 'message' using errcode = answer.refusal ->> 'sqlstate', hint = answer.refusal ->> 'hint';
        elsif answer.refusal is not null then
            -- Not with an empty hint, which is printed, nor with one that is null, which plpgsql refuses.
            raise exception '%', answer.refusal ->> 'message' using errcode = answer.refusal ->> 'sqlstate';
        end if;
        waited := ceil(1000 * extract(epoch from ends - clock_timestamp()));
        if waited <= 0 then
            raise exception 'no worker answered embed() within % s', within using errcode = 'LW002',
                hint = 'set likewise.embed_timeout to more, or see likewise.worker for what the workers are doing';
        end if;
        begin
            -- A while shorter than deadlock_timeout, so that waiting is not taken for a deadlock, nor logged as one.
            perform set_config('lock_timeout', least(waited, 900)::text, true);
            perform pg_advisory_xact_lock_shared(gate, turn::int);
            -- The way to let go of a transaction's lock before the transaction ends is to roll back to before it was taken.
            raise exception 'open' using errcode = 'LW000';
        exception
            when sqlstate 'LW000' then
                if turn <> (select t.last_value from likewise.turn as t) then
                    if alone is not null then
                        -- Somebody answers again, who may have begun to read after our message.
                        perform likewise.emit('likewise.embed', message::text);
                        alone := null;
                    end if;
                else
                    pause := case when alone is null then 0.01 else least(0.2, pause * 1.5) end;
                    alone := coalesce(alone, clock_timestamp());
                    -- Others may be about to take over; and a worker that is started again is away for a moment.
                    if clock_timestamp() - alone > (case when likewise.worker_lock_held(-1) then interval '5 s' else interval '1 s' end) then
                        raise exception 'no worker is there to embed %', case kind when 'image' then 'pictures' else 'texts' end
                            using errcode = 'LW001', hint = 'start one: likewise worker --database URL';
                    end if;
                    perform pg_sleep(pause);
                end if;
            when lock_not_available then
                null;
        end;
        if clock_timestamp() > asked + make_interval(secs => again) then
            -- Whoever has the message knows it again by its number.
            perform likewise.emit('likewise.embed', message::text);
            again := again * 3;
        end if;
    end loop;
end
$function$;

comment on function likewise.ask is 'Internal: Has a worker embed something';
