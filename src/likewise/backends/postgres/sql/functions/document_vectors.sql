-- How many vectors each document has, and how long its chunks are, in characters.
create or replace view likewise.document_vectors as
select
    d.schema_name,
    d.collection,
    d.id as document_id,
    d.source,
    d.title,
    d.tenant,
    d.owner,
    d.state,
    count(m.document_id) as vectors,
    coalesce(sum(m.chunk_length), 0)::bigint as characters,
    round(avg(m.chunk_length), 1) as mean_length,
    min(m.chunk_length) as shortest,
    max(m.chunk_length) as longest,
    d.updated_at
from likewise.documents as d
left join likewise.vector_metadata as m on m.document_id = d.id
group by d.id;
