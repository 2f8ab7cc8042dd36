-- What a role needs to search in SQL, given to likewise_user; a role that is to search is made a member of it. It reads no collection by
-- this: functions run with the rights of the caller, and tables are granted as they are.
grant usage on schema likewise to likewise_user;
grant select on likewise.registry, likewise.collections, likewise.index_health, likewise.setting, likewise.model, likewise.worker, likewise.turn,
    likewise.watches, likewise.pending to likewise_user;
