-- The models that chunks were embedded by.
create or replace view likewise.models_used as
select
    m.schema_name,
    m.collection,
    m.embedding_model,
    count(*) as vectors,
    count(distinct m.document_id) as documents,
    min(m.created_at) as first_used,
    max(m.created_at) as last_used
from likewise.vector_metadata as m
group by m.schema_name, m.collection, m.embedding_model;
