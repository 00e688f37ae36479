# PostgreSQL and PgBouncer for the tests; the base has both installed.
ARG BASE
FROM ${BASE}
COPY --chmod=755 tests/e2e/images/postgres.sh /usr/local/bin/postgres.sh
ENV PGDATA=/tmp/data
USER postgres
CMD ["/usr/local/bin/postgres.sh"]
