-- Messages that were published in SQL and are not in their logs yet. A row is seen by nobody before its transaction commits, and
-- locks nothing: the application's transactions wait neither for one another here nor for the nodes.
create table bongsu.outbox (
    seq bigint generated always as identity primary key,
    topic text not null,
    payload bytea not null,
    content_type text,
    id text,
    -- A JSON array of [name, value].
    headers text,
    publisher text not null
);

-- Publishes a message in the caller's transaction: with its commit, or not at all. A node gives it its place in the topic's log
-- right after that.
--
-- Runs as the owner of the schema, so that the caller needs no privilege but to execute it.
create function bongsu.publish(
    topic text, payload bytea, content_type text default null, id text default null, headers jsonb default null
) returns void language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    _headers text;
    _header_bytes bigint;
begin
    perform bongsu.check_topic(topic);
    if payload is null then
        raise exception 'a message has a payload, be it empty' using errcode = '22004';
    end if;
    if octet_length(payload) > 1048576 then
        raise exception 'a payload has at most 1048576 bytes, this one has %', octet_length(payload) using errcode = '22023';
    end if;
    if octet_length(content_type) > 255 or content_type ~ '[^\x20-\x7e]' then
        raise exception 'a content type is printable ASCII of at most 255 bytes' using errcode = '22023';
    end if;
    if octet_length(id) > 128 or bongsu.has_control_characters(id) then
        raise exception 'a message id has at most 128 bytes and no control characters' using errcode = '22023';
    end if;
    if headers is not null then
        if jsonb_typeof(headers) <> 'object' then
            raise exception 'headers are an object of names and texts' using errcode = '22023';
        end if;
        if exists (
            select from jsonb_each(headers) header
                where jsonb_typeof(header.value) <> 'string' or header.key = ''
                    or bongsu.has_control_characters(header.key) or bongsu.has_control_characters(header.value #>> '{}')
        ) then
            raise exception 'a header has a name and a text, and no control characters' using errcode = '22023';
        end if;
        select jsonb_agg(jsonb_build_array(header.key, header.value))::text, sum(octet_length(header.key) + octet_length(header.value))
            into _headers, _header_bytes from jsonb_each_text(headers) header;
        if _header_bytes > 8192 or (select count(*) from jsonb_object_keys(headers)) > 32 then
            raise exception 'a message has at most 32 headers of 8192 bytes together' using errcode = '22023';
        end if;
    end if;
    insert into bongsu.outbox (topic, payload, content_type, id, headers, publisher)
        values (topic, payload, nullif(content_type, ''), nullif(id, ''), _headers, session_user);
    -- Wakes the nodes with the commit. Transactions that notify commit one after another, so only some do at a time: of each fourth of all
    -- sessions one. What the others publish is found with the next notification, or when the nodes look by themselves, four times a second.
    if pg_try_advisory_xact_lock(4778914503721124 + pg_backend_pid() % 4) then
        perform pg_notify('bongsu_outbox', '');
    end if;
end
$$;

-- The same for a text, as UTF-8.
create function bongsu.publish(
    topic text, payload text, content_type text default null, id text default null, headers jsonb default null
) returns void language sql security definer
set search_path = pg_catalog, pg_temp
as $$
    select bongsu.publish(topic, convert_to(payload, 'UTF8'), content_type, id, headers)
$$;

-- The same for JSON: its content type is `application/json` unless another is given.
create function bongsu.publish(
    topic text, payload jsonb, content_type text default 'application/json', id text default null, headers jsonb default null
) returns void language sql security definer
set search_path = pg_catalog, pg_temp
as $$
    select bongsu.publish(topic, convert_to(payload::text, 'UTF8'), content_type, id, headers)
$$;

create function bongsu.publish(
    topic text, payload json, content_type text default 'application/json', id text default null, headers jsonb default null
) returns void language sql security definer
set search_path = pg_catalog, pg_temp
as $$
    select bongsu.publish(topic, convert_to(payload::text, 'UTF8'), content_type, id, headers)
$$;

-- Refuses what is no topic, by the protocol's rules, and topics of the broker's own.
create function bongsu.check_topic(topic text) returns void language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if topic is null or topic = '' then
        raise exception 'a topic needs at least one character' using errcode = '22023';
    elsif octet_length(topic) > 255 then
        raise exception 'a topic has at most 255 bytes, this one has %', octet_length(topic) using errcode = '22023';
    elsif topic ~ '[+#]' then
        raise exception '`+` and `#` belong in filters, not in topics' using errcode = '22023';
    elsif starts_with(topic, '$') then
        raise exception 'topics that begin with `$` are the broker''s own' using errcode = '22023';
    elsif bongsu.has_control_characters(topic) then
        raise exception 'a topic has no control characters' using errcode = '22023';
    elsif '' = any (string_to_array(topic, '/')) then
        raise exception 'a topic has no empty level: no slash first, last or beside another' using errcode = '22023';
    elsif cardinality(string_to_array(topic, '/')) > 32 then
        raise exception 'a topic has at most 32 levels' using errcode = '22023';
    end if;
end
$$;

-- Unicode's control characters, whatever the locale says: U+0001 to U+001F and U+007F to U+009F.
create function bongsu.has_control_characters(text text) returns boolean language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(text ~ U&'[\0001-\001f\007f-\009f]', false)
$$;

-- Nobody else calls these by default; docs/postgres.md says what to grant to whom.
revoke all on all functions in schema bongsu from public;
