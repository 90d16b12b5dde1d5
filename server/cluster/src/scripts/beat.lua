#!lua flags=allow-oom
-- beat: KEYS nodes  ARGV my node, number of this beat, info for the others, a random generation
local call = redis.call
local was = call('HGET', KEYS[1], ARGV[1])
if call('HSETNX', KEYS[1], 'gen', ARGV[4]) == 0 and was and string.sub(was, 1, 1) == 'x' then return {'fenced'} end
-- one that was held up on a connection that was given up does not take the newest back
local newest = was and tonumber(string.match(was, '^a(%d+)'))
if not newest or newest <= tonumber(ARGV[2]) then
 call('HSET', KEYS[1], ARGV[1], 'a' .. ARGV[2] .. ' ' .. ARGV[3])
end
return {'ok', call('TIME'), call('HGETALL', KEYS[1])}
