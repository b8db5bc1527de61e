# Which of requirements/ goes in: `otel` can send traces, too.
ARG LOCKED=serve


FROM python:3.13-slim AS build
ARG LOCKED
WORKDIR /src
RUN python -m venv /opt/seatsvc
COPY requirements/${LOCKED}.txt requirements/
RUN /opt/seatsvc/bin/pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: \
    --requirement requirements/${LOCKED}.txt
COPY pyproject.toml README.md LICENSE ./
COPY sql sql
COPY seatsvc seatsvc
# pip makes bytecode, which the read-only file system prevents later. What only builds is dropped.
RUN /opt/seatsvc/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/seatsvc/bin/pip uninstall --yes hatchling editables trove-classifiers pip


# What the image is made of, for scanners. The tool that writes it stays behind.
FROM python:3.13-slim AS sbom
ARG LOCKED
WORKDIR /src
COPY requirements/audit.txt requirements/
RUN pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: \
    --requirement requirements/audit.txt
COPY pyproject.toml README.md LICENSE ./
COPY requirements/${LOCKED}.txt requirements/
RUN python -W ignore -m cyclonedx_py requirements --pyproject pyproject.toml \
    --output-reproducible --output-file seatsvc.cdx.json requirements/${LOCKED}.txt


FROM python:3.13-slim
LABEL org.opencontainers.image.title="seatsvc" \
      org.opencontainers.image.description="Seat reservation over HTTP" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/seatsvc /opt/seatsvc
COPY --from=sbom /src/seatsvc.cdx.json /opt/seatsvc/sbom.cdx.json
ENV PATH=/opt/seatsvc/bin:$PATH
# The base image comes without bytecode: make that of the modules in use.
RUN python -c "import http.client, multiprocessing.spawn, seatsvc.app, seatsvc.cli"
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /opt/seatsvc
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=2); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["seatsvc", "serve", "--host", "0.0.0.0", "--port", "8000"]
