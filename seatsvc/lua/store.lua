-- Stores a filled entry, only if nothing was written meanwhile and the fill token still lives.
-- KEYS: [1] generation, [2] entry, [3] fill token.
-- ARGV: [1] the generation filled for, [2] our fill token, [3] body, [4] TTL in ms, [5] the era.
-- Returns 1 if it was stored.
if redis.call('GET', KEYS[3]) ~= ARGV[2] then
  return 0
end
redis.call('DEL', KEYS[3])
if (redis.call('GET', KEYS[1]) or '') .. ARGV[5] ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[2], 'generation', ARGV[1], 'body', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
