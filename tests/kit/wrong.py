"""Manifests that must be refused at apply, and the words that must say what to write."""

from typing import Any

WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("no image", {"image": None}, "spec.image: Required value"),
    ("an empty image", {"image": ""}, "spec.image"),
    (
        "a negative limit",
        {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": -5}]}},
        "requestsPerMinute in body should be greater than or equal to 1",
    ),
    (
        "two tiers of one name",
        {
            "rateLimits": {
                "tiers": [{"name": "a", "requestsPerMinute": 1}, {"name": "a", "requestsPerMinute": 2}]
            }
        },
        "Duplicate value",
    ),
    (
        "an unknown default tier",
        {"rateLimits": {"defaultTier": "gold"}},
        "defaultTier must be the name of one of the tiers",
    ),
    (
        "an unknown default tier of one's own",
        {"rateLimits": {"tiers": [{"name": "a", "requestsPerMinute": 1}], "defaultTier": "b"}},
        "defaultTier must be the name of one of the tiers",
    ),
    (
        "sessions that do not go on, and how they do",
        {"sessions": {"continuity": False, "onLoss": "end"}},
        "without continuity the other fields of sessions have no effect: leave them out",
    ),
    (
        "a bad duration",
        {"cache": {"tools": [{"name": "t", "ttl": "5 minutes"}]}},
        "write a duration such as 500ms, 30s, 5m, 1h or 1d",
    ),
    (
        "a bad size",
        {"cache": {"maxBytes": "64 MB"}},
        "write a size in bytes such as 65536, 64Ki, 4Mi or 1Gi",
    ),
    ("an unknown field", {"rateLimit": {}}, 'unknown field "spec.rateLimit"'),
    ("an unknown field within", {"rateLimits": {"tier": []}}, 'unknown field "spec.rateLimits.tier"'),
    (
        "a cost that never fits",
        {"rateLimits": {"tools": [{"name": "t", "cost": 11}]}},
        "it could never be called",
    ),
    (
        "a cost that fits into no day",
        {
            "rateLimits": {
                "tiers": [{"name": "a", "requestsPerMinute": 10, "requestsPerDay": 3}],
                "tools": [{"name": "t", "cost": 5}],
            }
        },
        "it could never be called",
    ),
    (
        "a key of no tier",
        {"clients": {"apiKeys": [{"tier": "gold", "secretRef": {"name": "s"}}]}},
        "the tier of apiKeys must be",
    ),
    ("one port twice", {"port": 18080}, "port, sidecar.port and sidecar.adminPort must differ"),
    (
        "a wrong choice",
        {"rateLimits": {"whenRedisIsDown": "panic"}},
        'supported values: "local", "open", "closed"',
    ),
    (
        "a prompt whose cost never fits",
        {"rateLimits": {"prompts": [{"name": "p", "cost": 11}]}},
        "it could never be called",
    ),
    (
        "an origin without a scheme",
        {"clients": {"allowedOrigins": ["app.example"]}},
        "write origins one by one, each with its scheme and without a path, such as https://a.example",
    ),
    (
        "an origin with a path",
        {"clients": {"allowedOrigins": ["https://app.example/"]}},
        "write origins one by one, each with its scheme and without a path, such as https://a.example",
    ),
    ("all origins", {"clients": {"allowedOrigins": ["*"]}}, "write origins one by one"),
    (
        "all origins of the web",
        {"clients": {"allowedOrigins": ["https://*"]}},
        "allowedOrigins must name each origin of the web",
    ),
    (
        "a host with a scheme",
        {"clients": {"allowedHosts": ["https://mcp.example"]}},
        "spec.clients.allowedHosts[0]",
    ),
    (
        "a Host that is neither",
        {"upstream": {"host": "mcp.example"}},
        'supported values: "rewrite", "preserve"',
    ),
    (
        "a recreation with a surge",
        {"strategy": {"type": "Recreate", "maxSurge": 1}},
        "strategy.type Recreate takes neither maxSurge nor maxUnavailable",
    ),
    (
        "a roll that could not go on",
        {"strategy": {"maxSurge": 0}},
        "with strategy.maxSurge 0, write maxUnavailable too",
    ),
    (
        "a roll that could not go on in percent",
        {"strategy": {"maxSurge": "0%", "maxUnavailable": 0}},
        "with strategy.maxSurge 0, write maxUnavailable too",
    ),
    (
        "trusted headers of nobody",
        {"clients": {"trustedHeaders": {"client": "X-Consumer"}}},
        "trustedHeaders needs trustedProxies",
    ),
    (
        "trusted headers that name an address",
        {"clients": {"trustedProxies": ["10.0.0.0/8"], "trustedHeaders": {"client": "X-Real-IP"}}},
        "name a header of whom a gateway has verified",
    ),
    (
        "a tier that is a way",
        {
            "clients": {
                "trustedProxies": ["10.0.0.0/8"],
                "trustedHeaders": {"client": "X-Consumer", "tier": "x-forwarded-for"},
            }
        },
        "name a header of whom a gateway has verified",
    ),
    *(
        (
            f"trusted headers that hold a credential: {name}",
            {"clients": {"trustedProxies": ["10.0.0.0/8"], "trustedHeaders": {"client": name}}},
            "name a header of whom a gateway has verified",
        )
        for name in (
            "Authorization",
            "proxy-authorization",
            "Cookie",
            "Set-Cookie",
            "X-API-Key",
            "X-Forwarded-Access-Token",
            "X-Amzn-Oidc-Data",
            "Cf-Access-Jwt-Assertion",
            "Mcp-Session-Id",
        )
    ),
    (
        "a tier that is a credential",
        {
            "clients": {
                "trustedProxies": ["10.0.0.0/8"],
                "trustedHeaders": {"client": "X-Consumer", "tier": "cookie"},
            }
        },
        "name a header of whom a gateway has verified",
    ),
    (
        "trusted headers that frame a body",
        {"clients": {"trustedProxies": ["10.0.0.0/8"], "trustedHeaders": {"client": "Content-Length"}}},
        "name a header of whom a gateway has verified",
    ),
    (
        "a header for two purposes",
        {
            "clients": {
                "trustedProxies": ["10.0.0.0/8"],
                "trustedHeaders": {"client": "X-Consumer", "tier": "x-consumer"},
            }
        },
        "must be headers of their own",
    ),
    (
        "keys in a header that names the client",
        {
            "clients": {
                "apiKeyHeader": "X-Consumer",
                "trustedProxies": ["10.0.0.0/8"],
                "trustedHeaders": {"client": "x-consumer"},
            }
        },
        "must be headers of their own",
    ),
    (
        "keys in a header of the way",
        {"clients": {"apiKeyHeader": "X-Forwarded-For"}},
        "apiKeyHeader must be a header of its own",
    ),
    (
        "a cached tool without a time",
        {"cache": {"tools": [{"name": "t"}]}},
        "write a ttl, invalidates, or both",
    ),
    (
        "a scope of nothing",
        {"cache": {"tools": [{"name": "t", "invalidates": ["u"], "scope": "shared"}]}},
        "need a ttl",
    ),
    (
        "a key of nothing",
        {"cache": {"tools": [{"name": "t", "invalidates": ["u"], "key": {"arguments": ["city"]}}]}},
        "need a ttl",
    ),
    (
        "a key of no arguments",
        {"cache": {"tools": [{"name": "t", "ttl": "1m", "key": {"arguments": []}}]}},
        "spec.cache.tools[0].key.arguments",
    ),
    (
        "a key without arguments",
        {"cache": {"tools": [{"name": "t", "ttl": "1m", "key": {"ignoreCase": True}}]}},
        "spec.cache.tools[0].key.arguments: Required value",
    ),
    (
        "a key that names an argument twice",
        {"cache": {"tools": [{"name": "t", "ttl": "1m", "key": {"arguments": ["city", "city"]}}]}},
        "spec.cache.tools[0].key.arguments[1]: Duplicate value",
    ),
    (
        "a key of too many arguments",
        {"cache": {"tools": [{"name": "t", "ttl": "1m", "key": {"arguments": [*"abcdefghijklmnopq"]}}]}},
        "spec.cache.tools[0].key.arguments",
    ),
    (
        "pages without a size",
        {"responses": {"page": {"tools": [{"name": "t"}]}}},
        "page needs items, bytes, or both",
    ),
    (
        "pages of too many items",
        {"responses": {"page": {"tools": [{"name": "t", "items": 101}]}}},
        "less than or equal to 100",
    ),
    (
        "a door to nowhere",
        {"egress": [{"name": "api", "url": "api.example.com", "port": 9101}]},
        "spec.egress[0].url",
    ),
    (
        "two doors of one name",
        {
            "egress": [
                {"name": "a", "url": "https://a.example", "port": 1},
                {"name": "a", "url": "https://b.example", "port": 2},
            ]
        },
        "Duplicate value",
    ),
    (
        "two doors of one port",
        {
            "egress": [
                {"name": "a", "url": "https://a.example", "port": 9101},
                {"name": "b", "url": "https://b.example", "port": 9101},
            ]
        },
        "write each port of egress once",
    ),
    (
        "a tool that makes nothing old",
        {"cache": {"tools": [{"name": "t", "invalidates": []}]}},
        "write a ttl, invalidates, or both",
    ),
    (
        "a network that is none",
        {"clients": {"trustedProxies": ["1::2::3"]}},
        "write a network, such as 10.1.0.0/16, or one address",
    ),
    (
        "processes without what starts them",
        {"transport": "stdio"},
        "transport stdio needs `command`, which starts the server, such as [npx, -y, SERVER]",
    ),
    (
        "processes of a server of HTTP",
        {"stdio": {"warm": 2}},
        "write `transport: stdio`, which `stdio` is about",
    ),
    (
        "calls of processes that are each a session's",
        {"transport": "stdio", "command": ["x"], "stdio": {"callsPerProcess": 2}},
        "callsPerProcess is of `processes: shared`",
    ),
    (
        "a signature with a shared secret",
        {
            "clients": {
                "jwt": {
                    "issuer": "i",
                    "audience": "a",
                    "jwksURL": "https://a.example",
                    "algorithms": ["HS256"],
                }
            }
        },
        "supported values",
    ),
]
