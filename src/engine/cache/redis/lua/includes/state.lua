-- In: KEYS[1], the key that holds the state of the cache (epoch and nonce); ARGV[1], the state that the
-- caller knows. Result: the error STALE where the two differ; the script then has done nothing.
-- Every other key is made from ARGV: the caller's state is part of its name, so it cannot be known before.
--
-- One key holds everything of one feed, so that an eviction never removes half of it. Ids are 8 bytes,
-- big-endian; an entry is 16 bytes: post, author. Entries are in rising order. The first one is a bound
-- instead of an entry: no post above it is missing.
--
--     feed    'H', u32 celebrities, u32 followees, their ids (rising), entries
--     author  'R', u32 0, u32 0, entries
--     lease   'L', token (8 bytes), entries that were pushed since
--     post    'P' or 'D' (deleted), u32 version, f64 created at (unix ms), author, text
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('STALE') end

local function id_at(bytes, at)
  local high, low = struct.unpack('>I4I4', bytes, at)
  return high * 4294967296 + low
end

-- Reads bytes 0 to `last` of a feed or a ring. Result: these bytes, the offset of its entries, and the
-- numbers of celebrities and followees. Only the bytes for a missing key ('') or a lease.
local function open(key, last)
  local top = redis.call('GETRANGE', key, 0, last)
  if top == '' or string.byte(top) == 76 then return top end
  local celebrities, followees = struct.unpack('>I4I4', top, 2)
  return top, 9 + 8 * (celebrities + followees), celebrities, followees
end
