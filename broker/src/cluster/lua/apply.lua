-- Brings memberships of a node to what the node says.
-- KEYS: leases, versions, held of the node, then for each change: members of the topic, order of the topic
-- ARGV: id, newest version that the node knows to be written, version of these changes, members of a topic at most,
--       then for each change: what to do ('enter', 'keep' or 'leave'), topic and session, session, since, the rest of the member
-- Answers 'applied' and what came of each change, or 'lapsed', 'behind' or 'late', and nothing was done.
local id, written, version, members_max = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if not redis.call('ZSCORE', KEYS[1], id) then
  return { 'lapsed' }
end
local stored = tonumber(redis.call('HGET', KEYS[2], id) or -1)
if stored < written then
  return { 'behind' }
end
if stored >= version then
  -- The node gave these up long ago and wrote later ones.
  return { 'late' }
end
redis.call('HSET', KEYS[2], id, version)

local function enter(members, order, session, since, rest, place, may_exceed)
  local old = redis.call('HGET', members, session)
  local value = id .. '\n' .. rest
  local outcome = 'joined'
  if old then
    -- Of an earlier registration of the same node perhaps, from which it is taken over here.
    outcome = string.sub(old, string.find(old, '\n', 1, true) + 1) == rest and 'same' or 'changed'
  elseif not may_exceed and redis.call('HLEN', members) >= members_max then
    return 'full'
  end
  if old ~= value then
    redis.call('HSET', members, session, value)
    redis.call('ZADD', order, since, session)
    redis.call('SADD', KEYS[3], place)
  end
  return outcome
end

local function leave(members, order, session, place)
  redis.call('SREM', KEYS[3], place)
  redis.call('ZREM', order, session)
  return redis.call('HDEL', members, session) == 1 and 'left' or 'absent'
end

local answer = { 'applied' }
for i = 0, (#KEYS - 3) / 2 - 1 do
  local members, order = KEYS[4 + 2 * i], KEYS[5 + 2 * i]
  local what, place, session, since, rest = unpack(ARGV, 5 + 5 * i, 9 + 5 * i)
  if what == 'leave' then
    answer[#answer + 1] = leave(members, order, session, place)
  else
    answer[#answer + 1] = enter(members, order, session, since, rest, place, what == 'keep')
  end
end
return answer
