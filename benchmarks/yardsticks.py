"""How nginx and Envoy are set up: they forward, and nothing else."""

NGINX_CONF = """
daemon off; worker_processes 1; pid %(dir)s/nginx.pid; error_log %(dir)s/error.log;
worker_rlimit_nofile 20000;
events { worker_connections 16000; }
http {
  access_log off; client_body_temp_path %(dir)s/body; proxy_temp_path %(dir)s/proxy;
  fastcgi_temp_path %(dir)s/f; uwsgi_temp_path %(dir)s/u; scgi_temp_path %(dir)s/s;
  keepalive_requests 100000000;
  client_max_body_size 4m; client_body_buffer_size 2m; proxy_max_temp_file_size 0;
  proxy_buffer_size 16k; proxy_buffers 80 64k; proxy_busy_buffers_size 4m;
  upstream server { server 127.0.0.1:%(upstream)d max_fails=0;
    keepalive 128; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:%(port)d backlog=8192;
    location / { proxy_pass http://server; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
"""

HCM = "envoy.extensions.filters.network.http_connection_manager"
ENVOY_CONF = """
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: %(port)d}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/%(hcm)s.v3.HttpConnectionManager
          stat_prefix: bench
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: server}}]}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: server
    connect_timeout: 1s
    load_assignment:
      cluster_name: server
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %(upstream)d}}}
"""
