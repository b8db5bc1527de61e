-- Looks an event's availability up, and takes the fill token when there is none.
-- KEYS: [1] generation, [2] entry (a hash: generation, body), [3] fill token.
-- ARGV: [1] the generation the caller has a copy of, or '', [2] a new fill token, [3] its TTL in ms,
--       [4] how long to remember the generation in ms, [5] the era: what was kept in another one, by
--       the server that this one was a replica of, is not current here.
-- Returns {'same'} | {'entry', generation, body, its TTL in ms} | {'fill', generation} | {'wait'}.
-- What lives longer than its kind does is left from before this server's clock was set back.
local ENTRY_MS = 5000 -- the most that the setting allows
local generation = redis.call('GET', KEYS[1])
if generation then
  generation = generation .. ARGV[5]
  if generation == ARGV[1] then
    return {'same'}
  end
  local entry = redis.call('HMGET', KEYS[2], 'generation', 'body')
  local left_ms = redis.call('PTTL', KEYS[2])
  if entry[1] == generation and left_ms <= ENTRY_MS then
    return {'entry', generation, entry[2], left_ms}
  end
else
  local now = redis.call('TIME')
  generation = now[1] .. string.format('%06d', now[2])
  redis.call('SET', KEYS[1], generation, 'PX', ARGV[4])
  generation = generation .. ARGV[5]
end
local mode = redis.call('PTTL', KEYS[3]) > tonumber(ARGV[3]) and 'XX' or 'NX'
if redis.call('SET', KEYS[3], ARGV[2], mode, 'PX', ARGV[3]) then
  return {'fill', generation}
end
return {'wait'}
