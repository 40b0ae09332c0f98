-- Reads which slots may have a cached feed or ring. No value lives longer than an hour, so the bitmaps of
-- this hour and of the last one cover all.
-- In: KEYS[1] state key; ARGV[1] state, ARGV[2] prefix of the slot bitmap.
-- Result: both bitmaps; false for one that does not exist. Atomic: both are of the same moment.
--- @include "state"
local hour = math.floor(redis.call('TIME')[1] / 3600)
return redis.call('MGET', ARGV[2] .. hour, ARGV[2] .. (hour - 1))
