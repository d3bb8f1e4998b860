-- Lists the nodes.
-- KEYS: leases, nodes
-- ARGV: how many at most
-- Answers, for each: id, record, ms of its lease that are left (below 0: it lapsed, and nobody took it away yet).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {}
local leases = redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1, 'WITHSCORES')
for i = 1, #leases, 2 do
  answer[#answer + 1] = leases[i]
  answer[#answer + 1] = redis.call('HGET', KEYS[2], leases[i]) or ''
  answer[#answer + 1] = leases[i + 1] - now
end
return answer
