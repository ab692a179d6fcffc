# What a training program runs in: numpy and the client; with a framework where one is asked for.
#
#   docker build -f docker/Dockerfile.ml -t swarm-learning/ml .
#   docker build -f docker/Dockerfile.ml --build-arg FRAMEWORK=keras -t swarm-learning/ml-keras .
#   docker build -f docker/Dockerfile.ml --build-arg FRAMEWORK=torch -t swarm-learning/ml-torch .
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS client
ARG FRAMEWORK=
WORKDIR /build
RUN python3 -m venv /opt/swarm
ENV PATH=/opt/swarm/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pyproject.toml README.md LICENSE requirements.lock ./
RUN pip install --constraint requirements.lock ".${FRAMEWORK:+[$FRAMEWORK]}"
COPY swarm_callback swarm_callback
COPY swarmlearning swarmlearning
RUN pip install --no-deps --force-reinstall .

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="Swarm learning: training programs" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/swarm/bin:$PATH PYTHONUNBUFFERED=1
COPY --from=client /opt/swarm /opt/swarm
