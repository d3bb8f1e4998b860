-- Says which sessions a node has: those that nobody has are the caller's from here on, for a time.
-- KEYS: for each: owner of the session
-- ARGV: the caller, ms that the owner is kept
-- Answers the owner of each.
local answer = {}
for i = 1, #KEYS do
  local owner = redis.call('GET', KEYS[i])
  if not owner or owner == ARGV[1] then
    redis.call('SET', KEYS[i], ARGV[1], 'PX', ARGV[2])
    owner = ARGV[1]
  end
  answer[i] = owner
end
return answer
