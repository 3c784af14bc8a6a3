-- A rater may leave a remark with a vote; prompts have a category; the server's own clock beside the browser's.
ALTER TABLE votes ADD COLUMN comment VARCHAR;
ALTER TABLE votes ADD COLUMN server_ms INTEGER;
ALTER TABLE pairs ADD COLUMN category VARCHAR DEFAULT '';
