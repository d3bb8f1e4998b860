-- Forgets a dead node that holds nothing any more.
-- KEYS: dead, reapers, nodes, versions, held of the dead node, leaving of the dead node
-- ARGV: id of the caller, id of the dead node
local id, dead = ARGV[1], ARGV[2]
if redis.call('HGET', KEYS[2], dead) ~= id then
  return 0
end
if redis.call('SCARD', KEYS[5]) > 0 or redis.call('SCARD', KEYS[6]) > 0 then
  return 0
end
redis.call('ZREM', KEYS[1], dead)
redis.call('HDEL', KEYS[2], dead)
redis.call('HDEL', KEYS[3], dead)
redis.call('HDEL', KEYS[4], dead)
return 1
