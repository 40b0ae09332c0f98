-- Adds posts to the feeds, or to the authors' rings, that are cached.
-- In: KEYS[1] state key; ARGV[1] state, ARGV[2] prefix of the keys, ARGV[3] for each feed or ring its id,
-- u32 number of entries, the entries.
-- Result: 0. Atomic: a page is read before or after all entries of the call.
--- @include "state"
--- @include "add"
--- @include "wrote"
local prefix, all, at, added = ARGV[2], ARGV[3], 1, false
while at <= #all do
  local next = at + 12 + 16 * struct.unpack('>I4', all, at + 8)
  added = add(prefix .. string.sub(all, at, at + 7), string.sub(all, at + 12, next - 1)) or added
  at = next
end
if added then wrote() end
return 0
