# A server that opens a database connection for every call, as many do.
ARG BASE
FROM ${BASE}
RUN python3 -m venv /opt/queries && /opt/queries/bin/pip install --quiet --no-cache-dir mcp==2.3.0 "psycopg[binary]==3.3.9"
COPY tests/e2e/images/queries.py /opt/queries/server.py
USER 65532:65532
CMD ["/opt/queries/bin/python", "/opt/queries/server.py"]
