-- Adds posts to the feeds, or to the authors' rings, that are cached.
-- In: KEYS[1] state key; ARGV[1] state, ARGV[2] prefix of the keys, ARGV[3] for each feed or ring its id,
-- u32 number of entries, the entries.
-- Result: 0. Atomic: a page is read before or after all entries of the call.
--- @include "state"
--- @include "add"
local prefix, all, at = ARGV[2], ARGV[3], 1
while at <= #all do
  local next = at + 12 + 16 * struct.unpack('>I4', all, at + 8)
  add(prefix .. string.sub(all, at, at + 7), string.sub(all, at + 12, next - 1))
  at = next
end
return 0
