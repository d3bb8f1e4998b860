-- Takes a log's oldest messages away while one of these holds: its time is before `_oldest`, its offset is at most `_until`, more than
-- `_keep` messages are kept, more than `_bytes` bytes are and it is not the newest. Null is no bound.
--
-- Whole spans go at once: their rows are left to the end of their partition, or deleted when they are due. Of the span that is left,
-- at most `_step` messages go, which are read, and deleted unless it is for their age: then they are left as well.
create function bongsu.trim(
    _topic text, _oldest bigint, _until bigint, _keep bigint, _bytes bigint, _step bigint, _due timestamptz,
    out removed bigint, out more boolean
) language plpgsql
set enable_seqscan = off set jit = off
as $$
declare
    _log bongsu.logs;
    _span bongsu.spans;
    _next bongsu.spans;
    _excess_bytes bigint;
    _n_excess bigint;
    _n_deleted bigint;
    _n_bytes bigint;
begin
    removed := 0;
    more := false;
    select * into _log from bongsu.logs where topic = _topic;
    if not found or not bongsu.exceeds(_log, _oldest, _until, _keep, _bytes) then
        return;
    end if;
    select * into _log from bongsu.logs where topic = _topic for update;
    if not found or _log.partition = 0 then
        return;
    end if;
    _until := greatest(coalesce(_until, 0), _log.head - coalesce(_keep, _log.head));
    _excess_bytes := _log.bytes - coalesce(_bytes, _log.bytes);
    loop
        select * into strict _span from bongsu.spans where log = _log.id order by start limit 1;
        select * into _next from bongsu.spans where log = _log.id and start > _span.start order by start limit 1;
        exit when not found;
        -- The span's last message goes, and with it all before. Of bytes, one less than what they come to, for a last message of none.
        exit when not (
            _next.time_before < coalesce(_oldest, 0) or _next.start <= _until + 1
            or _next.total_before - (_log.total - _log.bytes) < _excess_bytes
        );
        removed := removed + _next.start - _log.first;
        _excess_bytes := _excess_bytes - (_next.total_before - (_log.total - _log.bytes));
        _log.first := _next.start;
        _log.bytes := _log.total - _next.total_before;
        delete from bongsu.spans where log = _log.id and start = _span.start;
        insert into bongsu.dead values (_span.partition, _log.id, _due)
            on conflict (partition, log) do update set due = least(dead.due, excluded.due);
    end loop;

    execute format(
        'select count(*), count(*) filter (where "offset" <= $6 or (before < $7 and "offset" < $8)),
                coalesce(sum(size) filter (where "offset" < $2 + $4), 0)
            from (
                select "offset", time, size, sum(size) over (order by "offset" rows unbounded preceding) - size as before
                    from (
                        select "offset", time, size from bongsu.messages_%s
                            where log = $1 and "offset" >= $2 and "offset" < $3 order by "offset" limit $4 + 1
                    ) oldest
            ) message
            where time < $5 or "offset" <= $6 or (before < $7 and "offset" < $8)',
        _span.partition
    ) into strict _n_excess, _n_deleted, _n_bytes
        using _log.id, _log.first, coalesce(_next.start, _log.head + 1), _step, coalesce(_oldest, 0), _until, _excess_bytes, _log.head;
    more := _n_excess > _step;
    _n_excess := least(_n_excess, _step);
    if _n_deleted > 0 then
        execute format('delete from bongsu.messages_%s where log = $1 and "offset" >= $2 and "offset" < $3', _span.partition)
            using _log.id, _log.first, _log.first + least(_n_deleted, _n_excess);
    end if;
    removed := removed + _n_excess;
    _log.first := _log.first + _n_excess;
    _log.bytes := _log.bytes - _n_bytes;
    if _log.first > _log.head then
        -- A log without messages keeps no partition.
        delete from bongsu.spans where log = _log.id;
        insert into bongsu.dead values (_span.partition, _log.id, _due)
            on conflict (partition, log) do update set due = least(dead.due, excluded.due);
        _log.partition := 0;
    end if;
    update bongsu.logs set first = _log.first, bytes = _log.bytes, partition = _log.partition where id = _log.id;
end
$$;

-- Whether a log's oldest message is to go.
create function bongsu.exceeds(_log bongsu.logs, _oldest bigint, _until bigint, _keep bigint, _bytes bigint)
returns boolean language plpgsql stable
set enable_seqscan = off set jit = off
as $$
declare
    _partition integer;
    _time bigint;
begin
    if _log.first > _log.head then
        return false;
    end if;
    if _until >= _log.first or _log.head - _keep >= _log.first or (_log.bytes > _bytes and _log.first < _log.head) then
        return true;
    end if;
    if _oldest is null or _oldest <= 0 then
        return false;
    end if;
    select partition into strict _partition from bongsu.spans where log = _log.id order by start limit 1;
    execute format('select time from bongsu.messages_%s where log = $1 and "offset" = $2', _partition)
        into strict _time using _log.id, _log.first;
    return _time < _oldest;
end
$$;

-- Takes the content of one message away. Answers whether there was any.
create function bongsu.erase(_topic text, _epoch bigint, _offset bigint) returns boolean language plpgsql
set enable_seqscan = off set jit = off
as $$
declare
    _log bongsu.logs;
    _partition integer;
    _bytes bigint;
begin
    select * into _log from bongsu.logs where topic = _topic for update;
    if not found or _log.epoch <> _epoch or _offset < _log.first or _offset > _log.head then
        return false;
    end if;
    select partition into strict _partition from bongsu.spans where log = _log.id and start <= _offset order by start desc limit 1;
    execute format(
        'select size - coalesce(octet_length(id), 0) from bongsu.messages_%s where log = $1 and "offset" = $2 and payload is not null',
        _partition
    ) into _bytes using _log.id, _offset;
    if _bytes is null then
        return false;
    end if;
    execute format(
        'update bongsu.messages_%s set size = coalesce(octet_length(id), 0), content_type = null, headers = null, payload = null
            where log = $1 and "offset" = $2',
        _partition
    ) using _log.id, _offset;
    update bongsu.logs set total = total - _bytes, bytes = bytes - _bytes where id = _log.id;
    update bongsu.spans set total_before = total_before - _bytes where log = _log.id and start > _offset;
    return true;
end
$$;

-- Takes a log away. Answers how many messages it had, or null if there is none. Its rows follow when they are due: now.
create function bongsu.forget_log(_topic text) returns bigint language plpgsql
set enable_seqscan = off set jit = off
as $$
declare
    _log bongsu.logs;
begin
    select * into _log from bongsu.logs where topic = _topic for update;
    if not found then
        return null;
    end if;
    insert into bongsu.dead (partition, log, due) select partition, log, clock_timestamp() from bongsu.spans where log = _log.id
        on conflict (partition, log) do update set due = excluded.due;
    delete from bongsu.spans where log = _log.id;
    delete from bongsu.logs where id = _log.id;
    -- After the log's row, so that deletions of several logs wait here and nowhere else.
    update bongsu.meta set epoch_floor = greatest(epoch_floor, _log.epoch);
    return _log.head + 1 - _log.first;
end
$$;

-- Takes ids away whose window has passed, those that nobody else is at, in the order of the table and after a place in it. Answers the
-- place up to which it looked; what is before it is not looked at again by a walk that goes on there.
create function bongsu.forget_ids(_now bigint, _step bigint, _after text, out removed bigint, out more boolean, out last text)
language plpgsql
set enable_seqscan = off set jit = off
as $$
declare
    _passed tid[];
begin
    _passed := array(
        select ctid from bongsu.ids where ctid > coalesce(_after, '(0,0)')::tid and until <= _now limit _step for update skip locked
    );
    delete from bongsu.ids where ctid = any (_passed);
    removed := cardinality(_passed);
    last := _passed[removed]::text;
    more := removed = _step
        and exists (select from bongsu.ids where ctid > last::tid and until <= _now);
end
$$;
