-- Studies, what is shown in them, who votes, and the votes. No foreign keys: DuckDB rewrites a referenced row on
-- update and then refuses it; the stores check instead.
CREATE TABLE studies (
    id VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL,
    protocol VARCHAR NOT NULL,          -- JSON of studio.protocol.Protocol
    protocol_hash VARCHAR NOT NULL,
    seed BIGINT NOT NULL,
    status VARCHAR NOT NULL CHECK (status IN ('draft', 'open', 'closed', 'archived')),
    created TIMESTAMP NOT NULL,
    opened TIMESTAMP,
    closed TIMESTAMP
);
CREATE TABLE arms (
    id VARCHAR PRIMARY KEY,
    study VARCHAR NOT NULL,
    label VARCHAR NOT NULL,             -- never leaves the server before the study is closed
    kind VARCHAR NOT NULL CHECK (kind IN ('base', 'calibrated', 'ensemble', 'gold')),
    calibration VARCHAR,                -- JSON of the artefact; NULL: the base
    calibration_hash VARCHAR,
    backbone VARCHAR NOT NULL,
    settings VARCHAR NOT NULL,          -- JSON: steps, guidance, width, height
    place INTEGER NOT NULL
);
CREATE TABLE images (
    sha256 VARCHAR PRIMARY KEY,         -- of the PNG, which lies in the image store
    arm VARCHAR NOT NULL,               -- the first arm that made these pixels
    prompt VARCHAR NOT NULL,
    seed BIGINT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL
);
CREATE TABLE renders (
    recipe VARCHAR PRIMARY KEY,         -- hash of all that determines the pixels
    sha256 VARCHAR NOT NULL
);
CREATE TABLE pairs (
    id VARCHAR PRIMARY KEY,
    study VARCHAR NOT NULL,
    prompt VARCHAR NOT NULL,
    seed BIGINT NOT NULL,
    arm_x VARCHAR NOT NULL,
    arm_y VARCHAR NOT NULL,
    image_x VARCHAR,                    -- NULL until rendered
    image_y VARCHAR,
    kind VARCHAR NOT NULL CHECK (kind IN ('real', 'gold', 'repeat')),
    repeat_of VARCHAR                   -- the pair that a repeat shows again, sides swapped
);
CREATE TABLE raters (
    id VARCHAR PRIMARY KEY,             -- keyed hash of the identity
    study VARCHAR NOT NULL,
    kind VARCHAR NOT NULL CHECK (kind IN ('anonymous', 'hub', 'invite', 'local')),
    consented TIMESTAMP NOT NULL
);
CREATE TABLE assignments (
    token VARCHAR PRIMARY KEY,          -- 128 random bits
    study VARCHAR NOT NULL,
    pair VARCHAR NOT NULL,
    rater VARCHAR NOT NULL,
    left_is_x BOOLEAN NOT NULL,
    issued TIMESTAMP NOT NULL,
    expires TIMESTAMP NOT NULL,
    state VARCHAR NOT NULL CHECK (state IN ('issued', 'voted', 'undone', 'dropped'))
);
CREATE TABLE votes (
    id VARCHAR PRIMARY KEY,
    token VARCHAR NOT NULL,
    study VARCHAR NOT NULL,
    pair VARCHAR NOT NULL,
    rater VARCHAR NOT NULL,
    question VARCHAR NOT NULL,
    side VARCHAR NOT NULL CHECK (side IN ('left', 'right', 'tie', 'both_bad', 'skip')),
    winner VARCHAR NOT NULL CHECK (winner IN ('x', 'y', 'tie', 'both_bad', 'skip')),
    response_ms INTEGER,                -- both pictures seen to answer, as the browser says
    shown_ms INTEGER,                   -- how long the pictures were on screen, as the browser says
    time TIMESTAMP NOT NULL,
    UNIQUE (token, question),
    UNIQUE (pair, rater, question)
);
CREATE TABLE vote_events (
    id VARCHAR PRIMARY KEY,
    study VARCHAR NOT NULL,
    vote VARCHAR,
    kind VARCHAR NOT NULL CHECK (kind IN ('undo', 'invalidate', 'unblind', 'open', 'close')),
    detail VARCHAR NOT NULL,            -- JSON: the whole vote for undo, the reason for invalidate
    time TIMESTAMP NOT NULL
);
