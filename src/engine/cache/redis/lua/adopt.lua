-- Starts an epoch of the cache, unless the same one or a later one has started.
-- In: KEYS[1] state key; ARGV[1] epoch, ARGV[2] nonce for the state. It has no state to compare with.
-- Result: the state from now on, `<epoch>:<nonce>`. Another nonce than before means that Redis was flushed.
-- Atomic: two processes that start the same epoch get the same nonce, and an epoch never falls.
local state = redis.call('GET', KEYS[1])
if state and tonumber(string.match(state, '^%d+')) >= tonumber(ARGV[1]) then return state end
state = ARGV[1] .. ':' .. ARGV[2]
-- Seven days: the state outlives every value, which expire within the hour.
redis.call('SET', KEYS[1], state, 'EX', 604800)
return state
