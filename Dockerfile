# The image of the jobs and workers: what constraints.txt pins, by hash, and the wheel of this checkout.
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/gatemeter
COPY constraints.txt .
RUN /opt/gatemeter/bin/pip install --no-cache-dir --require-hashes -r constraints.txt
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY producers producers
COPY processors processors
COPY sinks sinks
COPY cli cli
COPY examples examples
RUN /opt/gatemeter/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
COPY --from=build /opt/gatemeter /opt/gatemeter
ENV PATH=/opt/gatemeter/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
CMD ["gatemeter", "--help"]
