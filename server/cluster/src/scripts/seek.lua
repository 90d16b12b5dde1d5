#!lua flags=allow-oom
-- KEYS tickets, pools, nodes  ARGV my node, number of my last beat, dead nodes, suspects, then five per operation:
-- kind, ticket, waited us, pools, ids (session 8, person 8, avoided 8 each)
local T, P, me, dead, sus = KEYS[1], KEYS[2], ARGV[1], ARGV[3], ARGV[4]
local sub, find, pack, num, call = string.sub, string.find, struct.pack, struct.unpack, redis.call
local is = call('HGET', KEYS[3], me)
if is then -- buried, or two later beats have come: this was on its way for so long that its node has given it up
 local beat = tonumber(string.match(is, '^a(%d+)'))
 if sub(is, 1, 1) == 'x' or (beat and beat > ARGV[2] + 1) then return {ok = 'STALE'} end
end
local now = call('TIME'); now = now[1] * 1000000 + now[2]
local function has(list, id, size) -- where an id stands in a list of ids that are so long
 local at = find(list, id, 1, true)
 while at and at % size ~= 1 do at = find(list, id, at + 1, true) end
 return at
end
local function split(list)
 local names = {}
 for i = 1, #list, 17 do names[#names + 1] = sub(list, i, i + 16) end
 return names
end
local function cut(names, queues, entry) -- takes an entry out of pools
 local gone, keep = {}, {}
 for i, name in ipairs(names) do
  local q = queues[i] or ''
  local at = has(q, entry, 20)
  if at and #q == 20 then gone[#gone + 1] = name
  elseif at then keep[#keep + 1] = name; keep[#keep + 1] = sub(q, 1, at - 1) .. sub(q, at + 20) end
 end
 if #gone > 0 then call('HDEL', P, unpack(gone)) end
 if #keep > 0 then call('HSET', P, unpack(keep)) end
end
-- a record: since 8, node 8, length of pools 2, pools, ids
local function stood(rec) -- its pools, and what is in them
 local names = split(sub(rec, 19, 18 + num('>I2', rec, 17)))
 return names, call('HMGET', P, unpack(names))
end
local function unlink(id, rec)
 local names, queues = stood(rec)
 cut(names, queues, sub(rec, 1, 8) .. id)
 call('HDEL', T, id)
end
local function whole(id, rec) -- an engine that evicts loses pools and keeps records
 local names, queues = stood(rec)
 for i = 1, #names do
  if not (queues[i] and has(queues[i], sub(rec, 1, 8) .. id, 20)) then return false end
 end
 return true
end
local function fits(ids, rec) -- not oneself, nobody avoided, either way
 local n = num('>I2', rec, 17)
 local s, p, av, mine = sub(rec, 19 + n, 26 + n), sub(rec, 27 + n, 34 + n), sub(rec, 35 + n), sub(ids, 17)
 return s ~= sub(ids, 1, 8) and p ~= sub(ids, 9, 16) and not (#mine > 0 and (has(mine, s, 8) or has(mine, p, 8)))
  and not (#av > 0 and (has(av, sub(ids, 1, 8), 8) or has(av, sub(ids, 9, 16), 8)))
end
local function oldest(ids, id, names, queues) -- of the narrowest level that has anybody
 local best, rec, level, dirty
 for i, name in ipairs(names) do
  if best and sub(name, 1, 1) ~= level then break end
  level = sub(name, 1, 1)
  local q = queues[i] or ''
  for at = 1, math.min(#q, 640), 20 do
   local entry = sub(q, at, at + 19)
   if best and entry >= best then break end
   local other = sub(entry, 9)
   local r = other ~= id and call('HGET', T, other)
   if other == id then
   elseif not r then cut({name}, call('HMGET', P, name), entry); dirty = true
   elseif #dead > 0 and has(dead, sub(r, 9, 16), 8) then unlink(other, r); dirty = true
   elseif not (#sus > 0 and has(sus, sub(r, 9, 16), 8)) and fits(ids, r) then best, rec = entry, r; break end
  end
 end
 return best, rec, level, dirty
end
local out = {}
for a = 5, #ARGV, 5 do
 local kind, id, waited, pools, ids = unpack(ARGV, a, a + 4)
 local old = kind ~= 'D' and call('HGET', T, id)
 if kind == 'W' then -- withdraw. One that comes late must not take out whom another process has posted meanwhile
  old = old and sub(old, 9, 14) == sub(me, 1, 6) and old
  if old then unlink(id, old) end
  out[#out + 1] = old and '1' or '0'
 elseif kind == 'C' then -- still posted, as mine, in all its pools?
  out[#out + 1] = (old and sub(old, 9, 16) == me and whole(id, old)) and '1' or '0'
 elseif kind == 'D' then -- sweep the dead: id is the cursor, waited how many
  local page = call('HSCAN', T, id, 'COUNT', waited)
  for i = 1, #page[2], 2 do
   if has(dead, sub(page[2][i + 1], 9, 16), 8) then unlink(page[2][i], page[2][i + 1]) end
  end
  out[#out + 1] = page[1]
 else -- S: seek. It may stand there: an engine that has gone back to an older state knows tickets that it had given away
  if old then unlink(id, old) end
  local names = split(pools)
  local queues = call('HMGET', P, unpack(names))
  local best, rec, level, dirty = oldest(ids, id, names, queues)
  if best then
   unlink(sub(best, 9), rec)
   out[#out + 1] = best .. sub(rec, 9, 16) .. level
  else
   local entry, set = pack('>I8', now - waited) .. id, {}
   if dirty then queues = call('HMGET', P, unpack(names)) end
   for i, name in ipairs(names) do
    local q = queues[i] or ''
    local at = #q + 1
    while at > 1 and sub(q, at - 20, at - 1) > entry do at = at - 20 end
    set[#set + 1] = name; set[#set + 1] = sub(q, 1, at - 1) .. entry .. sub(q, at)
   end
   call('HSET', P, unpack(set))
   call('HSET', T, id, sub(entry, 1, 8) .. me .. pack('>I2', #pools) .. pools .. ids)
   out[#out + 1] = ''
  end
 end
end
return out
