#!lua flags=allow-oom
-- bury: KEYS nodes  ARGV node, its value when last seen ('' without an entry), generation, mark ('x' and when)
local call = redis.call
if call('HGET', KEYS[1], 'gen') ~= ARGV[3] or (call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
call('HSET', KEYS[1], ARGV[1], ARGV[4])
return 1
