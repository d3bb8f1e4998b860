-- Takes memberships of a dead node away; they then wait for their leave to be told.
-- KEYS: dead, reapers, held of the dead node, leaving of the dead node, then for each: members of the topic, order of the topic
-- ARGV: id of the caller, id of the dead node, lease in ms, then for each: topic and session, session
-- Answers 1, or 0 if somebody else took this on.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id, dead, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('HGET', KEYS[2], dead) ~= id then
  return 0
end
redis.call('ZADD', KEYS[1], now + lease, dead)
local owner = dead .. '\n'
for i = 0, (#KEYS - 4) / 2 - 1 do
  local members, order = KEYS[5 + 2 * i], KEYS[6 + 2 * i]
  local place, session = ARGV[4 + 2 * i], ARGV[5 + 2 * i]
  redis.call('SREM', KEYS[3], place)
  local value = redis.call('HGET', members, session)
  -- A node that came back under a new registration took its members over: those stay.
  if value and string.sub(value, 1, #owner) == owner then
    redis.call('HDEL', members, session)
    redis.call('ZREM', order, session)
    redis.call('SADD', KEYS[4], place)
  end
end
return 1
