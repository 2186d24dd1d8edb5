# syntax=docker/dockerfile:1
# What builds engines: the server's own image, so that TensorRT is of the release that will load them, with the export.
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:26.09-py3
FROM ${TRITON_IMAGE}

ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /avedge
COPY . .
RUN pip install "tensorrt==${TRT_VERSION%%+*}" --editable ".[export]" \
    && install --directory --mode=1777 /cache
USER 1000:1000
CMD ["avedge", "export", "--help"]
