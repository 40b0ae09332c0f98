-- Stores posts that were loaded.
-- In: KEYS[1] state key; ARGV[1] state, ARGV[2] seconds to live, then key and value of posts in turns.
-- Result: 0. Atomic: versions are compared and written together, so an older text never replaces a newer one.
--- @include "state"
--- @include "keepNewer"
--- @include "wrote"
keep_newer(3, ARGV[2])
wrote()
return 0
