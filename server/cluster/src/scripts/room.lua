#!lua flags=allow-oom
-- room: KEYS its name  ARGV my node, a fresh room id, dead nodes, ms to live; 0: give it up, if it is mine
local is = redis.call('GET', KEYS[1])
local home = is and string.sub(is, 1, 8)
if ARGV[4] == '0' then
 if home == ARGV[1] then redis.call('SET', KEYS[1], is, 'PXAT', 1) end
 return ''
end
local at = home and string.find(ARGV[3], home, 1, true)
while at and at % 8 ~= 1 do at = string.find(ARGV[3], home, at + 1, true) end
if home and home ~= ARGV[1] and not at then return is end
is = ARGV[1] .. (is and string.sub(is, 9, 16) or ARGV[2])
redis.call('SET', KEYS[1], is, 'PX', ARGV[4])
return is
