-- Asks for the right to make the next mark, which one process of the cluster gets in a second.
-- In: KEYS[1] state key; ARGV[1] state, ARGV[2] key of the mark, ARGV[3] minimum age of the last claim in ms.
-- Result: false if the mark covers all writes; else ms to wait (0: granted) and the number of writes.
-- Atomic: of several processes one gets the right.
--- @include "state"
local covered, writes, at = unpack(redis.call('HMGET', ARGV[2], 'covered', 'writes', 'at'))
if not writes or covered == writes then return false end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local wait = at and tonumber(at) + tonumber(ARGV[3]) - now or 0
-- A clock that went back does not delay it by more.
if wait > 0 and wait <= tonumber(ARGV[3]) then return { wait, writes } end
redis.call('HSET', ARGV[2], 'at', now)
return { 0, writes }
