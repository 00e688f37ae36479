-- Keeps what the owner of a session says of it, and keeps it for longer; unless it is another's by now.
-- KEYS[1]: its hash. ARGV: owner, epoch, seconds it is kept, then names of fields and what they hold.
-- Returns whether it is this owner's, as far as is known. Who was started anew at a place is its owner still.
local known = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'ended')
if known[3] then return 0 end
local epoch, mine = tonumber(known[2] or -1), tonumber(ARGV[2])
local function place(owner) return string.match(owner, '^(.*) ') end
if epoch > mine or (epoch == mine and place(known[1]) ~= place(ARGV[1])) then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
