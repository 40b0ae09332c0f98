-- add(key, entries): inserts entries into a feed or an author's ring that is cached, and appends them to a
-- lease. Returns true if it has written. Skips what must not be added: any entry of a feed that is not
-- cached, a post that is present, a post below the bound, and a post of an author who is not followed (a
-- plan made before an unfollow).
-- Needs includes/state.lua.

-- LIMIT is FEED_LIMIT of model/feed.ts. A ring is cut to LIMIT when it holds SLACK more, so that the
-- cost of rewriting the value is paid once in 250 entries.
local LIMIT, SLACK = 1000, 250

-- Returns how many of the rising ids, which are `step` bytes apart, are not above `id`. The first `low`
-- are known not to be. Doubles its stride first, as the answer is mostly close to `low`.
local function upto(ids, from, step, low, count, id)
  local high, stride = low, 1
  while high < count and id_at(ids, from + step * high) <= id do
    low = high + 1
    high = low + stride
    stride = 2 * stride
  end
  if high > count then high = count end
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if id_at(ids, from + step * (middle - 1)) <= id then low = middle else high = middle - 1 end
  end
  return low
end

-- Returns the entries of followed authors, or all entries without followees (a ring): rising, each once.
local function wanted(key, entries, top, base, celebrities, followees)
  local list, from = top, 10 + 8 * celebrities
  if followees and base > #top then list, from = redis.call('GETRANGE', key, from - 1, base - 1), 1 end
  local found, rising, newest, author, follows = {}, true, 0, false, true
  for at = 1, #entries, 16 do
    local by = followees and string.sub(entries, at + 8, at + 15)
    if by ~= author then
      author = by
      local id = id_at(by, 1)
      local place = upto(list, from, 8, 0, followees, id)
      follows = place > 0 and id_at(list, from + 8 * (place - 1)) == id
    end
    if follows then
      local id = id_at(entries, at)
      rising = rising and id > newest
      newest = id
      found[#found + 1] = { id, string.sub(entries, at, at + 15) }
    end
  end
  if rising then return found end
  table.sort(found, function(a, b) return a[1] < b[1] end)
  local distinct = {}
  for i, entry in ipairs(found) do
    if i == 1 or entry[1] ~= found[i - 1][1] then distinct[#distinct + 1] = entry end
  end
  return distinct
end

local function add(key, entries)
  -- 4,096 bytes hold the ids of 500 followees: most feeds then need no second read of the list.
  local top, base, celebrities, followees = open(key, 4095)
  if top == '' then return end
  if not base then
    if redis.call('APPEND', key, entries) > 9 + 16 * LIMIT then redis.call('DEL', key) end
    return true
  end
  local found = wanted(key, entries, top, base, celebrities, string.byte(top) == 72 and followees or false)
  if #found == 0 then return end
  local parts = {}
  if found[1][1] > id_at(redis.call('GETRANGE', key, -16, -1), 1) then
    for i, entry in ipairs(found) do parts[i] = entry[2] end
    redis.call('APPEND', key, table.concat(parts))
  else
    local present = redis.call('GETRANGE', key, base, -1)
    local first, from, to = nil, 0, 0
    for _, entry in ipairs(found) do
      to = upto(present, 1, 16, to, #present / 16, entry[1])
      if to > 0 and id_at(present, 16 * to - 15) ~= entry[1] then
        if first then parts[#parts + 1] = string.sub(present, 16 * from + 1, 16 * to) else first = to end
        parts[#parts + 1] = entry[2]
        from = to
      end
    end
    if not first then return end
    parts[#parts + 1] = string.sub(present, 16 * from + 1)
    redis.call('SETRANGE', key, base + 16 * first, table.concat(parts))
  end
  if redis.call('STRLEN', key) - base > 16 * (LIMIT + SLACK) then
    local head = redis.call('GETRANGE', key, 0, base - 1)
    local kept = head .. redis.call('GETRANGE', key, -16 * (LIMIT + 1), -1)
    redis.call('SET', key, kept, 'KEEPTTL')
  end
  return true
end
