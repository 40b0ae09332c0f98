-- keep_newer(first, seconds): stores posts, which are key and value in turns from ARGV[first] on. A post is
-- skipped where the cached one has the same version or a higher one. Needs includes/state.lua.
local function keep_newer(first, seconds)
  for i = first, #ARGV, 2 do
    local version = redis.call('GETRANGE', ARGV[i], 1, 4)
    if version == '' or struct.unpack('>I4', version) < struct.unpack('>I4', ARGV[i + 1], 2) then
      redis.call('SET', ARGV[i], ARGV[i + 1], 'EX', seconds)
    end
  end
end
