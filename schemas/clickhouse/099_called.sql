-- Every definition under the name that it has now; `first_name` is the one that its rows were counted under.
CREATE OR REPLACE VIEW called AS
SELECT r.id AS id, r.kind AS kind, r.name AS first_name,
    multiIf(own.called != '', own.called, general.called != '', general.called, r.name) AS name,
    r.app AS app, r.text AS text, r.generation AS generation, r.zone AS zone, r.week_start AS week_start
FROM definition_rows AS r FINAL
LEFT JOIN (SELECT kind, name, app, called FROM definition_names FINAL WHERE app != '') AS own
    ON r.kind = own.kind AND r.name = own.name AND r.app = own.app
LEFT JOIN (SELECT kind, name, called FROM definition_names FINAL WHERE app = '') AS general
    ON r.kind = general.kind AND r.name = general.name;
