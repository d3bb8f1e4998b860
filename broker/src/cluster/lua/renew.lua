-- Renews a lease.
-- KEYS: leases, versions, era
-- ARGV: id, lease in ms, newest version that the node knows to be written
-- Answers 'renewed'; 'lapsed' if the registration is gone; 'behind' if writes of it are.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id, lease, written = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

if not redis.call('ZSCORE', KEYS[1], id) then
  return 'lapsed'
end
if tonumber(redis.call('HGET', KEYS[2], id) or -1) < written then
  return 'behind'
end
-- Each node renews three times in a lease. If none did for longer than that, it was this server that was away and not the
-- nodes: they get one lease to come back before any of them is taken for dead.
local renewed_at = tonumber(redis.call('HGET', KEYS[3], 'renewed_at') or 0)
if renewed_at > 0 and now - renewed_at > lease * 0.6 then
  redis.call('HSET', KEYS[3], 'patient_until', now + lease)
end
redis.call('HSET', KEYS[3], 'renewed_at', now)
redis.call('ZADD', KEYS[1], now + lease, id)
return 'renewed'
