-- wrote(): counts a write, so that the mark is known to be older than it.
-- Needs the state key `<base><run>:state`.
local function wrote()
  redis.call('HINCRBY', string.match(KEYS[1], '^(.*:)[^:]*:state$') .. 'mark', 'writes', 1)
end
