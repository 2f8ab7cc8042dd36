-- Internal. The wire form of a filter as a SQL condition over the columns of a collection's table under the alias t: what
-- backends/postgres/_filters.py does for Python, in the same words, so that the same indexes serve it. Every key and value in it is quoted
-- (quote_literal writes a backslash so that it reads the same under any standard_conforming_strings). The condition is made to be run
-- with pg_catalog first on the search_path.
-- What is malformed raises invalid_parameter_value and says where.
create or replace function likewise.filter_condition(filter jsonb, multimodal boolean)
returns text
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $function$
declare
    part record;
begin
    if filter is null then
        return null;
    end if;
    select * into part from likewise.filter_part(filter, 'filter', 0, multimodal);
    if part.height > 64 then
        raise exception 'the filter is nested deeper than 64 levels; $and and $or take any number of conditions'
            using errcode = 'invalid_parameter_value';
    end if;
    if part.nodes > 5000 then
        raise exception 'the filter has more than 5,000 conditions; use $in for a long list of values'
            using errcode = 'invalid_parameter_value';
    end if;
    return part.condition;
end
$function$;

-- One object of a filter: its entries all have to hold. height and nodes are those of the tree that filters/wire.py makes of it.
create or replace function likewise.filter_part(
    wire jsonb, place text, depth int, multimodal boolean, out condition text, out height int, out nodes int
)
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $function$
declare
    entry record;
    part record;
    parts text[] = '{}';
begin
    if depth > 64 then
        raise exception 'the filter is nested deeper than 64 levels' using errcode = 'invalid_parameter_value';
    end if;
    if jsonb_typeof(wire) <> 'object' then
        raise exception '%: must be an object such as {"price": {"$lt": 100}}, not %', place, likewise.json_kind(wire)
            using errcode = 'invalid_parameter_value';
    end if;
    height := 0;
    nodes := 0;
    for entry in select e.key, e.value, format('%s.%s', place, left(e.key, 80)) as place from jsonb_each(wire) as e loop
        if entry.key in ('$and', '$or') then
            if jsonb_typeof(entry.value) <> 'array' then
                raise exception '%: takes a list of filters, not %', entry.place, likewise.json_kind(entry.value)
                    using errcode = 'invalid_parameter_value';
            end if;
            select '(' || string_agg(p.condition, case entry.key when '$and' then ' and ' else ' or ' end order by e.n) || ')' as condition,
                1 + coalesce(max(p.height), 0) as height, 1 + coalesce(sum(p.nodes), 0) as nodes
            into part
            from jsonb_array_elements(entry.value) with ordinality as e(wire, n),
                likewise.filter_part(e.wire, format('%s[%s]', entry.place, e.n - 1), depth + 1, multimodal) as p;
            parts := parts || coalesce(part.condition, case entry.key when '$and' then 'true' else 'false' end);
            height := greatest(height, part.height);
            nodes := nodes + part.nodes;
        elsif entry.key = '$not' then
            select * into part from likewise.filter_part(entry.value, entry.place, depth + 1, multimodal);
            parts := parts || format('(not coalesce(%s, false))', part.condition);
            height := greatest(height, 1 + part.height);
            nodes := nodes + 1 + part.nodes;
        else
            for part in select * from likewise.filter_tests(entry.key, entry.value, entry.place, depth + 1, multimodal) loop
                parts := parts || part.condition;
                height := greatest(height, part.height);
                nodes := nodes + part.nodes;
            end loop;
        end if;
    end loop;
    if cardinality(parts) <> 1 then
        height := height + 1;
        nodes := nodes + 1;
    end if;
    condition := case cardinality(parts) when 0 then 'true' when 1 then parts[1] else '(' || array_to_string(parts, ' and ') || ')' end;
end
$function$;

-- The conditions on one field, one row for each operator.
create or replace function likewise.filter_tests(field text, wire jsonb, place text, depth int, multimodal boolean)
returns table (condition text, height int, nodes int)
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $function$
declare
    path text[];
    test record;
    part record;
    is_column boolean = field like '$%';
    subject text;
    as_text text;
    -- What is before and after a value that is looked for by containment at the path.
    before text = '';
    behind text = '';
    key text;
begin
    if depth > 64 then
        raise exception 'the filter is nested deeper than 64 levels' using errcode = 'invalid_parameter_value';
    end if;
    if is_column then
        if field not in ('$id', '$content', '$modality', '$content_id') then
            raise exception '%: is not a column or operator here; known are: $id, $content, $modality, $content_id, $and, $or, $not. '
                'A metadata key that begins with $ is written %$', place, E'\\' using errcode = 'invalid_parameter_value';
        end if;
        if field in ('$modality', '$content_id') and not multimodal then
            raise exception '%: there is no such column, for the collection is not multimodal; the columns are: $id, $content', place
                using errcode = 'invalid_parameter_value';
        end if;
        subject := 't.' || substr(field, 2);
        as_text := subject;
    else
        path := likewise.filter_path(field, place);
        subject := format('(t.metadata -> %s)', (select string_agg(format('%L::text', k.key), ' -> ' order by k.n)
            from unnest(path) with ordinality as k(key, n)));
        as_text := format('(%s #>> ''{}'')', subject);
        foreach key in array path loop
            before := before || '{' || to_json(key)::text || ': ';
            behind := behind || '}';
        end loop;
    end if;

    height := 1;
    nodes := 1;
    if jsonb_typeof(wire) <> 'object' or not exists (select from jsonb_object_keys(wire) as k(key) where k.key like '$%') then
        wire := jsonb_build_object('$eq', wire);
    end if;
    for test in select e.key as operator, e.value as operand, jsonb_typeof(e.value) as kind, place || '.' || left(e.key, 80) as place
        from jsonb_each(wire) as e
    loop
        perform likewise.check_filter_operand(test.operator, test.operand, test.place, is_column);
        if test.operator = '$not' then
            select string_agg(t.condition, ' and ') as condition, max(t.height) + 2 as height, sum(t.nodes) + 2 as nodes
            into part
            from likewise.filter_tests(field, test.operand, test.place, depth + 1, multimodal) as t;
            condition := format('(not coalesce((%s), false))', part.condition);
            height := part.height;
            nodes := part.nodes;
            return next;
            height := 1;
            nodes := 1;
            continue;
        end if;

        condition := case test.operator
            when '$eq' then case
                when is_column then format('(%s = %L)', subject, test.operand #>> '{}')
                when test.kind in ('object', 'array') then format('(t.metadata @> %L::jsonb and %s = %L::jsonb)',
                    before || test.operand::text || behind, subject, test.operand)
                else format('(t.metadata @> %L::jsonb)', before || test.operand::text || behind)
            end
            when '$ne' then case
                when is_column then format('(%s <> %L)', subject, test.operand #>> '{}')
                else format('(%s <> %L::jsonb)', subject, test.operand)
            end
            when '$in' then case
                when is_column then format('(%s = any (%L::text[]))', subject, likewise.json_texts(test.operand))
                -- More values than this are compared with an array rather than spelled out for a GIN index.
                when jsonb_array_length(test.operand) > 16 then format('(%s = any (%L::jsonb[]))', subject, likewise.json_values(test.operand))
                else coalesce('(' || (
                    select string_agg(case
                        when jsonb_typeof(v.item) in ('object', 'array') then format('(t.metadata @> %L::jsonb and %s = %L::jsonb)',
                            before || v.item::text || behind, subject, v.item)
                        else format('(t.metadata @> %L::jsonb)', before || v.item::text || behind)
                    end, ' or ')
                    from jsonb_array_elements(test.operand) as v(item)
                ) || ')', 'false')
            end
            when '$nin' then case
                when is_column then format('(%1$s is not null and %1$s <> all (%2$L::text[]))', subject, likewise.json_texts(test.operand))
                else format('(%1$s is not null and %1$s <> all (%2$L::jsonb[]))', subject, likewise.json_values(test.operand))
            end
            when '$between' then format('(%s and %s)',
                likewise.filter_comparison(subject, as_text, is_column, '>=', test.operand -> 0),
                likewise.filter_comparison(subject, as_text, is_column, '<=', test.operand -> 1))
            when '$gt' then likewise.filter_comparison(subject, as_text, is_column, '>', test.operand)
            when '$gte' then likewise.filter_comparison(subject, as_text, is_column, '>=', test.operand)
            when '$lt' then likewise.filter_comparison(subject, as_text, is_column, '<', test.operand)
            when '$lte' then likewise.filter_comparison(subject, as_text, is_column, '<=', test.operand)
            when '$exists' then case
                when not is_column and cardinality(path) = 1 then format('(t.metadata ? %L)', path[1])
                else format('(%s is not null)', subject)
            end
            when '$is_null' then case
                when is_column then format('(%s is null)', subject)
                else format('(t.metadata @> %L::jsonb)', before || 'null' || behind)
            end
            when '$contains' then format('(t.metadata @> %L::jsonb)', before || '[' || test.operand::text || ']' || behind)
            when '$contains_all' then format('(t.metadata @> %L::jsonb)', before || test.operand::text || behind)
            when '$contains_any' then coalesce('(' || (
                select string_agg(format('(t.metadata @> %L::jsonb)', before || '[' || v.item::text || ']' || behind), ' or ')
                from jsonb_array_elements(test.operand) as v(item)
            ) || ')', 'false')
            when '$starts_with' then format('starts_with(%s, %L::text)', as_text, test.operand #>> '{}')
            when '$ends_with' then format('right(%s, %s) = %L', as_text, char_length(test.operand #>> '{}'), test.operand #>> '{}')
            when '$like' then format('%s collate "C" like %L', as_text, test.operand #>> '{}')
            when '$text_match' then likewise.filter_text_match(as_text, test.operand #>> '{}')
        end;
        if test.operator in ('$starts_with', '$ends_with', '$like', '$text_match') then
            condition := case
                when is_column then format('(%s)', condition)
                else format('(jsonb_typeof(%s) = ''string'' and %s)', subject, condition)
            end;
        end if;
        if test.operator in ('$exists', '$is_null') and test.operand = 'false' then
            condition := format('(not coalesce(%s, false))', condition);
            height := 2;
            nodes := 2;
        end if;
        return next;
        height := 1;
        nodes := 1;
    end loop;
end
$function$;

-- A comparison by order: text with text by code point, numbers with numbers, nothing else.
create or replace function likewise.filter_comparison(subject text, as_text text, is_column boolean, operator text, bound jsonb)
returns text
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $function$
    select case
        when is_column then format('(%s collate "C" %s %L)', as_text, operator, bound #>> '{}')
        when jsonb_typeof(bound) = 'string' then
            format('(jsonb_typeof(%s) = ''string'' and %s collate "C" %s %L)', subject, as_text, operator, bound #>> '{}')
        else format('(jsonb_typeof(%1$s) = ''number'' and %1$s %2$s %3$L::jsonb)', subject, operator, bound)
    end
$function$;

-- Every word, as a part of the text, in lower case by single code points.
create or replace function likewise.filter_text_match(as_text text, words text)
returns text
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $function$
declare
    lowered text = 'lower((%s)::text)';
    collation_ text;
    result text;
begin
    -- As sql/catalog.sql has it: the collation whose lower() knows all of Unicode.
    if current_setting('server_version_num')::int >= 170000 then
        collation_ := 'pg_c_utf8';
    else
        select l.collname into collation_
        from pg_catalog.pg_database as d, pg_catalog.pg_collation as l
        where d.datname = current_database() and d.datctype in ('C', 'POSIX')
            and l.collnamespace = 'pg_catalog'::regnamespace and l.collencoding in (-1, d.encoding)
            and l.collname in ('C.utf8', 'C.UTF-8', 'en_US.utf8', 'en_US.UTF-8', 'und-x-icu')
        order by l.collname
        limit 1;
    end if;
    if collation_ is not null then
        lowered := format('lower((%%s)::text collate pg_catalog.%I)', collation_);
    end if;
    select string_agg(
        format('strpos(%s collate "C", %s collate "C") > 0', format(lowered, as_text), format(lowered, quote_literal(w.word))), ' and ')
    into result
    from regexp_split_to_table(words, E'[ \\t\\n\\r\\f\\v]+') as w(word)
    where w.word <> '';
    return coalesce(result, format('%s is not null', as_text));
end
$function$;

-- The keys that a field's name leads through: split at dots; a backslash takes the next character as it is.
create or replace function likewise.filter_path(field text, place text)
returns text[]
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $function$
declare
    path text[];
    part text = '';
    escaped boolean = false;
    letter text;
begin
    if strpos(field, E'\\') = 0 then
        path := case field when '' then array[''] else string_to_array(field, '.') end;
    else
        foreach letter in array string_to_array(field, null) loop
            if not escaped and letter = E'\\' then
                escaped := true;
            elsif not escaped and letter = '.' then
                path := path || part;
                part := '';
            else
                part := part || letter;
                escaped := false;
            end if;
        end loop;
        path := path || part;
        if escaped then
            raise exception '%: the key ends with a single backslash; write two for a backslash', place
                using errcode = 'invalid_parameter_value';
        end if;
    end if;
    if cardinality(path) > 64 then
        raise exception '%: a metadata path has % keys; at most 64 are allowed', place, cardinality(path)
            using errcode = 'invalid_parameter_value';
    end if;
    return path;
end
$function$;

-- Refuses an operator that there is not, and an operand that is not for it.
create or replace function likewise.check_filter_operand(operator text, operand jsonb, place text, is_column boolean)
returns void
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $function$
declare
    kind text = jsonb_typeof(operand);
    takes_list boolean = operator in ('$in', '$nin', '$contains_any', '$contains_all');
    problem text;
begin
    if takes_list and kind <> 'array' then
        problem := format('takes a list of values, not %s', likewise.json_kind(operand));
    elsif takes_list and jsonb_array_length(operand) > 100000 then
        problem := format('has %s values; at most 100,000 are allowed', jsonb_array_length(operand));
    elsif is_column and operator in ('$contains', '$contains_any', '$contains_all') then
        problem := 'looks into lists, and the column holds text: use $text_match or $like';
    elsif operator = '$between' and (kind <> 'array' or jsonb_array_length(operand) <> 2) then
        problem := 'takes a list of two values';
    elsif operator in ('$exists', '$is_null') then
        if kind <> 'boolean' then
            problem := format('takes true or false, not %s', likewise.json_kind(operand));
        end if;
    elsif operator in ('$starts_with', '$ends_with', '$like', '$text_match') then
        if kind <> 'string' then
            problem := format('takes text, not %s', likewise.json_kind(operand));
        elsif operator = '$like' and char_length(substring(operand #>> '{}' from E'\\\\*$')) % 2 = 1 then
            problem := 'a pattern must not end with its escape character, a backslash; write two for a backslash';
        end if;
    elsif operator in ('$gt', '$gte', '$lt', '$lte', '$between') then
        select format('compares with a number or text, not with %s', likewise.json_kind(b.bound)) into problem
        from (select operand as bound where operator <> '$between'
            union all select e.item from jsonb_array_elements(case operator when '$between' then operand else '[]' end) as e(item)) as b
        where jsonb_typeof(b.bound) not in ('number', 'string')
        limit 1;
        if problem is null and operator = '$between' and jsonb_typeof(operand -> 0) <> jsonb_typeof(operand -> 1) then
            problem := 'takes two numbers or two texts, not one of each';
        end if;
    elsif operator not in ('$eq', '$ne', '$in', '$nin', '$contains', '$contains_any', '$contains_all', '$not') then
        problem := 'is not an operator; known are: $eq, $ne, $in, $nin, $gt, $gte, $lt, $lte, $contains, $contains_any, $contains_all, '
            '$starts_with, $ends_with, $like, $text_match, $between, $exists, $is_null, $not';
    elsif operator like '$contains%' then
        select format('looks for text, numbers, true, false or null in a list, not for %s', likewise.json_kind(e.item)) into problem
        from jsonb_array_elements(case when takes_list then operand else jsonb_build_array(operand) end) as e(item)
        where jsonb_typeof(e.item) in ('object', 'array')
        limit 1;
    end if;
    if problem is null and is_column and operator in ('$eq', '$ne', '$gt', '$gte', '$lt', '$lte', '$in', '$nin', '$between') then
        select format('the column holds text and cannot be compared with %s%s', likewise.json_kind(e.item),
            case when e.item = 'null' then '; use $is_null' else '' end) into problem
        from jsonb_array_elements(case when takes_list or operator = '$between' then operand else jsonb_build_array(operand) end) as e(item)
        where jsonb_typeof(e.item) <> 'string'
        limit 1;
    end if;
    if problem is null and operator <> '$not' and kind in ('number', 'object', 'array') then
        if jsonb_path_exists(operand, case when takes_list or operator = '$between'
            then 'strict $.**{65} ? (@.type() == "object" || @.type() == "array")'
            else 'strict $.**{64} ? (@.type() == "object" || @.type() == "array")' end::jsonpath)
        then
            problem := 'the value is nested deeper than 64 levels';
        elsif exists (
            select from jsonb_path_query(operand, 'strict $.** ? (@.type() == "number")') as n(number)
            where abs(n.number::numeric) >= power(2::numeric, 3300)
        ) then
            problem := 'holds an integer of more than 3300 bits, which is not stored';
        end if;
    end if;
    if problem is not null then
        raise exception '%: %', place, problem using errcode = 'invalid_parameter_value';
    end if;
end
$function$;

-- What kind of JSON value it is, for people.
create or replace function likewise.json_kind(value jsonb)
returns text
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $function$
    select case jsonb_typeof(value) when 'array' then 'a list' when 'object' then 'an object' when 'string' then 'text'
        when 'number' then 'a number' when 'boolean' then value::text else 'null' end
$function$;

-- A JSON list as an array of its values, and of its texts.
create or replace function likewise.json_values(list jsonb)
returns jsonb[]
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $function$
    select coalesce(array_agg(e.item), '{}') from jsonb_array_elements(list) as e(item)
$function$;

create or replace function likewise.json_texts(list jsonb)
returns text[]
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $function$
    select coalesce(array_agg(e.item), '{}') from jsonb_array_elements_text(list) as e(item)
$function$;
