-- Stores posts that were edited or deleted, and makes every page digest of before invalid.
-- In: KEYS[1] state key; ARGV[1] state, ARGV[2] key of the last edit, ARGV[3] a nonce that names this edit,
-- ARGV[4] seconds to live, then key and value of posts in turns.
-- Result: 0. Atomic: no page is read with the old text and the new edit, or the other way round.
--- @include "state"
--- @include "keepNewer"
--- @include "wrote"
redis.call('SET', ARGV[2], ARGV[3], 'EX', ARGV[4])
keep_newer(5, ARGV[4])
wrote()
return 0
