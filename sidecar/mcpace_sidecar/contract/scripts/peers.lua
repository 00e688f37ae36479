-- Notes that a sidecar lives, and returns those that do.
-- KEYS[1]: the sorted set of sidecars. ARGV: this one, seconds a silent one still counts.
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('ZRANGE', KEYS[1], 0, 255)
