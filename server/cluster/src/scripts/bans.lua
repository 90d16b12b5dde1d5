#!lua flags=allow-oom
-- bans: KEYS bans  ARGV none: all of them; else four each: kind, whom, microseconds to go, reason
-- kinds: 'b' ban, 'k' ban unless something is known of them, 'x' lifted, which is kept as long as the ban would have been
local call = redis.call
local now = call('TIME'); now = now[1] * 1000000 + now[2]
local all, known, count = call('HGETALL', KEYS[1]), {}, 0
for i = 1, #all, 2 do
 local till = tonumber(string.match(all[i + 1], '^[bx](%d+) '))
 if till and till > now then
  known[all[i]] = all[i + 1]
  count = count + 1
 else
  call('HDEL', KEYS[1], all[i])
 end
end
if #ARGV == 0 then
 local out = {}
 for whom, value in pairs(known) do
  local kind, till, reason = string.match(value, '^([bx])(%d+) (.*)$')
  out[#out + 1] = {kind, whom, string.format('%.0f', till - now), reason}
 end
 return out
end
local taken = 0
for i = 1, #ARGV, 4 do
 local kind, whom = ARGV[i], ARGV[i + 1]
 local is = known[whom]
 if not (is and kind == 'k') and (is or count < 10000) then
  if not is then count = count + 1 end
  known[whom] = (kind == 'x' and 'x' or 'b') .. string.format('%.0f', now + ARGV[i + 2]) .. ' ' .. ARGV[i + 3]
  call('HSET', KEYS[1], whom, known[whom])
  taken = taken + 1
 end
end
return taken
