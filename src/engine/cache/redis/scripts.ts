/**
 * What runs inside Redis: each script is atomic. All take KEYS[1], where the state of the cache stands (epoch and
 * nonce), and ARGV[1], what the caller takes it for; where the two differ they do nothing and fail with STALE.
 *
 * One key holds all there is of one feed, so that an eviction can never take half of it. Ids are 8 bytes, big-endian;
 * an entry is 16 bytes: post, author. Entries are in rising order, and the first one only marks that everything
 * above it is there.
 *
 *     feed    'H', u32 celebrities, u32 followees, their ids (rising), entries
 *     author  'R', u32 0, u32 0, entries
 *     lease   'L', token (8 bytes), entries that came meanwhile
 *     post    'P' or 'D' (deleted), u32 version, f64 created at (unix ms), author, text
 */
const STATE = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('STALE') end
local function id_at(bytes, at)
  local high, low = struct.unpack('>I4I4', bytes, at)
  return high * 4294967296 + low
end
local function open(key, last)
  local top = redis.call('GETRANGE', key, 0, last)
  if top == '' or string.byte(top) == 76 then return top end
  local celebrities, followees = struct.unpack('>I4I4', top, 2)
  return top, 9 + 8 * (celebrities + followees), celebrities, followees
end
`;

/**
 * `add(key, entries)`: puts entries where they belong in a feed or an author's ring that is held, or behind what waits
 * for a refill. Nothing for a feed that is not held, a post that is there, one below what is held, or an author who is
 * not followed: a plan that is older than an unfollow may still be on its way.
 */
const ADD = `
local LIMIT, SLACK = 1000, 250
-- How many of the rising ids, each \`step\` bytes behind the other, are not above the id; \`low\` of them are known not to be.
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
-- Those of followed authors; of all where there are no followees. In rising order, each once.
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
  -- Enough for the ids of 500 followees: then the first read of a key is the only one of its list.
  local top, base, celebrities, followees = open(key, 4095)
  if top == '' then return end
  if not base then
    if redis.call('APPEND', key, entries) > 9 + 16 * LIMIT then redis.call('DEL', key) end
    return
  end
  local found = wanted(key, entries, top, base, celebrities, string.byte(top) == 72 and followees or false)
  if #found == 0 then return end
  local parts = {}
  if found[1][1] > id_at(redis.call('GETRANGE', key, -16, -1), 1) then
    for i, entry in ipairs(found) do parts[i] = entry[2] end
    redis.call('APPEND', key, table.concat(parts))
  else
    local held = redis.call('GETRANGE', key, base, -1)
    local first, from, to = nil, 0, 0
    for _, entry in ipairs(found) do
      to = upto(held, 1, 16, to, #held / 16, entry[1])
      if to > 0 and id_at(held, 16 * to - 15) ~= entry[1] then
        if first then parts[#parts + 1] = string.sub(held, 16 * from + 1, 16 * to) else first = to end
        parts[#parts + 1] = entry[2]
        from = to
      end
    end
    if not first then return end
    parts[#parts + 1] = string.sub(held, 16 * from + 1)
    redis.call('SETRANGE', key, base + 16 * first, table.concat(parts))
  end
  if redis.call('STRLEN', key) - base > 16 * (LIMIT + SLACK) then
    local kept = redis.call('GETRANGE', key, 0, base - 1) .. redis.call('GETRANGE', key, -16 * (LIMIT + 1), -1)
    redis.call('SET', key, kept, 'KEEPTTL')
  end
end
`;

/** In: the state. Epoch and nonce as they are from now on: ARGV[1] epoch, ARGV[2] a nonce; an epoch never falls. */
const ADOPT = `
local state = redis.call('GET', KEYS[1])
if state and tonumber(string.match(state, '^%d+')) >= tonumber(ARGV[1]) then return state end
state = ARGV[1] .. ':' .. ARGV[2]
redis.call('SET', KEYS[1], state, 'EX', 604800)
return state
`;

/** In: prefix of the keys, then for each feed or ring: whose, u32 entries, the entries. */
const PUSH = `${STATE}${ADD}
local prefix, all, at = ARGV[2], ARGV[3], 1
while at <= #all do
  local next = at + 12 + 16 * struct.unpack('>I4', all, at + 8)
  add(prefix .. string.sub(all, at, at + 7), string.sub(all, at + 12, next - 1))
  at = next
end
return 0
`;

/** In: prefix, ids. A refill that is under way loses its lease. */
const FORGET = `${STATE}
for at = 1, #ARGV[3], 8 do redis.call('UNLINK', ARGV[2] .. string.sub(ARGV[3], at, at + 7)) end
return 0
`;

/**
 * In: prefix, ids, token, prefix of the bitmap, u32 slots, one for each id. Out: for each id 'L' where the lease is
 * the caller's now, 'l' where it is another's, 'H' where something is held. The slot is marked ahead of the load:
 * whoever finds it unmarked after a commit knows that every load to come will see what was committed.
 */
const LEASE = `${STATE}
local marks = ARGV[5] .. math.floor(redis.call('TIME')[1] / 3600)
local got = {}
for i = 0, #ARGV[3] / 8 - 1 do
  local key = ARGV[2] .. string.sub(ARGV[3], 8 * i + 1, 8 * i + 8)
  if redis.call('SET', key, 'L' .. ARGV[4], 'NX', 'PX', 5000) then
    redis.call('SETBIT', marks, struct.unpack('>I4', ARGV[6], 4 * i + 1), 1)
    got[#got + 1] = 'L'
  else
    got[#got + 1] = redis.call('GETRANGE', key, 0, 0) == 'L' and 'l' or 'H'
  end
end
redis.call('EXPIRE', marks, 7300)
return table.concat(got)
`;

/** In: prefix of the bitmap. Out: the marks of this hour and of the last; nothing is held for longer than an hour. */
const MARKS = `${STATE}
local hour = math.floor(redis.call('TIME')[1] / 3600)
return redis.call('MGET', ARGV[2] .. hour, ARGV[2] .. (hour - 1))
`;

/**
 * In: token, seconds to live, then key and value in turns. Keeps a value where the lease is still there, with what
 * was pushed meanwhile; an empty value gives the lease back. Out: how many were kept.
 */
const FILL = `${STATE}${ADD}
local lease, kept = 'L' .. ARGV[2], 0
for i = 4, #ARGV, 2 do
  local key, value = ARGV[i], ARGV[i + 1]
  local held = redis.call('GET', key)
  if held and string.sub(held, 1, 9) == lease then
    if value == '' then
      redis.call('DEL', key)
    else
      redis.call('SET', key, value, 'EX', ARGV[3])
      add(key, string.sub(held, 10))
      kept = kept + 1
    end
  end
end
return kept
`;

/**
 * In: prefix of feeds, prefix of authors, users, before (an id, or '' for the newest), count, key of the last edit, its
 * seconds to live, a nonce, then for each user a seal or ''. Out for each user: nothing where the feed is not held; the
 * number 1 where the page has that seal; else its seal, its celebrities, then up to count entries below \`before\` of the
 * feed, of one's own posts and of each celebrity's, each behind the entry above which it is complete; false where a ring
 * is not held, and for the seal then. A seal is the digest of all that a page is made of, and of which edit of a post was
 * the last: with the same seal it is the same page.
 */
const PAGE = `${STATE}
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
local function page(user, seal)
  local key = ARGV[2] .. user
  -- Enough for the ids of 16 celebrities.
  local top, base, celebrities = open(key, 136)
  if not base then return {} end
  local list = string.sub(top, 10, 9 + 8 * celebrities)
  if #list < 8 * celebrities then list = redis.call('GETRANGE', key, 9, 8 + 8 * celebrities) end
  local out = { false, list, slice(key, base), ring(user) }
  for at = 1, #list, 8 do out[#out + 1] = ring(string.sub(list, at, at + 7)) end
  for i = 4, #out do
    if not out[i] then return out end
  end
  -- The list of celebrities says how many slices there are; each begins with its bound, and ends where its entries do.
  local sizes = {}
  for i = 2, #out do sizes[i - 1] = #out[i] end
  out[1] = table.concat(sizes, ' ') .. edit
  out[1] = redis.sha1hex(table.concat(out))
  return out[1] == seal and 1 or out
end
local pages = {}
for i = 1, #ARGV[4] / 8 do pages[i] = page(string.sub(ARGV[4], 8 * i - 7, 8 * i), ARGV[9 + i]) end
return pages
`;

/** Keeps posts that are newer than what is there: from argument \`first\` on key and value in turns. */
const KEEP_POSTS = `
local function keep(first, seconds)
  for i = first, #ARGV, 2 do
    local held = redis.call('GETRANGE', ARGV[i], 1, 4)
    if held == '' or struct.unpack('>I4', held) < struct.unpack('>I4', ARGV[i + 1], 2) then
      redis.call('SET', ARGV[i], ARGV[i + 1], 'EX', seconds)
    end
  end
end
`;

/** In: seconds to live, then key and value of posts in turns. */
const POSTS = `${STATE}${KEEP_POSTS}
keep(3, ARGV[2])
return 0
`;

/** In: key of the last edit, a nonce, then as POSTS: what follows was edited or deleted, and seals of before are no more. */
const EDIT = `${STATE}${KEEP_POSTS}
redis.call('SET', ARGV[2], ARGV[3], 'EX', ARGV[4])
keep(5, ARGV[4])
return 0
`;

export const SCRIPTS = { ADOPT, PUSH, FORGET, LEASE, MARKS, FILL, PAGE, POSTS, EDIT } as const;
export type ScriptName = keyof typeof SCRIPTS;
