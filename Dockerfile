# The gateway alone: no clamd, no mail server (docs/docker.md, deploy/compose.yaml).
# Any Debian base works, 12 or 13; one without Python 3.11 or later gets Debian's own.
ARG BASE=python:3.13-slim-bookworm
# Debian packages to be added; «tesseract-ocr tesseract-ocr-spa» for inspection.ocr (100 MB).
ARG EXTRA_PACKAGES=

FROM ${BASE} AS base
ARG EXTRA_PACKAGES
# libmagic1 and libarchive13 are provided by …t64 on Debian 13. openssl does S/MIME, libarchive reads 7z and RAR.
RUN export DEBIAN_FRONTEND=noninteractive \
 && apt-get update -q \
 && apt-get install -q -y --no-install-recommends ca-certificates libarchive13 libmagic1 openssl \
    $(command -v python3 >/dev/null || echo python3) ${EXTRA_PACKAGES} \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log

FROM base AS build
RUN export DEBIAN_FRONTEND=noninteractive \
 && python3 -c 'import ensurepip' 2>/dev/null \
 || { apt-get update -q && apt-get install -q -y --no-install-recommends python3-venv; }
COPY requirements.lock /build/
# The environment needs no pip at run time.
RUN python3 -m venv /opt/civicgate/venv \
 && /opt/civicgate/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
      --require-hashes --only-binary :all: -r /build/requirements.lock \
 && /opt/civicgate/venv/bin/python -m pip uninstall -q -y pip setuptools
COPY gateway /opt/civicgate/gateway
COPY deploy/docker/civicgate /opt/civicgate/venv/bin/
COPY deploy/clamd.conf /opt/civicgate/deploy/clamd.conf
COPY config /opt/civicgate/config
COPY deploy/docker/gateway.yaml /opt/civicgate/config/gateway.yaml
COPY rules /opt/civicgate/rules
# Compiled here, because the root file system is read-only later; pip has compiled what it installed.
RUN /opt/civicgate/venv/bin/python -m compileall -q /opt/civicgate/gateway \
 && chmod 755 /opt/civicgate/venv/bin/civicgate \
 && mkdir -p /opt/civicgate/var

FROM base
RUN groupadd --gid 10025 civicgate \
 && useradd --uid 10025 --gid 10025 --no-create-home --home-dir /opt/civicgate --shell /usr/sbin/nologin civicgate
COPY --from=build /opt/civicgate /opt/civicgate
RUN chown 10025:10025 /opt/civicgate/var && chmod 700 /opt/civicgate/var
WORKDIR /opt/civicgate
ENV PATH=/opt/civicgate/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/opt/civicgate \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Spool, store, keys, certificates: all that is written. /tmp is written by openssl and libmagic's callers at most.
VOLUME /opt/civicgate/var
EXPOSE 10025 9464 8480
USER 10025:10025
STOPSIGNAL SIGTERM
# Says EHLO to the first listener of config/gateway.yaml.
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 CMD ["civicgate", "health"]
ENTRYPOINT ["civicgate"]
CMD ["run", "--config", "config/gateway.yaml"]
