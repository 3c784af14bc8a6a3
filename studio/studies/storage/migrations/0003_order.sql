-- The order of showings and of votes in a study, for undo and results: a clock that is set back does not change it.
ALTER TABLE assignments ADD COLUMN number BIGINT;
ALTER TABLE votes ADD COLUMN number BIGINT;
UPDATE assignments SET number = o.number
FROM (SELECT token, row_number() OVER (PARTITION BY study ORDER BY issued, token) AS number FROM assignments) o
WHERE assignments.token = o.token;
UPDATE votes SET number = o.number
FROM (SELECT id, row_number() OVER (PARTITION BY study ORDER BY time, id) AS number FROM votes) o
WHERE votes.id = o.id;
-- How many transactions changed something: see storage/tally.py.
CREATE TABLE commits (number BIGINT NOT NULL);
INSERT INTO commits VALUES (0);
