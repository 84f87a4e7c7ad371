# Stands in for the official redis image.
FROM debian-standin
RUN groupadd --system --gid 999 redis \
    && useradd --system --uid 999 --gid 999 --home-dir /data redis \
    && apt-get update \
    && apt-get install --yes --no-install-recommends redis-server \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner=redis --group=redis /data
WORKDIR /data
EXPOSE 6379
CMD ["redis-server"]
