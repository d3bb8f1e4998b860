-- What all logs share. One row.
create table bongsu.meta (
    one boolean primary key default true check (one),
    -- Sets this database apart from others: marks of `changes` carry it.
    incarnation uuid not null default gen_random_uuid(),
    -- The largest epoch of any log that was deleted: that of a new log is larger, also after the clock went back.
    epoch_floor bigint not null default 0
);

insert into bongsu.meta default values;

-- Time partitions: each is a table `messages_<id>`. The one that began last takes what is appended.
create table bongsu.partitions (
    id integer generated always as identity primary key,
    starts timestamptz not null unique
);

-- One log per topic. A log's number is never given to another log.
--
-- Every append updates its log's row. Half of each page is left free, and nothing that an append changes has an index, so that
-- the new version of the row stays on its page and no index is touched.
create table bongsu.logs (
    id bigint generated always as identity primary key,
    topic text collate "C" not null unique,
    epoch bigint not null default 0,
    -- The oldest kept message's offset; one after the head if none is kept.
    first bigint not null default 1,
    -- The newest message's offset and time, also where it was trimmed.
    head bigint not null default 0,
    time bigint not null default 0,
    -- The sum of the sizes of all messages that were ever appended, and of those that are kept; less what was erased of them.
    total bigint not null default 0,
    bytes bigint not null default 0,
    -- The partition of the newest message; 0 if no message is kept.
    partition integer not null default 0
) with (fillfactor = 50);

-- Which partition holds which messages of a log: those from `start` up to the start of the log's next span. A log's partitions only
-- ever grow, so each holds one range of its offsets. A partition without spans holds nothing that is kept.
create table bongsu.spans (
    log bigint not null,
    start bigint not null,
    partition integer not null,
    -- Time and total of the log before the first message of the span.
    time_before bigint not null,
    total_before bigint not null,
    primary key (log, start)
);

create index spans_by_partition on bongsu.spans (partition);

-- Rows of no log any more, in partitions that others still need: they are deleted when they are due. Most partitions are dropped first.
create table bongsu.dead (
    partition integer not null,
    log bigint not null,
    due timestamptz not null,
    primary key (partition, log)
);

-- The shape of all partitions, and a way to look at them together; itself always empty. The partitions inherit from it instead of
-- being attached to it: that way their primary key is log and offset and nothing else, a page is one range of one index, and neither
-- making nor dropping one locks what appends and reads use.
create table bongsu.messages (
    log bigint not null,
    "offset" bigint not null,
    -- Milliseconds since 1970; never smaller than that of the message before.
    time bigint not null,
    -- Bytes of payload, headers, id and content type.
    size integer not null,
    -- Empty texts are null.
    id text,
    publisher text,
    content_type text,
    -- A JSON array of [name, value].
    headers text,
    -- Null: the message was erased.
    payload bytea
);

-- Payloads are often compressed already, and compression would be paid by every publish.
alter table bongsu.messages alter payload set storage external;

-- The message ids that refuse a second message until their window has passed: the first 128 bits of their SHA-256, since an index of
-- short numbers costs a publish much less than one of texts. Whoever forgets them walks through the table, for the same reason.
create table bongsu.ids (
    log bigint not null,
    high bigint not null,
    low bigint not null,
    "offset" bigint not null,
    until bigint not null,
    primary key (log, high, low)
);

-- Which transactions appended to which logs: one row each, for some minutes.
create table bongsu.journal (
    xid xid8 primary key,
    logs bigint[] not null,
    befores bigint[] not null,
    heads bigint[] not null
);

-- How far the journal has been cleared. One row.
create table bongsu.journal_state (
    one boolean primary key default true check (one),
    -- Of what this snapshot sees, rows may be gone. A mark that does not see all of it is too old.
    cleared pg_snapshot not null default pg_current_snapshot(),
    -- What is cleared up to next, and when this was noted.
    next pg_snapshot not null default pg_current_snapshot(),
    next_at timestamptz not null default clock_timestamp()
);

insert into bongsu.journal_state default values;
