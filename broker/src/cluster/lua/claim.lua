-- Gives the caller dead nodes to take away: those whose lease is over, and those that a node took on which then died itself.
-- KEYS: leases, dead, reapers, era
-- ARGV: id of the caller, lease in ms, how many at most
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id, lease, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

if not redis.call('ZSCORE', KEYS[1], id) then
  return {}
end
if now < tonumber(redis.call('HGET', KEYS[4], 'patient_until') or 0) then
  return {}
end
for _, lapsed in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, limit)) do
  -- From here on the node is dead to everybody, itself included: its next renewal finds nothing.
  redis.call('ZREM', KEYS[1], lapsed)
  redis.call('ZADD', KEYS[2], 0, lapsed)
end
local claimed = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, limit)
for _, dead in ipairs(claimed) do
  redis.call('ZADD', KEYS[2], now + lease, dead)
  redis.call('HSET', KEYS[3], dead, id)
end
return claimed
