{{- /* What each store holds, and what a server's user may take of it. */}}
{{- define "mcpace.redisConf" -}}
{{- $limits := eq .store "limits" -}}
aclfile /data/users.acl
dir /data
databases 1
save ""
appendonly {{ ternary "yes" "no" $limits }}
appendfsync everysec
maxmemory {{ .values.maxMemory }}
maxmemory-policy {{ ternary "noeviction" "allkeys-lru" $limits }}
# One server's sidecars, or whoever has their password, shall not stop the others.
busy-reply-threshold 200
maxmemory-clients 25%
client-query-buffer-limit {{ ternary "1mb" "64mb" $limits }}
proto-max-bulk-len {{ ternary "1mb" "16mb" $limits }}
client-output-buffer-limit normal {{ ternary "4mb 1mb 10" "128mb 64mb 10" $limits }}
client-output-buffer-limit pubsub 4mb 1mb 10
tcp-keepalive 60
lazyfree-lazy-user-del yes
lazyfree-lazy-expire yes
lazyfree-lazy-eviction yes
{{- end }}
