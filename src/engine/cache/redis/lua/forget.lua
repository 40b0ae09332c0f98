-- Removes feeds. A refill in progress loses its lease, so its older result is not kept.
-- In: KEYS[1] state key; ARGV[1] state, ARGV[2] prefix of the keys, ARGV[3] ids.
-- Result: 0. Atomic: a lease is either removed here or granted after the change that is being reported.
--- @include "state"
for at = 1, #ARGV[3], 8 do redis.call('UNLINK', ARGV[2] .. string.sub(ARGV[3], at, at + 7)) end
return 0
