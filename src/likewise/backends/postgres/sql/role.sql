-- The role of those who search in SQL. It cannot log in; whoever is to search is made a member.
do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'likewise_user') then
        create role likewise_user nologin;
    end if;
exception
    -- Somebody in another database was faster.
    when duplicate_object or unique_violation then
        null;
end
$$
