# Two images from one source: `--target sidecar` (no kopf, no Kubernetes client) and `--target operator`.
# The base only has to have Python 3.11 or later as python3, with venv and pip.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never
# What only people's commands need is in no image: the official client, tables, and whatever these alone bring.
ENV LEFT_OUT="--prune mcp --prune rich"
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --quiet --no-cache-dir uv==0.13.9
WORKDIR /src
COPY pyproject.toml uv.lock ./

FROM build AS build-sidecar
# The image ships the data path compiled; python:*-slim brings Python's headers, a plain Debian does not.
RUN apt-get -qq update && apt-get -qq install --no-install-recommends -y gcc libc6-dev >/dev/null \
 && { python3 -c "import os, sysconfig; open(os.path.join(sysconfig.get_path('include'), 'Python.h'))" \
      || apt-get -qq install --no-install-recommends -y python3-dev >/dev/null; }
RUN /opt/uv/bin/uv export --frozen --no-dev --no-emit-project --extra traces $LEFT_OUT --prune kubernetes --prune aiohttp --quiet -o /requirements.txt \
 && /opt/uv/bin/uv venv --quiet /opt/mcpace \
 && /opt/uv/bin/uv pip install --quiet --python /opt/mcpace --no-deps --require-hashes -r /requirements.txt
COPY README.md LICENSE compile.py ./
COPY sidecar sidecar
COPY operator operator
COPY cli cli
RUN MCPACE_COMPILE=1 /opt/uv/bin/uv pip install --quiet --python /opt/mcpace --no-deps .

FROM build AS build-operator
RUN /opt/uv/bin/uv export --frozen --no-dev --no-emit-project --extra operator $LEFT_OUT --quiet -o /requirements.txt \
 && /opt/uv/bin/uv venv --quiet /opt/mcpace \
 && /opt/uv/bin/uv pip install --quiet --python /opt/mcpace --no-deps --require-hashes -r /requirements.txt
COPY README.md LICENSE compile.py ./
COPY sidecar sidecar
COPY operator operator
COPY cli cli
RUN /opt/uv/bin/uv pip install --quiet --python /opt/mcpace --no-deps .

# What starts a stdio server's processes beside it, in an image that may have no shell and no libc: tini
# passes signals on, tcpsvd makes each connection a process, with a loader and a libc of their own.
FROM ${BASE} AS stdio
RUN apt-get -qq update && apt-get -qq install --no-install-recommends -y ipsvd tini >/dev/null \
 && mkdir -p /stdio/lib && cp /usr/bin/tini-static /stdio/tini && cp "$(command -v tcpsvd)" /stdio/tcpsvd \
 && cp -L "$(ldd /stdio/tcpsvd | grep -o '/lib[^ ]*/ld-linux[^ ]*')" /stdio/ld.so \
 && cp -L "$(ldd /stdio/tcpsvd | grep -o '/lib[^ ]*/libc\.so\.6')" /stdio/lib/libc.so.6

FROM ${BASE} AS sidecar
COPY --from=stdio /stdio /opt/stdio
COPY --from=build-sidecar /opt/mcpace /opt/mcpace
ENV PATH=/opt/mcpace/bin:$PATH PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["mcpace"]
CMD ["sidecar", "--help"]

FROM ${BASE} AS operator
COPY --from=build-operator /opt/mcpace /opt/mcpace
ENV PATH=/opt/mcpace/bin:$PATH PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["mcpace"]
CMD ["operator"]
