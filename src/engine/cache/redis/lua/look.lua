-- Reads the state of the cache, whichever it is, and what is known of the database behind it.
-- In: KEYS[1] state key; ARGV[1] key of the mark. It has no state to compare with.
-- Result: the state, the newest mark that the database had, the number of writes so far, and 1 if the mark is
-- newer than all of them, else 0. false for what does not exist. Atomic: all are of the same moment.
local mark, covered, writes = unpack(redis.call('HMGET', ARGV[1], 'mark', 'covered', 'writes'))
writes = writes or '0'
return { redis.call('GET', KEYS[1]), mark, writes, covered == writes and 1 or 0 }
