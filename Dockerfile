# qvggt for CPUs, with the C compiler that builds its integer products at first use; docs/install.md shows how to run it.
#
#   docker build -t qvggt .                                   command line
#   docker build -t qvggt-app --target app .                  with the app
#   docker build -t qvggt-cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
#
# docs/install.md says how far it was tried.

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS source
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir build && python -m build --wheel --outdir /wheels

FROM python:${PYTHON}-slim AS command
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# What is installed and removed is in one layer, so that it takes no space: tests, C++ headers, and the names of functions
# that only a debugger reads; nothing here uses them.
RUN pip install --no-cache-dir torch --index-url "$TORCH_INDEX" \
    && cd /usr/local/lib/python*/site-packages/torch \
    && rm -rf test include \
    && find bin -type f ! -name torch_shm_manager -delete \
    && strip --strip-unneeded lib/libtorch_*.so \
    && find /usr/local/lib -type d -name tests -prune -exec rm -rf {} +
RUN --mount=type=bind,from=source,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(ls /wheels/*.whl)[video,heic]" \
    && find /usr/local/lib -type d -name tests -prune -exec rm -rf {} +
# Any user may run it (--user): all can write to this home, where each makes their own caches.
RUN useradd --no-create-home --home-dir /home/qvggt --uid 1000 qvggt \
    && mkdir --mode 1777 /home/qvggt /data
ENV HOME=/home/qvggt USER=qvggt
USER qvggt
WORKDIR /data
ENTRYPOINT ["qvggt"]
CMD ["--help"]

FROM command AS app
USER root
RUN --mount=type=bind,from=source,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(ls /wheels/*.whl)[app]" \
    && find /usr/local/lib -type d -name tests -prune -exec rm -rf {} +
USER qvggt
EXPOSE 7860
CMD ["app", "--host", "0.0.0.0"]

FROM command
