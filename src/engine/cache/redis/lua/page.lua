-- Reads a page of each of several feeds.
-- In: KEYS[1] state key; ARGV[1] state, ARGV[2] prefix of feeds, ARGV[3] prefix of rings, ARGV[4] users,
-- ARGV[5] id that the page is below ('' for the newest), ARGV[6] maximum number of entries,
-- ARGV[7] key of the last edit, ARGV[8] its seconds to live, ARGV[9] a nonce, then for each user the digest
-- of the page that the caller has, or ''.
-- Result, for each user: {} where the feed is not cached; the number 1 where the page has that digest; else
-- its digest, the ids of its celebrities, then the entries of the feed, of the user's own ring and of each
-- celebrity's ring, each behind its bound. A ring that is not cached is false, and the digest is false then.
-- The digest covers everything that a page is made of, and which edit of a post was the last: the same digest
-- means the same page.
-- Atomic: feed, rings and last edit are of the same moment.
--- @include "state"
local before = ARGV[5] ~= '' and id_at(ARGV[5], 1)
local count = tonumber(ARGV[6])

local function slice(key, base)
  if not before then
    local size = redis.call('STRLEN', key)
    return redis.call('GETRANGE', key, math.max(base, size - 16 * (count + 1)), -1)
  end
  local entries = redis.call('GETRANGE', key, base, -1)
  local low, high = 1, #entries / 16
  while low < high do
    local middle = math.floor((low + high) / 2)
    if id_at(entries, 1 + 16 * middle) < before then low = middle + 1 else high = middle end
  end
  return string.sub(entries, 1 + 16 * math.max(0, low - 1 - count), 16 * low)
end

local function ring(id)
  local key = ARGV[3] .. id
  local _, base = open(key, 8)
  return base and slice(key, base) or false
end

local edit = redis.call('GET', ARGV[7])
if not edit then
  edit = ARGV[9]
  redis.call('SET', ARGV[7], edit, 'EX', ARGV[8])
end

local function page(user, known)
  local key = ARGV[2] .. user
  -- 137 bytes hold the ids of 16 celebrities: most feeds then need no second read of the list.
  local top, base, celebrities = open(key, 136)
  if not base then return {} end
  local list = string.sub(top, 10, 9 + 8 * celebrities)
  if #list < 8 * celebrities then list = redis.call('GETRANGE', key, 9, 8 + 8 * celebrities) end
  local out = { false, list, slice(key, base), ring(user) }
  for at = 1, #list, 8 do out[#out + 1] = ring(string.sub(list, at, at + 7)) end
  for i = 4, #out do
    if not out[i] then return out end
  end
  -- The sizes make the digest unambiguous: without them two slices could be cut at another place.
  local sizes = {}
  for i = 2, #out do sizes[i - 1] = #out[i] end
  out[1] = table.concat(sizes, ' ') .. edit
  out[1] = redis.sha1hex(table.concat(out))
  return out[1] == known and 1 or out
end

local pages = {}
for i = 1, #ARGV[4] / 8 do pages[i] = page(string.sub(ARGV[4], 8 * i - 7, 8 * i), ARGV[9 + i]) end
return pages
