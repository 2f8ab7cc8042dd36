-- Before PostgreSQL 17 a message waits for the log writer, unless somebody commits: so this commits, if anything waits.
select pg_catalog.pg_logical_emit_message(true, 'likewise.flush', '')
where pg_catalog.pg_current_wal_insert_lsn() > pg_catalog.pg_current_wal_flush_lsn()
