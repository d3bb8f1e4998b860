-- Stores a batch in the caller's transaction: one call, so that a lone publish is one round trip.
--
-- Per topic, in the order of their bytes: how many messages, their bytes, the time of the first one and the largest time.
-- Per message, by topic and within a topic in the order of the batch: the topic's index, which of its topic's messages it is (from 1),
-- its own time, the largest time of its topic up to it, its size, its id's hash in two halves, how long that guards, and what
-- it consists of. Arrays without any value may be null, and own times that are no other than the largest.
--
-- `_known`: all topics are thought to have a log. Then nothing is written to lock them; if one has none after all, the call fails with
-- BS001, and the caller calls again with false.
-- `_careful`: messages depend on one another: by `expect`, or by an id that occurs twice.
--
-- Answers each topic's epoch, head and time as they were before (its epoch as it is), and which messages were not stored.
--
-- Two calls at the same time cannot wait for one another: both lock or make logs in the order of the topics' bytes, and nothing
-- else is waited for after that.
create function bongsu.append(
    _known boolean, _careful boolean,
    _topics text[], _counts bigint[], _bytes bigint[], _first_times bigint[], _last_times bigint[],
    _t integer[], _nth bigint[], _own_times bigint[], _times bigint[], _sizes integer[], _highs bigint[], _lows bigint[],
    _windows bigint[], _expects bigint[], _ids text[], _publishers text[], _content_types text[], _headers text[], _payloads bytea[],
    out epochs bigint[], out heads bigint[], out times bigint[],
    out duplicates bigint[], out duplicate_offsets bigint[], out conflicts bigint[]
) language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
    _logs bigint[];
    _partitions integer[];
    _newest integer;
    _oldest integer;
    _totals bigint[];
    _partition integer;
begin
    select id into _partition from bongsu.partitions where starts <= clock_timestamp() order by starts desc limit 1;
    if not found then
        -- The clock went back to before all of them.
        select min(id) into strict _partition from bongsu.partitions;
    end if;

    if not _known then
        -- Makes what is missing and locks what is there, in one pass over the sorted topics.
        insert into bongsu.logs (topic)
            select topic from unnest(_topics) with ordinality wanted (topic, place) order by place
            on conflict (topic) do update set head = logs.head;
    end if;
    select array_agg(log.id), array_agg(log.epoch), array_agg(log.head), array_agg(log.time), array_agg(log.total),
            array_agg(greatest(log.partition, _partition)), min(log.partition), max(log.partition)
        into _logs, epochs, heads, times, _totals, _partitions, _oldest, _newest
        from (
            select logs.* from unnest(_topics) with ordinality wanted (topic, place)
                join bongsu.logs on logs.topic = wanted.topic order by place for update of logs
        ) log;
    if cardinality(_logs) is distinct from cardinality(_topics) then
        raise exception 'a topic has no log' using errcode = 'BS001';
    end if;

    if not _careful and _highs is not null then
        -- What guards nothing itself may be refused; the others are asked for below.
        _careful := exists (
            select from unnest(_t, _highs, _lows, _windows) message (t, high, low, time_window)
                join bongsu.ids on ids.log = _logs[message.t] and ids.high = message.high and ids.low = message.low
                where message.time_window is null
        );
    end if;
    if not _careful and _windows is not null and cardinality(_t) = 1 then
        insert into bongsu.ids (log, high, low, "offset", until)
            values (_logs[1], _highs[1], _lows[1], heads[1] + 1, least(greatest(times[1], _times[1]) + _windows[1], 9007199254740991))
            on conflict do nothing;
        _careful := not found;
    elsif not _careful and _windows is not null then
        begin
            -- In the order of the key, so that neighbours in the index are written one after another.
            insert into bongsu.ids (log, high, low, "offset", until)
                select _logs[message.t], message.high, message.low, heads[message.t] + message.nth,
                        least(greatest(times[message.t], message.time) + message.time_window, 9007199254740991)
                    from unnest(_t, _nth, _times, _highs, _lows, _windows) message (t, nth, time, high, low, time_window)
                    where message.time_window is not null
                    order by 1, 2;
        exception when unique_violation then
            -- Some were stored before. Asking first would cost every batch a second walk through the index.
            _careful := true;
        end;
    end if;
    if _careful then
        select * into _counts, _bytes, _first_times, _last_times, _nth, _times, duplicates, duplicate_offsets, conflicts
            from bongsu.decide(_logs, heads, times, _t, coalesce(_own_times, _times), _sizes, _highs, _lows, _windows, _expects);
        -- What no message made a log of is no log.
        delete from bongsu.logs using unnest(_logs, epochs, _counts) made (id, epoch, n)
            where logs.id = made.id and made.epoch = 0 and made.n = 0;
    end if;

    -- New logs, and logs whose newest message is in an earlier partition.
    if _oldest < _partition then
        if 0 = any (epochs) then
            select array_agg(case when log.epoch = 0 then greatest(log.first_time, meta.epoch_floor + 1) else log.epoch end order by log.place)
                into epochs
                from bongsu.meta, unnest(epochs, _first_times) with ordinality log (epoch, first_time, place);
        end if;
        insert into bongsu.spans (log, start, partition, time_before, total_before)
            select log.id, log.head + 1, _partition, log.time, log.total
                from unnest(_logs, heads, times, _totals, _counts) batch (id, head, time, total, n)
                join bongsu.logs log on log.id = batch.id
                where batch.n > 0 and log.partition < _partition;
    end if;

    if cardinality(_t) = 1 and not _careful then
        execute format('insert into bongsu.messages_%s values ($1, $2, $3, $4, $5, $6, $7, $8, $9)', _partitions[1])
            using _logs[1], heads[1] + 1, greatest(times[1], _times[1]), _sizes[1], _ids[1], _publishers[1], _content_types[1],
                _headers[1], _payloads[1];
        update bongsu.logs set epoch = epochs[1], head = head + 1, time = greatest(time, _last_times[1]),
                total = total + _bytes[1], bytes = logs.bytes + _bytes[1], partition = _partitions[1]
            where id = _logs[1];
        insert into bongsu.journal values (pg_current_xact_id(), _logs, heads, array[heads[1] + 1]);
        return;
    end if;
    -- More than one only where a clock went back.
    for _partition in select distinct id from unnest(_partitions) id loop
        execute format(
            'insert into bongsu.messages_%s
                select $1[message.t], $2[message.t] + message.nth, greatest($3[message.t], message.time), message.size, message.id,
                    message.publisher, message.content_type, message.headers, message.payload
                from unnest($4, $5, $6, $7, $8, $9, $10, $11, $12)
                    message (t, nth, time, size, id, publisher, content_type, headers, payload)
                where message.nth is not null and $13[message.t] = $14',
            _partition
        ) using _logs, heads, times, _t, _nth, _times, _sizes, _ids, _publishers, _content_types, _headers, _payloads, _partitions,
            _partition;
    end loop;
    update bongsu.logs log set epoch = batch.epoch, head = log.head + batch.n, time = greatest(log.time, batch.time),
            total = log.total + batch.bytes, bytes = log.bytes + batch.bytes, partition = batch.partition
        from unnest(_logs, epochs, _counts, _last_times, _bytes, _partitions) batch (id, epoch, n, time, bytes, partition)
        where log.id = batch.id and batch.n > 0;
    insert into bongsu.journal
        select pg_current_xact_id(), array_agg(batch.log), array_agg(batch.head), array_agg(batch.head + batch.n)
            from unnest(_logs, heads, _counts) batch (log, head, n)
            where batch.n > 0
            having count(*) > 0;
end
$$;

-- Decides a batch message by message, and remembers the ids of those that are to be stored. Answers what `append` is told otherwise;
-- the place of a message that is not stored is null.
create function bongsu.decide(
    _logs bigint[], _heads bigint[], _log_times bigint[],
    _t integer[], _own_times bigint[], _sizes integer[], _highs bigint[], _lows bigint[],
    _windows bigint[], _expects bigint[],
    out counts bigint[], out bytes bigint[], out first_times bigint[], out last_times bigint[], out nth bigint[], out times bigint[],
    out duplicates bigint[], out duplicate_offsets bigint[], out conflicts bigint[]
) language plpgsql
set enable_seqscan = off set jit = off
as $$
declare
    _guard record;
    _log integer;
    _stored bigint;
begin
    counts := array_fill(0::bigint, array[cardinality(_logs)]);
    bytes := counts;
    first_times := array_fill(null::bigint, array[cardinality(_logs)]);
    last_times := _log_times;
    nth := array_fill(null::bigint, array[cardinality(_t)]);
    times := _own_times;
    for i in 1 .. cardinality(_t) loop
        _log := _t[i];
        if _highs[i] is not null then
            select ids."offset", ids.until into _guard from bongsu.ids
                where ids.log = _logs[_log] and ids.high = _highs[i] and ids.low = _lows[i];
            if found and _own_times[i] < _guard.until then
                duplicates := duplicates || i::bigint;
                duplicate_offsets := duplicate_offsets || _guard."offset";
                continue;
            end if;
        end if;
        if _expects[i] <> _heads[_log] + counts[_log] then
            conflicts := conflicts || i::bigint;
            continue;
        end if;
        _stored := greatest(last_times[_log], _own_times[i]);
        counts[_log] := counts[_log] + 1;
        bytes[_log] := bytes[_log] + _sizes[i];
        first_times[_log] := coalesce(first_times[_log], _own_times[i]);
        last_times[_log] := _stored;
        nth[i] := counts[_log];
        times[i] := _stored;
        if _windows[i] is not null then
            insert into bongsu.ids (log, high, low, "offset", until)
                values (
                    _logs[_log], _highs[i], _lows[i], _heads[_log] + counts[_log], least(_stored + _windows[i], 9007199254740991)
                )
                on conflict (log, high, low) do update set "offset" = excluded."offset", until = excluded.until;
        end if;
    end loop;
end
$$;
