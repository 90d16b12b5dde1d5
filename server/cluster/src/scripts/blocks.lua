#!lua flags=allow-oom
-- blocks: KEYS blocks  ARGV 'r', generation, number: the first 500 that were written after that number, of this generation;
-- or 'w', a fresh generation, most of all, most of one, then four each: kind, by, of, microseconds to go
-- kinds: 'b' block; 'k' block unless something is known of it, or there is no room: said again after data were lost
-- one hash: gen; last, first, count of what was written; 'l'number -> by 8, of 8, until 8; 'p'by -> of 8, number 8 each, the oldest first
local B, call, sub, pack, num = KEYS[1], redis.call, string.sub, struct.pack, struct.unpack
local now = call('TIME'); now = now[1] * 1000000 + now[2]
local is = call('HMGET', B, 'gen', 'last', 'first', 'count')
local gen, last, first, count = is[1], tonumber(is[2]) or 0, tonumber(is[3]) or 1, tonumber(is[4]) or 0
local function text(number) return string.format('%.0f', number) end
local function line(number) return 'l' .. text(number) end
local function till(rec) return rec and #rec == 24 and num('>I8', rec, 17) end
if ARGV[1] == 'r' then
 local at = gen and gen == ARGV[2] and tonumber(ARGV[3]) or 0
 if at > last then at = 0 end -- the engine has gone back to an older state
 if at < first - 1 then at = first - 1 end
 local to = math.min(last, at + 500)
 local names, out = {}, {}
 for number = at + 1, to do names[#names + 1] = line(number) end
 for _, rec in ipairs(#names > 0 and call('HMGET', B, unpack(names)) or {}) do
  local ends = till(rec)
  if ends and ends > now then out[#out + 1] = sub(rec, 1, 16) .. pack('>I8', ends - now) end
 end
 return {gen or '', text(to), text(last), table.concat(out)}
end
local function list_of(by) -- what they have written; nothing, if it is none of ours
 local list = call('HGET', B, 'p' .. by) or ''
 return #list % 16 == 0 and list or ''
end
local function drop(number) -- what was written under it
 count = count - call('HDEL', B, line(number))
end
local function unlist(by, number)
 local list, entry = list_of(by), pack('>I8', number)
 for at = 1, #list, 16 do
  if sub(list, at + 8, at + 15) == entry then
   list = sub(list, 1, at - 1) .. sub(list, at + 16)
   if #list == 0 then call('HDEL', B, 'p' .. by) else call('HSET', B, 'p' .. by, list) end
   return
  end
 end
end
local function trim(most) -- takes out the oldest that are over, or too many; it passes over 100 numbers at the most
 for _ = 1, 100 do
  if first > last then return end
  local rec = call('HGET', B, line(first))
  local ends = till(rec)
  if ends and ends > now and count <= most then return end
  if rec then drop(first) end
  if ends then unlist(sub(rec, 1, 8), first) end
  first = first + 1
 end
end
if not gen then call('HSET', B, 'gen', ARGV[2]) end
local most, of_one, taken = tonumber(ARGV[3]), ARGV[4] * 16, 0
for i = 5, #ARGV, 4 do
 local kind, by, of, left = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
 local list, at = list_of(by), nil
 for j = 1, #list, 16 do
  if sub(list, j, j + 7) == of then at = j; break end
 end
 local before = at and num('>I8', list, at + 8)
 local ends = before and till(call('HGET', B, line(before)))
 local keeps = kind == 'k' and (ends or count >= most or #list >= of_one)
 -- who blocks the same one over and over writes once in a thirtieth of the time
 if not keeps and not (ends and ends > now + left - left / 30) then
  if not at and #list >= of_one then
   at = 1
   before = num('>I8', list, 9)
  end
  if at then
   drop(before)
   list = sub(list, 1, at - 1) .. sub(list, at + 16)
  end
  last, count, taken = last + 1, count + 1, taken + 1
  call('HSET', B, line(last), by .. of .. pack('>I8', now + left), 'p' .. by, list .. of .. pack('>I8', last))
  trim(most)
 end
end
call('HSET', B, 'last', text(last), 'first', text(first), 'count', text(count))
return taken
