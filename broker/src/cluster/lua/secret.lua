-- Tells the secret by which nodes know each other. The first that asks gives it.
-- KEYS: secret
-- ARGV: what it shall be if there is none
local secret = redis.call('GET', KEYS[1])
if not secret then
  secret = ARGV[1]
  redis.call('SET', KEYS[1], secret)
end
return secret
