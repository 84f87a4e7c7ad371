# Stands in for the official postgres image: its user, variables and entry point.
FROM debian-standin
RUN groupadd --system --gid 999 postgres \
    && useradd --system --uid 999 --gid 999 --home-dir /var/lib/postgresql --shell /bin/bash postgres \
    && apt-get update \
    && apt-get install --yes --no-install-recommends postgresql \
    && rm -rf /var/lib/apt/lists/* \
    && ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/ \
    && install --directory --owner=postgres --group=postgres --mode=1777 /var/lib/postgresql/data /var/run/postgresql
# Without a UTF-8 locale, initdb makes databases that take ASCII only.
ENV LANG=C.UTF-8 PGDATA=/var/lib/postgresql/data
COPY --chmod=0755 postgres-entrypoint /usr/local/bin/docker-entrypoint.sh
STOPSIGNAL SIGINT
EXPOSE 5432
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
