# Stands in for the official python image: python3 and pip that install for the whole system.
FROM debian-standin
RUN rm -f /usr/lib/python3*/EXTERNALLY-MANAGED && ln -s python3 /usr/bin/python
ENV LANG=C.UTF-8
CMD ["python3"]
