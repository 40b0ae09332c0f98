-- Ends leases: stores what was loaded, and adds what was pushed since the lease was granted.
-- In: KEYS[1] state key; ARGV[1] state, ARGV[2] token, ARGV[3] seconds to live, then key and value in turns.
-- An empty value releases the lease.
-- Result: the number of values that were kept. Atomic: a value is kept only where the lease still has the
-- token, so a refill never overwrites anything newer.
--- @include "state"
--- @include "add"
--- @include "wrote"
local lease, kept = 'L' .. ARGV[2], 0
for i = 4, #ARGV, 2 do
  local key, value = ARGV[i], ARGV[i + 1]
  local current = redis.call('GET', key)
  if current and string.sub(current, 1, 9) == lease then
    if value == '' then
      redis.call('DEL', key)
    else
      redis.call('SET', key, value, 'EX', ARGV[3])
      add(key, string.sub(current, 10))
      kept = kept + 1
    end
  end
end
if kept > 0 then wrote() end
return kept
