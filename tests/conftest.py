"""What every test gets: one thread, a scratch working directory, the shared real data."""

from __future__ import annotations

import logging
import os

# before torch starts its pools: on a small machine more threads make tiny tests slower, and results differ
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

SEED_VARIABLES = ("LIGHTKIT_GLOBAL_SEED", "LIGHTKIT_SEED_WORKERS", "PL_GLOBAL_SEED", "PL_SEED_WORKERS")
REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test marked `gpu` is skipped where there is none."""
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no GPU on this machine"))


@pytest.fixture(autouse=True)
def scratch_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every test runs in a directory of its own, so none writes `runs/` into the repository.

    The generators, the default dtype and what `seed_everything` puts into the environment are left as they
    were found, so that tests don't depend on their order.
    """
    monkeypatch.chdir(tmp_path)
    environment = {name: os.environ.get(name) for name in SEED_VARIABLES}
    dtype, torch_state = torch.get_default_dtype(), torch.get_rng_state()
    numpy_state, python_state = np.random.get_state(), random.getstate()
    yield tmp_path
    torch.set_default_dtype(dtype)
    torch.set_rng_state(torch_state)
    np.random.set_state(numpy_state)
    random.setstate(python_state)
    for name, value in environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of small real data sets: LIGHTKIT_SHARED_DATA, else `../shared/data`."""
    folder = Path(os.environ.get("LIGHTKIT_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(
            f"no shared data at {folder}; set LIGHTKIT_SHARED_DATA to the folder that holds mnist/ ..."
        )
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an object store of this machine, which knows any user; no network is needed."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty folder of a store, "s3://..." or "memory://..."."""
    name = f"test-{os.urandom(4).hex()}"
    if request.param == "s3":
        import fsspec

        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3_server"))
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(variable, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3").mkdir(name)
    return f"{request.param}://{name}/work"
