-- Where the database is: everything that was committed before is at or before this place in the log, and seen by this snapshot.
--
-- A commit that others see lies before the end of the log, but with synchronous_commit = off it need not be on disk, and what is not on disk is not
-- decoded. What is on disk would thus be too early a place; the end of the log would be right, but a copy would reach it only when the server
-- next writes the log out, which with nobody committing may take wal_writer_delay. So: if all is on disk, the end of the log; else a message
-- behind it, which is written out at once (@flushed@: by itself since version 17, before by the commit of this statement).
-- A place just behind the head of a page is the end of the page before: readers of the log count so. The head has 24 bytes, that of a segment's
-- first page 40.
select case
    when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
    else (
        select case
            when inserted <= pg_catalog.pg_current_wal_flush_lsn() or current_setting('wal_level') <> 'logical' then
                inserted - case when in_page <= case when in_page = in_segment then 40 else 24 end then in_page else 0 end
            else @flushed@
        end
        from (
            select
                inserted,
                mod(inserted - '0/0'::pg_lsn, current_setting('wal_block_size')::int) as in_page,
                mod(inserted - '0/0'::pg_lsn, pg_catalog.pg_size_bytes(current_setting('wal_segment_size'))) as in_segment
            from (select pg_catalog.pg_current_wal_insert_lsn() as inserted offset 0) as one
        ) as now
    )
end::text || ';' || pg_catalog.pg_current_snapshot()::text as position
