"""The API against its own description: schemathesis makes up requests, right and wrong ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("schemathesis", reason="schemathesis is not installed")

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from avpea.serve.settings import Settings
from tests.serve.serving import served


@pytest.fixture(scope="module")
def api(tiny_run: Path, tiny_asked_run: Path, tiny_data: Path) -> Iterator[Any]:
    runs = str(tiny_run), str(tiny_asked_run)
    with served(Settings(runs=runs, folder=tiny_data / "AVE", upload_mb=1, workers=1)) as client:
        yield schemathesis.openapi.from_asgi("/openapi.json", client.app)


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(
    max_examples=8, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
def test_it_answers_as_it_says(case: Any) -> None:
    answer = case.call()
    assert answer.status_code < 500 or answer.status_code in (503, 507), answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == ["application/problem+json"]
        assert answer.json()["status"] == answer.status_code
        assert answer.json()["detail"].endswith(".")
    case.validate_response(answer, checks=[response_schema_conformance, content_type_conformance])
