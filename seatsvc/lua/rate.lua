-- Takes one request off a quota, if there is one left (GCRA): a quota comes back evenly, and all
-- that has to be remembered of it is the time at which the whole of it will be back.
-- KEYS: [1] that time, in microseconds of this server's clock; it expires then.
-- ARGV: [1] the whole quota in requests, [2] the time in which one request comes back, in us.
-- Returns {1 if there was one left, else 0; the time until the whole quota is back, in us}.
local step = tonumber(ARGV[2])
local whole = ARGV[1] * step
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
-- Further ahead than a whole quota takes: the clock was set back. That is stored, below, even of a
-- request that is refused, or the next one would find the same.
full_at = math.min(full_at, now + whole)
local allowed = 0
if full_at + step <= now + whole then
  full_at = full_at + step
  allowed = 1
end
local left = full_at - now
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil(left / 1000))
return {allowed, left}
