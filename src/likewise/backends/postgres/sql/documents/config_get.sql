-- How files are parsed and cut for a collection.
select i.config from likewise.ingestion as i where i.schema_name = %(schema)s and i.collection = %(collection)s
