-- Starts a state of the cache: a new epoch, or the present one with another database server.
-- In: KEYS[1] state key; ARGV[1] the state that the caller has found, or ''; ARGV[2] the number of writes
-- that it has found, ARGV[3] the new state, ARGV[4] key of the mark, ARGV[5] a mark that the database has.
-- Result: 1, or 0 if state or writes are others by now; it has done nothing then.
-- Atomic: no other database writes between the caller's look and its state, and one process starts it.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if (redis.call('HGET', ARGV[4], 'writes') or '0') ~= ARGV[2] then return 0 end
-- Seven days: state and mark outlive every value, which expire within the hour.
redis.call('SET', KEYS[1], ARGV[3], 'EX', 604800)
redis.call('HSET', ARGV[4], 'mark', ARGV[5], 'covered', ARGV[2])
redis.call('EXPIRE', ARGV[4], 604800)
return 1
