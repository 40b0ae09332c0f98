-- Grants a lease of five seconds on each feed or ring that is not cached: the caller loads it then.
-- In: KEYS[1] state key; ARGV[1] state, ARGV[2] prefix of the keys, ARGV[3] ids, ARGV[4] token (8 bytes),
-- ARGV[5] prefix of the slot bitmap, ARGV[6] u32 slots, one for each id.
-- Result: one letter for each id. 'L': the lease is granted; 'l': another caller has it; 'H': it is cached.
-- Atomic: the slot's bit is set together with the lease, before the load begins. A writer that reads the
-- bit as 0 after its commit therefore knows that every later load sees what it committed.
--- @include "state"
local slots = ARGV[5] .. math.floor(redis.call('TIME')[1] / 3600)
local got = {}
for i = 0, #ARGV[3] / 8 - 1 do
  local key = ARGV[2] .. string.sub(ARGV[3], 8 * i + 1, 8 * i + 8)
  if redis.call('SET', key, 'L' .. ARGV[4], 'NX', 'PX', 5000) then
    redis.call('SETBIT', slots, struct.unpack('>I4', ARGV[6], 4 * i + 1), 1)
    got[#got + 1] = 'L'
  else
    got[#got + 1] = redis.call('GETRANGE', key, 0, 0) == 'L' and 'l' or 'H'
  end
end
-- Two hours and 100 s: the bitmap of an hour is read in that hour and in the next one.
redis.call('EXPIRE', slots, 7300)
return table.concat(got)
