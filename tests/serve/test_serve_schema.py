"""The API against its own description: schemathesis makes up requests, right and wrong ones."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("schemathesis", reason="schemathesis is not installed")

import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as trials
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from avpea.serve.settings import Settings
from tests.serve.serving import served

SLOW = [HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


@pytest.fixture(scope="module")
def api(tiny_run: Path, tiny_asked_run: Path, own_videos: Path) -> Iterator[Any]:
    runs = str(tiny_run), str(tiny_asked_run)
    settings = Settings(
        runs=runs, folder=own_videos, upload_mb=1, workers=1, allowed_hosts=("testserver",)
    )  # schemathesis calls it by this name
    with served(settings) as client:
        yield schemathesis.openapi.from_asgi("/openapi.json", _without_its_end(client.app))


def _without_its_end(app: Any) -> Any:
    """The application for schemathesis, which ends applications between requests, with all uploads."""

    async def lasting(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)
            return
        for moment in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{moment}.complete"})

    return lasting


@pytest.mark.parametrize(
    ("mode", "examples"),
    [
        (GenerationMode.POSITIVE, 1),
        pytest.param(GenerationMode.POSITIVE, 20, marks=pytest.mark.slow),
        pytest.param(GenerationMode.NEGATIVE, 1, marks=pytest.mark.slow),  # to make up what is wrong takes long
        pytest.param(GenerationMode.NEGATIVE, 20, marks=pytest.mark.slow),
    ],
)
def test_it_answers_as_it_says(api: Any, mode: GenerationMode, examples: int) -> None:
    statuses: dict[str, set[int]] = {}
    for found in api.get_all_operations():
        operation = found.ok()
        seen = statuses.setdefault(f"{operation.method.upper()} {operation.path}", set())
        asks = operation.definition.raw.get("parameters") or operation.definition.raw.get("requestBody")
        if mode == GenerationMode.POSITIVE:
            _tried(operation.as_strategy(generation_mode=mode), seen, examples)
        elif asks:
            with suppress(Unsatisfiable):  # any text can be an id, so no request is wrong
                _tried(operation.as_strategy(generation_mode=mode), seen, examples)
    assert len(statuses) >= 20
    expected = {200, 401} if mode == GenerationMode.POSITIVE else {400, 401, 422}
    assert statuses["GET /v1/runs"] | statuses["POST /v1/session"] <= expected
    assert len([one for one in statuses.values() if one]) >= (20 if mode == GenerationMode.POSITIVE else 8)


def _tried(cases: Any, seen: set[int], examples: int) -> None:
    @trials(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=SLOW, database=None)
    @given(case=cases)
    def answers(case: Any) -> None:
        answer = case.call()
        seen.add(answer.status_code)
        assert answer.status_code < 500 or answer.status_code in (503, 507), answer.text
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == ["application/problem+json"]
            assert answer.json()["status"] == answer.status_code
            assert answer.json()["detail"].endswith(".")
        case.validate_response(answer, checks=[response_schema_conformance, content_type_conformance])

    answers()
