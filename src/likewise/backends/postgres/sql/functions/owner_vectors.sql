-- How many documents and vectors each owner has, and the bytes of the files.
create or replace view likewise.owner_vectors as
select
    d.schema_name,
    d.collection,
    d.tenant,
    d.owner,
    count(*) as documents,
    sum(d.chunks)::bigint as vectors,
    sum(d.characters)::bigint as characters,
    sum(d.bytes)::bigint as bytes,
    max(d.updated_at) as updated_at
from likewise.documents as d
where d.state = 'stored'
group by d.schema_name, d.collection, d.tenant, d.owner;
