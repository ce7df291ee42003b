CREATE OR REPLACE VIEW shown AS
SELECT id, kind, name, app, text, zone, week_start
FROM definition_rows FINAL
WHERE id NOT IN (SELECT id FROM definition_states FINAL WHERE NOT shown);
