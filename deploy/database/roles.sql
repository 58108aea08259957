-- A role and a schema for each unit that keeps data, so that no unit can read or
-- write another's tables. Run it in bindery's database, as a role that may make
-- roles and schemas; it may be run again:
--
--     psql -d bindery -f roles.sql
--
-- The roles have no password. Give them one (ALTER ROLE … PASSWORD), or let
-- pg_hba.conf say how each proves itself. Then, as each role,
--
--     bindery migrate UNIT --database-url postgres://bindery_UNIT@HOST/bindery
--
-- The gateway keeps nothing and has no role.
DO $$
DECLARE
    unit text;
    role text;
BEGIN
    FOREACH unit IN ARRAY ARRAY['accessbindings', 'identity', 'resourcemanager', 'notifications', 'partner', 'marketplacerequests'] LOOP
        role := 'bindery_' || unit;
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', role);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
        EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I', unit, role);
    END LOOP;
END
$$;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
