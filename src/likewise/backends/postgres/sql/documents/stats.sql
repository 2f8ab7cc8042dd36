-- How many documents and vectors there are, and of each document how many and how long.
select
    (select count(*) from {table}) as total_vectors,
    (
        select count(*) from likewise.documents as d
        where d.schema_name = %(schema)s and d.collection = %(collection)s and d.state = 'stored'
    ) as total_documents,
    (
        select coalesce(jsonb_agg(jsonb_build_array(p.document_id, p.vectors, p.characters) order by p.document_id), '[]'::jsonb)
        from (
            select m.document_id, count(*) as vectors, sum(m.chunk_length) as characters
            from likewise.vector_metadata as m
            where m.schema_name = %(schema)s and m.collection = %(collection)s
            group by m.document_id order by m.document_id limit %(limit)s
        ) as p
    ) as per_document
