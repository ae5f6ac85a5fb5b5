"""Reviews over HTTP: what the page stores, exports, imports and opens next."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from fastapi.testclient import TestClient

from avpea.errors import WriteError
from avpea.formats import Stretch, read
from avpea.serve.review import fingerprint
from tests.serve.serving import server_of
from tests.tiny import coloured_video
from tests.workers import borrowed

BARK = {"start_seconds": 0.5, "end_seconds": 2.0, "label": "bark"}
MEOW = {"start_seconds": 2.0, "end_seconds": 2.75, "label": "meow"}
SAVED = {"file": "avpea-reviewed.csv", "videos": 2, "events": 1, "remarks": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "videos"
    (made / "sub").mkdir(parents=True)
    coloured_video(made / "green.mp4", "green", 0, 2)
    coloured_video(made / "sub" / "red é.mp4", "red", 1, 3)
    return made


@pytest.fixture
def client(folder: Path, tiny_run: Path) -> Iterator[TestClient]:
    from avpea.media import boxed
    from avpea.serve.app import make_app
    from avpea.serve.server import Server
    from avpea.serve.settings import SERVED, Settings

    settings = Settings(runs=(str(tiny_run),), folder=folder)
    with (
        boxed(SERVED, 1),
        borrowed(),
        TestClient(make_app(Server(settings, device="cpu")), base_url="http://127.0.0.1") as client,
    ):
        yield client


def ids(client: TestClient) -> dict[str, str]:
    return {one["name"]: one["video"] for one in client.get("/v1/videos").json()}


def put(client: TestClient, video: str, events: list[Any], revision: int, done: bool = False) -> Any:
    body = {"events": events, "revision": revision, "done": done}
    return client.put(f"/v1/videos/{video}/review", json=body)


def test_an_edit_is_stored_and_a_stale_one_refused(client: TestClient, folder: Path) -> None:
    video = ids(client)["green.mp4"]
    assert client.get(f"/v1/videos/{video}/review").json()["revision"] == 0
    answer = put(client, video, [MEOW, BARK], 0)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["events"], answer.json()["revision"]) == ([BARK, MEOW], 1)
    assert client.get(f"/v1/videos/{video}/review").json() == answer.json()
    for wrong in ({**MEOW, "start_seconds": "0"}, {**MEOW, "end_seconds": True}, {**MEOW, "label": 3}):
        assert put(client, video, [wrong], 1).status_code == 422
    stale = put(client, video, [MEOW], 0)
    assert (stale.status_code, stale.json()["type"]) == (409, "urn:avpea:stale")
    assert "is at revision 1, and the edit is of 0" in stale.json()["detail"]
    # The review is of the content: renaming keeps it, and another copy that is uploaded has it too.
    (folder / "green.mp4").rename(folder / "renamed.mp4")
    with (folder / "renamed.mp4").open("rb") as file:
        again = client.post("/v1/videos", files={"file": ("copy.mp4", file)}).json()
    assert again["revision"] == 1
    assert client.get(f"/v1/videos/{again['video']}/review").json()["events"] == [BARK, MEOW]
    refused = put(client, again["video"], [MEOW], 0).json()["detail"]
    assert refused.startswith("copy.mp4 was changed in the meantime"), "it names the file that it was stored for"


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        ([{**BARK, "label": "background"}], "is reserved"),
        ([{**BARK, "end_seconds": 9.0}], "both within the 3 s of the video"),
        ([{**BARK, "end_seconds": 0.25}], "expected a start before the end"),
        ([{**BARK, "label": ""}], "label: string should have at least 1 character"),
        ([{**BARK, "start_seconds": -1}], "greater than or equal to 0"),
        ([{**BARK, "more": 1}], "extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_stored_is_a_problem(client: TestClient, events: list[Any], sentence: str) -> None:
    answer = put(client, ids(client)["green.mp4"], events, 0)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", ["audacity", "srt", "vtt", "elan", "csv", "json"])
def test_export_and_import_are_inverse(client: TestClient, name: str) -> None:
    video = ids(client)["sub/red é.mp4"]
    assert client.get(f"/v1/review/export?format={name}&video={video}").status_code == 404
    put(client, video, [BARK, MEOW], 0)
    file = client.get(f"/v1/review/export?format={name}&video={video}")
    assert file.headers["content-disposition"].startswith('attachment; filename="red _.')
    assert file.headers["content-disposition"].split("''")[1].startswith("red%20%C3%A9.")
    assert read(name, file.content, "")[0] == Stretch(0.5, 2.0, "bark")
    put(client, video, [], 1)
    path = f"/v1/videos/{video}/review/import?format={name}"
    assert client.post(f"{path}&revision=1", content=file.content).status_code == 409
    answer = client.post(f"{path}&revision=2", content=file.content)
    assert (answer.json()["events"], answer.json()["revision"]) == ([BARK, MEOW], 3)


def test_imports_are_strict_and_doubt_is_taken_off(client: TestClient) -> None:
    video = ids(client)["green.mp4"]
    path = f"/v1/videos/{video}/review/import?revision=0&format="
    bomb = b'<!DOCTYPE a [<!ENTITY b "c">]><ANNOTATION_DOCUMENT/>'
    for name, content, sentence in [
        ("elan", bomb, "document type"),
        ("srt", b"nothing", "expected a cue"),
        ("csv", b"video,start_seconds,end_seconds,label,error\ngreen.mp4,,,,decoder crashed\n", "could not be read"),
        ("audacity", b"0\t9\tdog\n", "within the 3 s"),
        ("csv", b"start_seconds,end_seconds,label,lane\n0,1,dog,seen\n", "'dog' has the lane 'seen', and what is read"),
    ]:
        answer = client.post(f"{path}{name}&name=my%20labels", content=content)
        assert (answer.status_code, sentence in answer.json()["detail"]) == (422, True), answer.text
        assert name == "audacity" or answer.json()["detail"].startswith("my labels")
    table = b"video,start_seconds,end_seconds,label\nsub/red.mp4,0,1,dog\n"
    answer = client.post(f"{path}csv", content=table)
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "The file has events of 'sub/red.mp4', and this is green.mp4; name that video in it, or leave the name out, if "
        "they are of this one.",
    )
    answer = client.post(f"{path}audacity", content=b"0\t1\tdog ?\n").json()
    assert answer["events"][0]["label"] == "dog"
    assert answer["remarks"] == ["1 label ends in ' ?', as avpea marks doubtful events; it was taken off."]
    answer = client.post(f"{path.replace('=0', '=1')}audacity", content=b"0\t1\tdog (seen)\n").json()
    assert answer["events"][0]["label"] == "dog (seen)"
    assert answer["remarks"] == ["1 label ends in a lane, such as ' (seen)', which was kept as part of the class."]


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("audacity", "0\t1\twhat ?\n1\t2\twhat ? ?\n"),
        ("csv", "start_seconds,end_seconds,label\n0,1,what ?\n1,2,what ?\n"),
    ],
)
def test_a_class_that_ends_in_a_question_mark_keeps_it(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, form: str, content: str
) -> None:
    from avpea.serve.models import Run

    monkeypatch.setattr(Run, "classes", property(lambda run: ["what ?"] if form == "audacity" else []))
    path = f"/v1/videos/{ids(client)['green.mp4']}/review/import?revision=0&format={form}"
    answer = client.post(path, content=content.encode()).json()
    assert [one["label"] for one in answer["events"]] == ["what ?", "what ?"]


def test_what_is_done_is_the_manifest(client: TestClient, folder: Path) -> None:
    from avpea.data.readers._divide import DividedOptions
    from avpea.data.readers.manifest import read as read_manifest

    videos = ids(client)
    assert client.post("/v1/review/save").status_code == 409
    put(client, videos["green.mp4"], [BARK], 0)
    assert client.post("/v1/review/save").status_code == 409  # begun, but not done
    put(client, videos["green.mp4"], [BARK], 1, done=True)
    put(client, videos["sub/red é.mp4"], [], 0, done=True)
    shutil.copy(folder / "green.mp4", folder.parent / "other.mp4")
    assert client.post("/v1/review/save").json() == SAVED
    found = read_manifest(DividedOptions(name="manifest", root=str(folder / "avpea-reviewed.csv"), segments=3))
    assert sorted(one.video_id for some in found.splits.values() for one in some) == ["green.mp4", "sub/red é.mp4"]
    assert found.labels.names == ("bark",)
    assert client.get("/v1/review/export?format=manifest").content == (folder / "avpea-reviewed.csv").read_bytes()


def test_a_video_of_the_library_outside_of_the_folder_is_exported(client: TestClient, folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    coloured_video(elsewhere / "blue.mp4", "green", 2, 3)
    other = server_of(client).videos.of_library(elsewhere / "blue.mp4", True).id
    assert other not in ids(client).values()
    assert put(client, other, [BARK], 0, done=True).status_code == 200
    file = client.get(f"/v1/review/export?format=csv&video={other}")
    assert (file.status_code, file.content.decode().splitlines()[1:]) == (200, ["0.5,2.0,bark"])
    put(client, ids(client)["green.mp4"], [MEOW], 0, done=True)
    for format_ in ("csv", "manifest"):
        rows = client.get(f"/v1/review/export?format={format_}").content.decode().splitlines()[1:]
        assert rows == ["green.mp4,2.0,2.75,meow", "blue.mp4,0.5,2.0,bark"]
    assert client.post("/v1/review/save").json() == {**SAVED, "videos": 1}
    assert "blue" not in (folder / "avpea-reviewed.csv").read_text()


def test_the_most_doubtful_video_is_next(client: TestClient, folder: Path) -> None:
    videos = ids(client)
    unknown = client.get("/v1/review/next?run=tiny").json()
    assert (unknown["video"] in videos.values(), unknown["left"], unknown["ranked"]) == (True, 2, 0)
    doubt = {}
    for name, video in videos.items():
        answer = client.post("/v1/localize", json={"video": video}).json()
        largest = [max(second["probabilities"].values()) for second in answer["seconds"]]
        doubt[name] = 1 - sum(largest) / len(largest)
    listed = {one["name"]: one["unsure"] for one in client.get("/v1/videos?run=tiny").json()}
    assert listed == {name: pytest.approx(value, abs=1e-3) for name, value in doubt.items()}
    first, second = sorted(videos, key=lambda name: -doubt[name])
    found = client.get("/v1/review/next?run=tiny").json()
    assert (found["video"], found["ranked"]) == (videos[first], 2)
    assert client.get(f"/v1/review/next?run=tiny&after={videos[first]}").json()["video"] == videos[second]
    put(client, videos[first], [], 0, done=True)
    assert client.get("/v1/review/next").json()["video"] == videos[second]
    last = client.get(f"/v1/review/next?after={videos[second]}").json()
    assert (last["video"], last["left"]) == (None, 1), "the one that is open is left"
    put(client, videos[second], [], 0, done=True)
    assert client.get("/v1/review/next").json() == {"video": None, "unsure": None, "left": 0, "ranked": 0}


def require_others_to_be_served(client: TestClient, videos: dict[str, str], remark: str) -> None:
    """What is about all videos is about `green.mp4`, and what is exported says that another one is left out."""
    assert client.get("/v1/review/next").json() == {
        "video": videos["green.mp4"], "unsure": None, "left": 1, "ranked": 0,
    }  # fmt: skip
    none = client.post("/v1/review/save").json()["detail"]
    assert none.startswith("No video of the folder is done yet; ")
    assert none.endswith(remark)
    put(client, videos["green.mp4"], [BARK], 0, done=True)
    assert client.get("/v1/review/next").json()["left"] == 0
    answer = client.get("/v1/review/export?format=manifest")
    assert answer.content.decode().splitlines()[1:] == ["green.mp4,0.5,2.0,bark"]
    assert unquote(answer.headers["Avpea-Remarks"]) == remark
    saved = client.post("/v1/review/save").json()
    assert (saved["videos"], saved["remarks"]) == (1, [remark])
    assert "Avpea-Remarks" not in client.get(f"/v1/review/export?format=csv&video={videos['green.mp4']}").headers


def test_a_video_that_cannot_be_read_keeps_no_other_from_being_reviewed(
    client: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avpea.serve.videos.LISTED_SECONDS", 600.0)
    videos = ids(client)
    (folder / "sub" / "red é.mp4").unlink()  # it is listed still
    require_others_to_be_served(
        client, videos, "Left out: sub/red é.mp4 cannot be read any more; list the videos anew."
    )


def test_a_damaged_review_keeps_no_other_video_from_being_reviewed(client: TestClient, folder: Path) -> None:
    videos = ids(client)
    put(client, videos["sub/red é.mp4"], [BARK], 0)
    (file,) = (folder / ".avpea-reviews").glob("*.json")
    file.write_text("{")
    listed = {one["name"]: (one["revision"], one["remarks"]) for one in client.get("/v1/videos").json()}
    (remark,) = listed["sub/red é.mp4"][1]
    assert listed == {"green.mp4": (0, []), "sub/red é.mp4": (0, [remark])}
    assert remark.startswith(f"The review of sub/red é.mp4 cannot be used: .avpea-reviews/{file.name}, line 1, ")
    require_others_to_be_served(client, videos, f"Left out: {remark}")
    path = f"/v1/videos/{videos['sub/red é.mp4']}"
    assert client.get(path).json()["remarks"] == [remark]
    for answer in (client.get(f"{path}/review"), put(client, videos["sub/red é.mp4"], [], 0)):
        assert (answer.status_code, answer.json()["detail"]) == (422, remark)
    assert file.read_text() == "{"


def test_many_videos_that_are_left_out_are_counted(client: TestClient, folder: Path) -> None:
    (folder / ".avpea-reviews").mkdir()
    for number in range(6):
        video = folder / f"{number}.mp4"
        video.write_bytes(bytes([number]))
        (folder / ".avpea-reviews" / f"{fingerprint(video)}.json").write_text("{")
    put(client, ids(client)["green.mp4"], [BARK], 0, done=True)
    remarks = client.post("/v1/review/save").json()["remarks"]
    assert len(remarks) == 5
    assert remarks[-1] == "Left out too: 2 videos."


@pytest.mark.parametrize(
    ("number", "status", "kind"),
    [(errno.ENOSPC, 507, "no-room"), (errno.EDQUOT, 507, "no-room"), (errno.EROFS, 500, "internal-server-error")],
)
def test_a_review_that_the_disk_does_not_take(
    client: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int, kind: str
) -> None:
    def refused(path: Path, value: Any) -> None:
        raise WriteError(number, str(path))

    monkeypatch.setattr("avpea.serve.review.write_json", refused)
    answer = put(client, ids(client)["green.mp4"], [BARK], 0)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:avpea:{kind}")
    assert str(folder) not in answer.text
