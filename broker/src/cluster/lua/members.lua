-- Says who is present on a topic.
-- KEYS: leases, era, members of the topic, order of the topic
-- ARGV: id of the node that asks, how many at most
-- Answers 'members', how many there are, the sessions that are longest present, and their values; or 'lapsed', if the node's own
-- may be missing; or 'restoring' and for how many ms, if those of others may.
local id, limit = ARGV[1], tonumber(ARGV[2])
if not redis.call('ZSCORE', KEYS[1], id) then
  return { 'lapsed' }
end
local restored_at = tonumber(redis.call('HGET', KEYS[2], 'restored_at') or 0)
if restored_at > 0 then
  local time = redis.call('TIME')
  local left = restored_at - (time[1] * 1000 + math.floor(time[2] / 1000))
  if left > 0 then
    return { 'restoring', left }
  end
end
local sessions = redis.call('ZRANGE', KEYS[4], 0, limit - 1)
local values = {}
if #sessions > 0 then
  values = redis.call('HMGET', KEYS[3], unpack(sessions))
end
return { 'members', redis.call('ZCARD', KEYS[4]), sessions, values }
