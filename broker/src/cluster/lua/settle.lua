-- Forgets leaves that were told.
-- KEYS: dead, reapers, leaving of the dead node, then for each: members of the topic
-- ARGV: id of the caller, id of the dead node, lease in ms, then for each: topic and session, session
-- Answers, for each, the member if it came back meanwhile, or ''; nothing at all if somebody else took this on.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id, dead, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('HGET', KEYS[2], dead) ~= id then
  return {}
end
redis.call('ZADD', KEYS[1], now + lease, dead)
local answer = {}
for i = 0, #KEYS - 4 do
  redis.call('SREM', KEYS[3], ARGV[4 + 2 * i])
  answer[#answer + 1] = redis.call('HGET', KEYS[4 + i], ARGV[5 + 2 * i]) or ''
end
return answer
