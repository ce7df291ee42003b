CREATE OR REPLACE VIEW shown AS
SELECT id, kind, name, app, text, zone, week_start
FROM definition_rows FINAL
WHERE id NOT IN (SELECT id FROM definition_states FINAL WHERE NOT shown)
    AND ((kind, name, app, generation) IN (SELECT kind, name, app, generation FROM definition_generations FINAL WHERE app != '')
        OR ((kind, name, app) NOT IN (SELECT kind, name, app FROM definition_generations FINAL WHERE app != '')
            AND (kind, name, app, generation) IN (SELECT kind, name, app, min(generation) FROM definition_rows GROUP BY kind, name, app)
            AND (kind, name, generation) NOT IN (SELECT kind, name, generation FROM definition_generations FINAL WHERE app = '' AND generation > 0)));
