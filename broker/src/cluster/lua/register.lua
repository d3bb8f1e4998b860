-- Begins a registration: a node that starts, or one whose earlier registration is no longer good.
-- KEYS: leases, nodes, versions, era
-- ARGV: id, record, lease in ms, earlier id or '', era that the node knew or '', name for a new era
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id, record, lease, earlier, known, fresh = unpack(ARGV)
lease = tonumber(lease)

local era = redis.call('HGET', KEYS[4], 'id')
if not era then
  era = fresh
  redis.call('HSET', KEYS[4], 'id', era)
end
if known ~= '' and known ~= era then
  -- Everything was lost, and this node knew of more: for one lease the others may have yet to put theirs back.
  redis.call('HSET', KEYS[4], 'restored_at', now + lease)
end
if earlier ~= '' and redis.call('ZSCORE', KEYS[1], earlier) then
  -- What the node takes over within a lease belongs to the new registration; the rest of the old one is then taken away.
  redis.call('ZADD', KEYS[1], now + lease, earlier)
end
redis.call('ZADD', KEYS[1], now + lease, id)
redis.call('HSET', KEYS[2], id, record)
redis.call('HSET', KEYS[3], id, 0)
-- As in a renewal: if nobody renewed for so long, the others are not taken for dead before they could come back.
local renewed_at = tonumber(redis.call('HGET', KEYS[4], 'renewed_at') or 0)
if renewed_at > 0 and now - renewed_at > lease * 0.6 then
  redis.call('HSET', KEYS[4], 'patient_until', now + lease)
end
redis.call('HSET', KEYS[4], 'renewed_at', now)
return era
