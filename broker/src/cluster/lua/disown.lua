-- Says that sessions of the caller ended.
-- KEYS: for each: owner of the session
-- ARGV: the caller
for i = 1, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[1] then
    redis.call('DEL', KEYS[i])
  end
end
return 'disowned'
