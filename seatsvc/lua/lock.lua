-- Locks the seats of several requests of one event, each request all or none.
-- KEYS: the seats' locks, request after request.
-- ARGV: [1] TTL in ms, [2] for each request its token and how many of the keys are its own.
-- Returns for each request the positions (from 1, among its own keys) that others hold; none: locked.
local LONGEST_MS = 60000 -- the most that the setting allows
local results = {}
local first = 1
for token, count in string.gmatch(ARGV[2], '(%S+) (%d+)') do
  local last = first + count - 1
  local busy = {}
  for key = first, last do
    local owner = redis.call('GET', KEYS[key])
    -- Our own token: an earlier reply was lost. That must not lock us out. Nor must one that lives
    -- longer than any lock may: this server's clock was set back.
    if owner and owner ~= token and redis.call('PTTL', KEYS[key]) <= LONGEST_MS then
      busy[#busy + 1] = key - first + 1
    end
  end
  if #busy == 0 then
    for key = first, last do
      redis.call('SET', KEYS[key], token, 'PX', ARGV[1])
    end
  end
  results[#results + 1] = busy
  first = last + 1
end
return results
