-- Makes the partitions of the next time, so that one is always there when its time comes. Answers how many it made.
--
-- Their boundaries are whole multiples of the width since 1970, after all that there are.
create function bongsu.make_partitions(_width interval, _n_ahead integer) returns integer language plpgsql as $$
declare
    _last timestamptz;
    _partition integer;
    _n_made integer := 0;
begin
    perform pg_advisory_xact_lock(bongsu.upkeep_lock());
    loop
        select max(starts) into _last from bongsu.partitions;
        exit when _last >= clock_timestamp() + _width * (_n_ahead - 1);
        _last := case
            when _last is null then '-infinity'
            else greatest(date_bin(_width, clock_timestamp(), 'epoch'), date_bin(_width, nullif(_last, '-infinity'), 'epoch') + _width)
        end;
        insert into bongsu.partitions (starts) values (_last) returning id into _partition;
        execute format('create table bongsu.messages_%s (primary key (log, "offset")) inherits (bongsu.messages)', _partition);
        _n_made := _n_made + 1;
    end loop;
    return _n_made;
end
$$;

create function bongsu.upkeep_lock() returns bigint language sql immutable as $$ select 4778914503721119 $$;

-- Partitions whose time is over, in which no log has a message.
create function bongsu.droppable() returns setof integer language sql stable as $$
    select id from bongsu.partitions
        where starts < (select max(starts) from bongsu.partitions where starts <= clock_timestamp())
            and not exists (select from bongsu.spans where spans.partition = partitions.id)
        order by id
$$;

-- Drops a partition, if nothing is in it. An append that began to write there before is waited for, for at most a second.
create function bongsu.drop_partition(_partition integer) returns boolean language plpgsql
set lock_timeout = '1s'
as $$
begin
    if not pg_try_advisory_xact_lock(bongsu.upkeep_lock()) or to_regclass('bongsu.messages_' || _partition) is null then
        return false;
    end if;
    execute format('lock table bongsu.messages_%s in access exclusive mode', _partition);
    -- Looked at again: appends that the lock waited for may have come into it.
    if _partition not in (select bongsu.droppable()) then
        return false;
    end if;
    execute format('drop table bongsu.messages_%s', _partition);
    delete from bongsu.partitions where id = _partition;
    delete from bongsu.dead where partition = _partition;
    return true;
end
$$;

-- Deletes rows of no log any more that are due, at most `_step`. Answers how many; fewer mean that there are no more.
create function bongsu.sweep(_step bigint) returns bigint language plpgsql
set enable_seqscan = off set jit = off
as $$
declare
    _dead bongsu.dead;
    _n_deleted bigint;
    _n_swept bigint := 0;
begin
    if not pg_try_advisory_xact_lock(bongsu.upkeep_lock()) then
        return 0;
    end if;
    for _dead in select * from bongsu.dead where due <= clock_timestamp() order by partition, log limit _step loop
        -- Whatever is before a log's first message is nobody's, also if the log has come back to the partition.
        execute format(
            'delete from bongsu.messages_%1$s where ctid = any (array(
                select ctid from bongsu.messages_%1$s where log = $1
                    and "offset" < coalesce((select first from bongsu.logs where id = $1), 9223372036854775807)
                    order by "offset" limit $2))',
            _dead.partition
        ) using _dead.log, _step - _n_swept;
        get diagnostics _n_deleted = row_count;
        _n_swept := _n_swept + _n_deleted;
        exit when _n_swept >= _step;
        delete from bongsu.dead where partition = _dead.partition and log = _dead.log;
    end loop;
    return _n_swept;
end
$$;

-- Clears journal rows that are older than `_keep` and at most twice as old. Answers how many.
create function bongsu.clear_journal(_keep interval) returns bigint language plpgsql as $$
declare
    _state bongsu.journal_state;
    _n_cleared bigint;
begin
    select * into _state from bongsu.journal_state for update skip locked;
    if not found or _state.next_at > clock_timestamp() - _keep then
        return 0;
    end if;
    -- Both in one transaction: who sees a row missing also sees that it may be.
    delete from bongsu.journal where xid < pg_snapshot_xmax(_state.next) and pg_visible_in_snapshot(xid, _state.next);
    get diagnostics _n_cleared = row_count;
    update bongsu.journal_state set cleared = _state.next, next = pg_current_snapshot(), next_at = clock_timestamp();
    return _n_cleared;
end
$$;
