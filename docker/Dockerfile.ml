# What a training program runs in: numpy and the client; with a framework where one is asked for. Targets:
#
#   ml        swarm-learning/ml, or with FRAMEWORK=keras or torch swarm-learning/ml-keras, swarm-learning/ml-torch
#   digits    the same with the example of examples/digits: swarm-learning/digits-keras, swarm-learning/digits-torch
#
#   docker/build ml ml-keras digits-keras
#   docker build -f docker/Dockerfile.ml --target ml --build-arg FRAMEWORK=keras -t swarm-learning/ml-keras .
ARG BASE_IMAGE=python:3.11-slim-bookworm
# client: no framework.
ARG FRAMEWORK=client

FROM ${BASE_IMAGE} AS wheel
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/build
COPY docker/locks/build.txt .
RUN /opt/build/bin/pip install --require-hashes --requirement build.txt
COPY pyproject.toml README.md LICENSE ./
COPY swarm_callback swarm_callback
COPY swarmlearning swarmlearning
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel .

FROM ${BASE_IMAGE} AS client
ARG FRAMEWORK
ENV PATH=/opt/swarm/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/swarm
COPY docker/locks/${FRAMEWORK}.txt /tmp/framework.txt
RUN pip install --require-hashes --requirement /tmp/framework.txt

# A build that installs packages of Debian says USER root before, and USER 1000:1000 behind.
FROM ${BASE_IMAGE} AS base
RUN command -v tini >/dev/null \
  || (apt-get update && apt-get install -y --no-install-recommends tini && rm -rf /var/lib/apt/lists/*)
RUN groupadd --gid 1000 swarm && useradd --uid 1000 --gid swarm --no-create-home --home-dir /tmp swarm \
  && install -d -m 1777 /tmp/hpe-swarm && install -d -m 0755 /platform
ENV PATH=/opt/swarm/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /platform
USER 1000:1000
ARG VERSION=0.1.0
LABEL org.opencontainers.image.vendor="Swarm learning" \
      org.opencontainers.image.description="Sites train one model together; data stays home; no central server." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
ENTRYPOINT ["tini", "--"]
CMD ["python3"]

# What changes seldom comes first: the framework, the example's packages, then our code.
FROM base AS framework
COPY --from=client --chown=1000:1000 /opt/swarm /opt/swarm

FROM framework AS packages
ARG FRAMEWORK
COPY docker/locks/digits-${FRAMEWORK}.txt /tmp/digits.txt
RUN pip install --no-cache-dir --require-hashes --requirement /tmp/digits.txt

FROM packages AS digits
ARG FRAMEWORK
LABEL org.opencontainers.image.title="Swarm learning: example digits, ${FRAMEWORK}"
COPY --from=wheel /wheel /opt/swarm/wheel
RUN pip install --no-cache-dir --no-deps /opt/swarm/wheel/*.whl
COPY examples/digits /platform/digits

# The last one is what is built where no target is named.
FROM framework AS ml
ARG FRAMEWORK
LABEL org.opencontainers.image.title="Swarm learning: training programs, ${FRAMEWORK}"
COPY --from=wheel /wheel /opt/swarm/wheel
RUN pip install --no-cache-dir --no-deps /opt/swarm/wheel/*.whl
