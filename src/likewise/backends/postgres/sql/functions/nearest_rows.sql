-- Internal. For each condition the nearest rows of a table among those that it holds for (null: all), as many as are wanted if that many are
-- there.
-- By the index where that is cheaper than comparing every row that matches, and exactly where the index gives out. The costs, and how
-- far each way is taken before the other one is, are those of backends/postgres/_planner.py; but nothing is remembered between searches, so
-- the bounds are closer.
create or replace function likewise.nearest_rows(
    schema_name text, name text, spec jsonb, query_embedding @extension@.vector, conditions text[], wanted int
)
returns likewise.found[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
-- The function's set clauses are undone when the function returns, so nothing leaks into the caller's transaction.
@settings@
as $function$
declare
    compare_cost constant float8 = 1.2;
    look_cost constant float8 = 0.4;
    visit_cost constant float8 = 7.0;
    begin_cost constant float8 = 1000.0;
    way record;
    estimate record;
    comparing float8;
    expected float8;
    -- How many rows to compare at most, and how many to visit along the index; 0: no bound.
    most bigint;
    visits bigint;
    candidates bigint;
    compared bigint;
    exact boolean;
    condition text;
    found likewise.found[];
    results likewise.found[] = '{}';
begin
    select * into way from likewise.vector_way(schema_name, name, spec);
    foreach condition in array conditions loop
        exact := way.method is null;
        most := 0;
        visits := 0;
        if not exact and condition is not null and way.rows * (compare_cost + look_cost) <= begin_cost then
            exact := true;
        elsif not exact and condition is not null then
            select * into estimate from likewise.estimated_rows(schema_name, name, condition, way.rows);
            comparing := compare_cost * estimate.matching + look_cost * estimate.looked_at;
            expected := wanted * greatest(way.rows, estimate.matching, 1) / greatest(estimate.matching, 0.5);
            exact := comparing <= begin_cost + visit_cost * expected;
            if exact then
                -- Twice as many as those for which both ways cost the same.
                most := ceil(2 * greatest(
                    begin_cost / compare_cost + sqrt(visit_cost * wanted * greatest(way.rows, 1) / compare_cost), estimate.matching));
            end if;
            visits := ceil(greatest(4 * expected, comparing / visit_cost, 256, wanted));
        end if;

        if exact then
            execute likewise.search_statement(schema_name, name, spec, condition, most => most) into found, compared using query_embedding, wanted;
            if most = 0 or compared < most then
                results := results || found;
                continue;
            end if;
            -- Many more rows match than were expected: along the index after all.
            visits := ceil(greatest(4.0 * wanted * way.rows / compared, compare_cost * compared / visit_cost, 256, wanted));
        end if;

        candidates := case way.quantization when 'none' then wanted when 'half' then wanted::bigint + 10 else greatest(200, 10 * wanted::bigint) end;
        if way.method = 'hnsw' then
            perform set_config('hnsw.ef_search', least(1000, greatest(
                100, wanted, case when way.quantization = 'binary' then candidates end,
                64 * (way.rows / 50000) ^ 0.25 * case when condition is null then 1 else 1.55 * greatest(1, way.rows / 50000) ^ 0.18 end
            ))::int::text, true);
            -- pgvector has it from 0.8 on.
            if current_setting('hnsw.max_scan_tuples', true) is not null then
                perform set_config('hnsw.max_scan_tuples', least(2147483647, greatest(20000, 20 * wanted::bigint, 4 * visits))::text, true);
            end if;
        else
            perform set_config('ivfflat.probes', greatest(1, least(way.lists, greatest(10, round(sqrt(way.lists)))))::int::text, true);
            visits := 0;
        end if;
        execute likewise.search_statement(schema_name, name, spec, condition, way.quantization, candidates, visits)
            into found, compared using query_embedding, wanted;
        if coalesce(cardinality(found), 0) < wanted then
            execute likewise.search_statement(schema_name, name, spec, condition) into found, compared using query_embedding, wanted;
        end if;
        results := results || found;
    end loop;
    return results;
end
$function$;

-- How a table's own vector can be searched: by which kind of index (method null: by none), and about how many rows there are.
create or replace function likewise.vector_way(
    schema_name text, name text, spec jsonb, out method text, out quantization text, out lists int, out rows float8
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $function$
declare
    relation pg_catalog.pg_class;
begin
    select c.* into relation
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = schema_name and c.relname = vector_way.name;
    -- As the planner reckons: the density at the last count, times the pages there are now.
    rows := case when relation.reltuples > 0 and relation.relpages > 0
        then relation.reltuples::float8 / relation.relpages * pg_relation_size(relation.oid) / current_setting('block_size')::int
        else pg_relation_size(relation.oid) / 2000.0
    end;
    -- HNSW before IVFFlat, more of the vector before less. An index over some rows only is left to the planner.
    select am.amname, q.quantization,
        coalesce((select substr(o.option, 7)::int from unnest(ic.reloptions) as o(option) where o.option like 'lists=%'), 100)
    into method, quantization, lists
    from pg_catalog.pg_index as i
    join pg_catalog.pg_class as ic on ic.oid = i.indexrelid
    join pg_catalog.pg_am as am on am.oid = ic.relam and am.amname in ('hnsw', 'ivfflat')
    join pg_catalog.pg_opclass as oc on oc.oid = i.indclass[0]
    left join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0] and i.indkey[0] > 0
    cross join lateral (
        select case when oc.opcname = 'bit_hamming_ops' then 'binary' when i.indkey[0] = 0 then 'half' else 'none' end
    ) as q(quantization)
    where i.indrelid = relation.oid and i.indisvalid and i.indpred is null
        and (a.attname = 'vector' or a.attname is null and strpos(pg_get_expr(i.indexprs, i.indrelid), '(vector)') > 0)
        and (q.quantization = 'binary'
            or oc.opcname like '%' || case spec ->> 'metric' when 'cosine' then 'cosine' when 'l2' then 'l2' else 'ip' end || '%ops')
    order by am.amname <> 'hnsw', q.quantization = 'none' desc, q.quantization = 'half' desc, ic.relname
    limit 1;
end
$function$;

-- What the planner thinks of a condition: how many rows match, and how many have to be looked at to find those, of so many rows. Volatile, for in a stable
-- function the server allows no explain.
create or replace function likewise.estimated_rows(
    schema_name text, name text, condition text, rows float8, out matching float8, out looked_at float8
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $function$
declare
    node json;
begin
    execute format('explain (format json) select from %I.%I as t where %s', schema_name, name, condition) into node;
    node := node #> '{0,Plan}';
    matching := (node ->> 'Plan Rows')::float8;
    while node ->> 'Node Type' not in ('Seq Scan', 'Bitmap Heap Scan', 'Index Scan', 'Index Only Scan') and node #> '{Plans,0}' is not null loop
        node := node #> '{Plans,0}';
    end loop;
    looked_at := case when node ->> 'Node Type' = 'Seq Scan' then greatest(matching, rows) else matching end;
end
$function$;

-- The statement of a search, with the vector as $1 and how many rows are wanted as $2; it gives those and, where most is not 0, how many were
-- compared.
-- Without a quantization it compares every matching row, but for most at most so many. + 0 keeps the order off every vector index. Only ids
-- and distances are sorted; the rows themselves are fetched for the nearest.
-- With one it goes along that index until there are enough candidates, and ranks those by their true distance. With visits, at most so many
-- rows are looked at: the bound is a limit below the condition, for beyond pgvector's own bound a scan hands out what it had put aside,
-- near or not.
create or replace function likewise.search_statement(
    schema_name text, name text, spec jsonb, condition text, quantization text default null, candidates bigint default 0,
    visits bigint default 0, most bigint default 0
)
returns text
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $function$
declare
    dimension int = spec ->> 'dimension';
    multimodal boolean = coalesce((spec ->> 'multimodal')::boolean, false);
    operator text = case spec ->> 'metric' when 'cosine' then '<=>' when 'l2' then '<->' else '<#>' end;
    stored text = case when spec ->> 'storage' = 'halfvec' or spec ->> 'storage' = 'auto' and dimension > 2000 then 'halfvec' else 'vector' end;
    distance text = format('(t.vector operator(@extension@.%s) $1::@extension@.%s)', operator, stored);
    columns text = 't.id, t.content, t.metadata, t.vector' || case when multimodal then ', t.content_id, t.modality' else '' end;
    found text = format('array_agg(row(t.id, %s, t.content, t.metadata, t.distance)::likewise.found)',
        case when multimodal then 't.content_id, null, t.modality' else 't.id, null, null' end);
    along text = case quantization
        when 'half' then format('(t.vector::@extension@.halfvec(%1$s) operator(@extension@.%2$s) $1::@extension@.halfvec(%1$s))',
            dimension, operator)
        when 'binary' then format('(@extension@.binary_quantize(t.vector)::bit(%1$s)'
            ' operator(@extension@.<~>) @extension@.binary_quantize($1::@extension@.%2$s)::bit(%1$s))', dimension, stored)
        else distance
    end;
begin
    if quantization is null then
        return format('with matching as (select t.id, %s + 0 as distance from %I.%I as t%s%s), nearest as ('
            'select m.id, m.distance from matching as m order by m.distance, m.id collate "C" limit $2)'
            ' select %s, %s from (select %s, n.distance from nearest as n join %I.%I as t on t.id = n.id) as t',
            distance, schema_name, name, ' where ' || condition, ' limit ' || nullif(most, 0),
            found, case when most = 0 then 'null' else '(select count(*) from matching)' end, columns, schema_name, name);
    end if;
    return format('select %s, null from (select %s, %s as distance from (select %s from %s%s%s limit %s) as t'
        ' order by distance, t.id collate "C" limit $2) as t',
        found, columns, distance, columns,
        case when visits = 0 then format('%I.%I as t', schema_name, name)
            else format('(select %s from %I.%I as t order by %s limit %s) as t', columns, schema_name, name, along, visits) end,
        ' where ' || condition, case when visits = 0 then ' order by ' || along end, candidates);
end
$function$;
