#!lua flags=allow-oom
-- keep: KEYS its name  ARGV value, ms to live (0: for good), 'first' if a value that is there stays
local call = redis.call
local is = ARGV[3] == 'first' and call('GET', KEYS[1])
if is then return is end
if ARGV[2] == '0' then call('SET', KEYS[1], ARGV[1]) else call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return ARGV[1]
