-- Ends a write: from now on no reader takes the cached entry for current, those who watch the event
-- are told (under its generation's name), and the seats unlock.
-- KEYS: [1] the event's generation, [2] its cached entry, then the seats' locks.
-- ARGV: [1] how long to remember the generation in ms, [2] the tokens, one for each lock.
-- Returns how many of the locks were still ours.
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('INCR', KEYS[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
else
  -- Seeded from the clock, so that a wiped Redis never counts through the same numbers again.
  local now = redis.call('TIME')
  redis.call('SET', KEYS[1], now[1] .. string.format('%06d', now[2]), 'PX', ARGV[1])
end
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', KEYS[1], '')
local ours, key = 0, 3
for token in string.gmatch(ARGV[2], '%S+') do
  if redis.call('GET', KEYS[key]) == token then
    ours = ours + redis.call('DEL', KEYS[key])
  end
  key = key + 1
end
return ours
