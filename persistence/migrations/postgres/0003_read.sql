-- A page: first one row about the log (what `offset` is null in), then its messages from `lo` to `hi`, or back from `hi` to `lo` where
-- it starts with `before`; without `_with_messages` only the first row. A topic without a log has epoch 0 and nothing to read.
--
-- All of it sees the snapshot of the statement that calls it.
create function bongsu.page(
    _topic text, _start text, _epoch bigint, _number bigint, _limit bigint, _bytes bigint, _with_messages boolean
) returns table (
    log bigint, epoch bigint, first bigint, head bigint, lo bigint, hi bigint, recovering boolean,
    "offset" bigint, "time" bigint, id text, publisher text, content_type text, headers text, payload bytea
) language plpgsql stable
set enable_seqscan = off set jit = off
as $$
declare
    _log bongsu.logs;
begin
    select * into _log from bongsu.logs where topic = _topic;
    if not found then
        return query select 0::bigint, 0::bigint, 1::bigint, 0::bigint, 1::bigint, 0::bigint, pg_is_in_recovery(),
            null::bigint, null::bigint, null::text, null::text, null::text, null::text, null::bytea;
        return;
    end if;
    lo := _log.head + 1;
    hi := _log.head;
    case _start
        when 'earliest' then
            lo := _log.first;
        when 'latest' then
            null;
        when 'last' then
            lo := greatest(_log.head + 1 - _number, _log.first);
        when 'after' then
            if _epoch = _log.epoch and _number <= _log.head then
                lo := greatest(_number + 1, _log.first);
            end if;
        when 'time' then
            lo := bongsu.by_time(_log.id, _log.first, _log.head, _number);
        when 'before' then
            if _number is null then
                hi := _log.head;
            elsif _epoch = _log.epoch and _number <= _log.head + 1 then
                hi := greatest(_number, _log.first) - 1;
            else
                hi := _log.first - 1;
            end if;
            lo := _log.first;
    end case;
    return query select _log.id, _log.epoch, _log.first, _log.head, lo, hi, pg_is_in_recovery(),
        null::bigint, null::bigint, null::text, null::text, null::text, null::text, null::bytea;
    if _with_messages then
        return query select null::bigint, null::bigint, null::bigint, null::bigint, null::bigint, null::bigint, null::boolean, message.*
            from bongsu.range(_log.id, lo, hi, _start = 'before', _limit, _bytes) message;
    end if;
end
$$;

-- The messages of a log from `_lo` to `_hi`, at most `_limit` and about `_bytes` bytes of payload, from the beginning or from the end;
-- at least one. In each partition this is one range of its primary key; most pages are in one partition.
create function bongsu.range(_log bigint, _lo bigint, _hi bigint, _backward boolean, _limit bigint, _bytes bigint)
returns table (
    "offset" bigint, "time" bigint, id text, publisher text, content_type text, headers text, payload bytea
) language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
declare
    _span record;
    _n_rows bigint;
begin
    if _backward then
        _lo := greatest(_lo, _hi - _limit + 1);
    else
        _hi := least(_hi, _lo + _limit - 1);
    end if;
    for _span in
        select span.partition, greatest(span.start, _lo) as lo, least(span.next - 1, _hi) as hi
            from (
                select spans.partition, spans.start, coalesce(lead(spans.start) over (order by spans.start), _hi + 1) as next
                    from bongsu.spans where spans.log = _log
            ) span
            where span.start <= _hi and span.next > _lo
            order by case when _backward then -span.start else span.start end
    loop
        return query execute format(bongsu.range_statement(_backward), _span.partition)
            using _log, _span.lo, _span.hi, _bytes;
        get diagnostics _n_rows = row_count;
        exit when _n_rows <= _span.hi - _span.lo;
    end loop;
end
$$;

-- The statement of `range` for one partition, whose number is to be put in: of log $1, from $2 to $3, about $4 bytes of payload.
create function bongsu.range_statement(_backward boolean) returns text language sql immutable as $$
    select replace('
        select "offset", time, id, publisher, content_type, headers, payload
            from (
                select *, row_number() over page as n, sum(coalesce(octet_length(payload), 0)) over page as total
                    from bongsu.messages_%s where log = $1 and "offset" >= $2 and "offset" <= $3
                    window page as (order by "offset" <direction> rows unbounded preceding)
            ) message
            where total <= $4 or n = 1
            order by "offset" <direction>',
        '<direction>', case when _backward then 'desc' else 'asc' end)
$$;

-- The first offset from `_first` on whose message's time is not before `_time`, or one after the head: by bisection, since times
-- never go back.
create function bongsu.by_time(_log bigint, _first bigint, _head bigint, _time bigint) returns bigint language plpgsql stable
set enable_seqscan = off set jit = off
as $$
declare
    _lo bigint := _first;
    _hi bigint := _head + 1;
    _middle bigint;
    _partition integer;
    _found bigint;
begin
    -- The message before this span is before the time, the one before the next span is not.
    select greatest(span.start, _first), least(span.next, _hi), span.partition into _lo, _hi, _partition
        from (
            select start, partition, time_before, lead(start) over (order by start) as next from bongsu.spans where log = _log
        ) span
        where span.time_before < _time order by span.start desc limit 1;
    if not found then
        return _first;
    end if;
    while _lo < _hi loop
        _middle := (_lo + _hi) / 2;
        execute format('select time from bongsu.messages_%s where log = $1 and "offset" = $2', _partition)
            into strict _found using _log, _middle;
        if _found < _time then
            _lo := _middle + 1;
        else
            _hi := _middle;
        end if;
    end loop;
    return _lo;
end
$$;

-- The moment of this statement, and which logs were appended to since an earlier one: first a row with the mark, then one for each log.
--
-- A mark is `incarnation:timeline:snapshot`. The timeline sets a standby that was promoted apart from what it stood by, since both
-- give the same transaction numbers to different transactions. Only a primary can tell it, so a standby fails here.
create function bongsu.changes(_mark text, _max bigint)
returns table (mark text, complete boolean, topic text, epoch bigint, before bigint, head bigint) language plpgsql stable
set enable_seqscan = off set jit = off
as $$
declare
    _era text;
    _since pg_snapshot;
begin
    select meta.incarnation || ':' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || ':' into strict _era from bongsu.meta;
    mark := _era || pg_current_snapshot();
    complete := true;
    if _mark is not null then
        complete := false;
        if starts_with(_mark, _era) then
            begin
                _since := substr(_mark, length(_era) + 1)::pg_snapshot;
                -- Whatever was cleared away was seen by the mark.
                select pg_snapshot_xmax(_since) >= pg_snapshot_xmax(cleared) and pg_snapshot_xmax(_since) <= pg_snapshot_xmax(pg_current_snapshot())
                        and not exists (select from pg_snapshot_xip(_since) xid where pg_visible_in_snapshot(xid, cleared))
                    into strict complete from bongsu.journal_state;
            exception when invalid_text_representation then
                complete := false;
            end;
        end if;
    end if;
    return next;
    if not complete or _since is null then
        return;
    end if;
    -- What the mark does not see is what ran at its moment and all that came after. Both are ranges of the index, and short ones, however
    -- long some transaction of somebody else runs.
    return query select null::text, null::boolean, logs.topic, logs.epoch, change.before, change.head
        from (
            select entry.log, min(entry.before) as before, max(entry.head) as head
                from (
                    select * from bongsu.journal where xid >= pg_snapshot_xmax(_since)
                    union all
                    select * from bongsu.journal where xid = any (array(select pg_snapshot_xip(_since)))
                ) journal, unnest(journal.logs, journal.befores, journal.heads) entry (log, before, head)
                group by entry.log
        ) change
        join bongsu.logs on logs.id = change.log
        limit _max;
end
$$;

-- A topic's position: the place of its newest message, or 0 and 0 if it has none. Of the same moment as whatever the caller's statement
-- reads.
create function bongsu.position(topic text, out epoch bigint, out "offset" bigint) language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(max(logs.epoch), 0), coalesce(max(logs.head), 0) from bongsu.logs where logs.topic = position.topic
$$;
