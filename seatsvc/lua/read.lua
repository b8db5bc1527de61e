-- Looks an event's availability up, and takes the fill token when there is none.
-- KEYS: [1] generation, [2] entry (a hash: generation, body), [3] fill token.
-- ARGV: [1] the generation the caller has a copy of, or '', [2] a new fill token, [3] its TTL in ms,
--       [4] how long to remember the generation in ms, [5] the era: what was kept in another one, by
--       the server that this one was a replica of, is not current here.
-- Returns {'same'} | {'entry', generation, body, its TTL in ms} | {'fill', generation} | {'wait'}.
local generation = redis.call('GET', KEYS[1])
if generation then
  generation = generation .. ARGV[5]
  if generation == ARGV[1] then
    return {'same'}
  end
  local entry = redis.call('HMGET', KEYS[2], 'generation', 'body')
  if entry[1] == generation then
    return {'entry', generation, entry[2], redis.call('PTTL', KEYS[2])}
  end
else
  local now = redis.call('TIME')
  generation = now[1] .. string.format('%06d', now[2])
  redis.call('SET', KEYS[1], generation, 'PX', ARGV[4])
  generation = generation .. ARGV[5]
end
if redis.call('SET', KEYS[3], ARGV[2], 'NX', 'PX', ARGV[3]) then
  return {'fill', generation}
end
return {'wait'}
