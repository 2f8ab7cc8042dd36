-- find_similar_multimodal takes the query's modality too: what it was without is dropped, or calls would be ambiguous.
do $$
declare
    old regprocedure;
begin
    for old in
        select p.oid::regprocedure
        from pg_catalog.pg_proc as p
        where p.pronamespace = 'likewise'::regnamespace and p.proname = 'find_similar_multimodal'
    loop
        execute format('drop function %s', old);
    end loop;
end
$$;
