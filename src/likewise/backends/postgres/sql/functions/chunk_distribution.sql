-- How long chunks are: of each collection, how many have from so many to so many characters.
create or replace view likewise.chunk_distribution as
select
    m.schema_name,
    m.collection,
    m.chunk_length / 200 * 200 as from_characters,
    m.chunk_length / 200 * 200 + 199 as to_characters,
    count(*) as chunks,
    count(distinct m.document_id) as documents,
    round(avg(m.tokens), 1) as mean_tokens
from likewise.vector_metadata as m
where m.text is not null
group by m.schema_name, m.collection, m.chunk_length / 200;
