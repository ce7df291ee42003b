CREATE OR REPLACE VIEW shown AS
SELECT id, kind, name, first_name, app, text, zone, week_start
FROM called
WHERE id NOT IN (SELECT id FROM definition_states FINAL WHERE NOT shown)
    AND ((kind, first_name, app, generation) IN (SELECT kind, name, app, generation FROM definition_generations FINAL WHERE app != '')
        OR ((kind, first_name, app) NOT IN (SELECT kind, name, app FROM definition_generations FINAL WHERE app != '')
            AND (kind, first_name, app, generation) IN (SELECT kind, name, app, min(generation) FROM definition_rows GROUP BY kind, name, app)
            AND (kind, first_name, generation) NOT IN (SELECT kind, name, generation FROM definition_generations FINAL WHERE app = '' AND generation > 0)));
