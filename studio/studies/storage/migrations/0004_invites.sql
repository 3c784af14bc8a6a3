-- Whom an organiser invited, under which number of a link. Links are signed with the data folder's key: none is stored.
CREATE TABLE invites (
    study VARCHAR NOT NULL,
    number BIGINT NOT NULL,             -- of the link
    name VARCHAR NOT NULL,              -- whom it was made for; neither raters nor exports get it
    rater BIGINT NOT NULL,              -- under which votes are kept: the number of this person's first link
    made TIMESTAMP NOT NULL,
    opened TIMESTAMP,                   -- first look at the link
    finished TIMESTAMP,                 -- nothing was left to vote on
    taken_back TIMESTAMP,
    PRIMARY KEY (study, number)
);
