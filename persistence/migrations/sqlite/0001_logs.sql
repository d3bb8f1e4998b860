-- One log per topic. A log's number is never given to another log.
CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL UNIQUE,
    epoch INTEGER NOT NULL,
    -- The oldest kept message's offset; one after the head if none is kept.
    first INTEGER NOT NULL,
    -- The newest message's offset and time, also where it was trimmed.
    head INTEGER NOT NULL,
    time INTEGER NOT NULL,
    -- The sum of the sizes of the kept messages.
    bytes INTEGER NOT NULL
) STRICT;

-- In the order of the key, so that a page of a log is one range. The payload comes last, so that a walk over times and
-- sizes does not read it. Empty texts are NULL.
CREATE TABLE messages (
    log INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    -- Milliseconds since 1970; never smaller than that of the message before.
    time INTEGER NOT NULL,
    -- Bytes of payload, headers, id and content type.
    size INTEGER NOT NULL,
    id TEXT,
    publisher TEXT,
    content_type TEXT,
    -- A JSON array of [name, value].
    headers TEXT,
    -- NULL: the message was erased.
    payload BLOB,
    PRIMARY KEY (log, offset)
) STRICT, WITHOUT ROWID;

-- The message ids that refuse a second message until their window has passed, in the order in which they came.
CREATE TABLE ids (
    seq INTEGER PRIMARY KEY,
    log INTEGER NOT NULL,
    id TEXT NOT NULL,
    offset INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT;

-- Those for which memory has no room. If an id is in both tables, its newest row in `ids` counts.
CREATE TABLE old_ids (
    log INTEGER NOT NULL,
    id TEXT NOT NULL,
    offset INTEGER NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (log, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX old_ids_by_until ON old_ids (until);

-- Deleted logs whose messages are still to be taken away.
CREATE TABLE dead_logs (
    log INTEGER PRIMARY KEY
) STRICT;

-- One row.
CREATE TABLE counters (
    -- The largest number and epoch of any log that was deleted: those of a new log are larger, also after the clock went back.
    log_floor INTEGER NOT NULL,
    epoch_floor INTEGER NOT NULL
) STRICT;

INSERT INTO counters VALUES (0, 0);
