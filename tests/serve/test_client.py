"""`avpea.Client` against a server that listens."""

import errno
import io
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

import avpea
from avpea.errors import AvpeaError, ServerError
from tests.serve.serving import listening, until


@pytest.fixture(scope="module")
def address(tiny_run: Path, tiny_asked_run: Path) -> Iterator[str]:
    from avpea.serve.settings import Settings

    runs = str(tiny_run), str(tiny_asked_run)
    settings = Settings(runs=runs, token="secret", upload_mb=1, workers=1, at_once=1, waiting=1)
    with listening(settings) as address:
        yield address


@pytest.fixture
def client(address: str) -> avpea.Client:
    return avpea.Client(address + "/", token="secret")


def test_it_asks_as_one_would_here(client: avpea.Client, tiny_run: Path, tiny_data: Path) -> None:
    video = tiny_data / "AVE" / "g4.mp4"
    here: Any = avpea.load(tiny_run, device="cpu").predict(video, threshold=0.2).to_dict()
    assert client.ready()
    assert [one["run"] for one in client.runs()] == ["tiny", "asked"]
    known = client.upload(video, 'a "name".mp4')
    assert known["name"] == "a %22name%22.mp4"
    assert known["seconds"] == pytest.approx(3, abs=0.05)
    assert [one["video"] for one in client.videos()] == [known["video"]]
    expected = {**here, "video": known["name"]}
    assert client.localize(known["video"], threshold=0.2) == expected
    quarter: Any = np.float32(0.25)
    assert client.localize(known["video"], threshold=quarter) == client.localize(known["video"], threshold=0.25)
    assert client.localize(video, threshold=0.2) == {**here, "video": "g4.mp4"}
    reply = client.ask(video, "Is the green heard?", run="asked")
    assert reply["answer"] == max(reply["answers"], key=lambda one: reply["answers"][one])
    states: list[Any] = []
    assert client.begin("localize", known["video"], threshold=0.2).wait(states.append) == expected
    assert states[-1]["state"] == "done"
    client.delete(known["video"])
    assert client.videos() == []


def test_what_the_server_refuses_is_an_error(client: avpea.Client, address: str, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="There is no video 'none'") as found:
        client.localize("none")
    assert (found.value.status, found.value.kind) == (404, "urn:avpea:no-such-video")
    with pytest.raises(ServerError, match="asks for a token"):
        avpea.Client(address, token="wrong").runs()
    (tmp_path / "large.mp4").write_bytes(b"x" * (3 << 20))
    with pytest.raises(ServerError, match="bigger than this server takes"):
        client.upload(tmp_path / "large.mp4")
    with pytest.raises(AvpeaError, match="cannot be read"):
        client.upload(tmp_path / "none.mp4")
    with pytest.raises(ServerError, match="This server has no library"):
        client.search("a dog")


def test_a_token_or_an_address_that_cannot_be_sent_is_refused(address: str) -> None:
    assert avpea.Client(address, token=" secret\n").ready()
    for token in ("se\ncret", "gehéim", "secret\0"):
        with pytest.raises(AvpeaError, match=r"^The token has characters that no token has; expected [\w ]+\.$"):
            avpea.Client(address, token=token)
    wrong = ["http://127.0.0.1:80a", "http://127.0.0.1:99999", "http://a..b", "http://[::1", "http://127.0.0.1/a b"]
    for one in (*wrong, "http://127.0.0.1/é", "http://a b", "ftp://a", "127.0.0.1"):
        with pytest.raises(AvpeaError, match=r"^The address is '.*'; expected one such as http://127\.0\.0\.1:8000\.$"):
            avpea.Client(one)
    for one in ("http://[::1]:8000", "https://example.com/avpea/", "http://münchen.example"):
        avpea.Client(one)


def test_a_file_that_cannot_be_read_is_not_blamed_on_the_server(
    client: avpea.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AvpeaError, match=rf"^{tmp_path} cannot be read \(Is a directory\)\.$"):
        client.upload(tmp_path)
    file = tmp_path / "a.mp4"
    file.write_bytes(b"x" * 1000)

    class Failing(io.BytesIO):
        def __init__(self, opened: Any) -> None:
            super().__init__(opened.read())
            self.opened = opened

        def fileno(self) -> int:
            return int(self.opened.fileno())

        def close(self) -> None:
            self.opened.close()
            super().close()

        def read(self, count: int | None = -1, /) -> bytes:
            if count != 1:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(count)

    opening = Path.open

    def opened(self: Path, *given: Any, **more: Any) -> Any:
        found = opening(self, *given, **more)
        return Failing(found) if self == file else found

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(AvpeaError, match=rf"^{file} cannot be read \(Input/output error\)\.$"):
        client.upload(file)


def test_a_busy_server_is_asked_again(client: avpea.Client, address: str, tiny_data: Path) -> None:
    video = tiny_data / "AVE" / "g4.mp4"
    expected = client.localize(video)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(client.localize(video))) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(120)
    assert found == [expected] * 6


def test_no_server_is_said(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = avpea.Client(f"http://127.0.0.1:{port}")
    assert not client.ready()
    with pytest.raises(AvpeaError, match=r"does not answer.*avpea serve RUN"):
        client.runs()
    with pytest.raises(AvpeaError, match="The address is 'ftp://x'"):
        avpea.Client("ftp://x")


def test_a_client_that_goes_away_frees_its_place(address: str, client: avpea.Client, tiny_data: Path) -> None:
    host, _, port = address.removeprefix("http://").partition(":")
    begun = (
        f"POST /v1/videos HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer secret\r\nContent-Length: 900000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        'Content-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\nabc'
    )
    for _ in range(3):
        with socket.create_connection((host, int(port))) as one:
            one.sendall(begun.encode())
    until(lambda: client.localize(tiny_data / "AVE" / "g4.mp4"))
    assert client.videos() == []
