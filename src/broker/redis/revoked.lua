-- Notes revocations. KEYS: the list. ARGV: the channel of all nodes, the end up to which entries are dropped, the number
-- that a list without a revision begins at, then of each revocation its end, what it is, and what it replaces or ''.
local list = KEYS[1]
redis.call('ZREMRANGEBYSCORE', list, 0, ARGV[2])
redis.call('ZADD', list, 'NX', ARGV[3], 'revision')
local news = {}
for i = 4, #ARGV, 3 do
  if ARGV[i + 2] ~= '' then
    redis.call('ZREM', list, ARGV[i + 2])
  end
  if redis.call('ZADD', list, 'GT', 'CH', ARGV[i], ARGV[i + 1]) == 1 then
    news[#news + 1] = '\n' .. ARGV[i] .. ' ' .. ARGV[i + 1]
  end
end
if #news > 0 then
  redis.call('PUBLISH', ARGV[1], 'r' .. redis.call('ZINCRBY', list, 1, 'revision') .. table.concat(news))
end
