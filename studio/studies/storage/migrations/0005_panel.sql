-- Ids that the link of a panel brings (PROLIFIC_PID and the like), apart from votes; and who reached the end.
CREATE TABLE panel_ids (
    rater VARCHAR NOT NULL,
    study VARCHAR NOT NULL,
    name VARCHAR NOT NULL,              -- of the link's parameter
    value VARCHAR NOT NULL,
    PRIMARY KEY (rater, name, value)
);
CREATE TABLE completions (
    rater VARCHAR PRIMARY KEY,
    study VARCHAR NOT NULL,
    time TIMESTAMP NOT NULL
);
