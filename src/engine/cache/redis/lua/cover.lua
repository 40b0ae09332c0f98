-- Stores a mark that was made after a number of writes.
-- In: KEYS[1] state key; ARGV[1] state, ARGV[2] key of the mark, ARGV[3] the mark, ARGV[4] number of writes.
-- Result: 0. Atomic: the mark is of the database that the state names.
--- @include "state"
redis.call('HSET', ARGV[2], 'mark', ARGV[3], 'covered', ARGV[4])
-- As long as `adopt.lua` keeps them.
redis.call('EXPIRE', ARGV[2], 604800)
redis.call('EXPIRE', KEYS[1], 604800)
return 0
