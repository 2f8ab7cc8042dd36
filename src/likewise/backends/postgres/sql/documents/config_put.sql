-- Remembers how files are parsed and cut for a collection.
insert into likewise.ingestion (schema_name, collection, config)
values (%(schema)s, %(collection)s, %(config)s)
on conflict (schema_name, collection) do update set config = excluded.config, updated_at = now()
