-- Notes revocations. KEYS: the list. ARGV: the channel of all nodes, for how many milliseconds entries are kept beyond their
-- end, the number that a list without a revision begins at, then of each revocation its end, what it is, and what it
-- replaces or ''. Whether an end is over is seen by the clock of this Redis: no node's own may delete what others need.
local list = KEYS[1]
local time = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', list, 0, string.format('%.0f', time[1] * 1000 - ARGV[2]))
-- A revision is below zero and a whole number: anything else was put there by nobody of ours, and could not be counted on.
local revision = tonumber(redis.call('ZSCORE', list, 'revision') or '')
if not (revision and revision > -2 ^ 52 and revision < 0 and revision % 1 == 0) then
  redis.call('ZADD', list, ARGV[3], 'revision')
end
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
