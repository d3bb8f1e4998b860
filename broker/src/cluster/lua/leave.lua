-- Ends a registration in order. What it still holds is taken away by the others as if it were dead, at once.
-- KEYS: leases, nodes, versions, dead, held of the node
-- ARGV: id
local id = ARGV[1]
if redis.call('ZREM', KEYS[1], id) == 1 then
  if redis.call('SCARD', KEYS[5]) == 0 then
    redis.call('HDEL', KEYS[2], id)
    redis.call('HDEL', KEYS[3], id)
  else
    redis.call('ZADD', KEYS[4], 0, id)
  end
end
return 'left'
