"""The HTTP half, over stages that run in this process (Serve's local testing mode)."""

import io

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from portrait.media.audio import write_wav
from serve_apps.auth import ApiKeys
from serve_apps.http_api import create_api
from serve_apps.limits import Limits
from serve_apps.service import PortraitService


def refused(answer, status: int, *words: str) -> dict:
    """The error of an answer, which must be one sentence in our form."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert "\n" not in error["message"]
    for word in words:
        assert word in error["message"]
    return error


def test_health_info_and_page(http):
    assert http.get("/v1/health").json() == {"status": "ok"}
    info = http.get("/v1/info").json()
    assert (info["preset"], info["width"], info["fps"], info["max_sessions"]) == ("tiny", 128, 25, 2)
    assert (info["first_block_frames"], info["block_frames"]) == (13, 16)
    assert set(info["models"]) == {"vae", "generator", "speech"}
    page = http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for name in ("app.js", "player.js", "capture.js", "style.css"):
        assert http.get(f"/{name}").status_code == 200


def test_a_portrait_is_registered_listed_and_deleted(http, talk):
    files = [("images", talk.picture.open("rb")), ("images", talk.picture.open("rb"))]
    made = http.post("/v1/portraits", data={"consent": "true", "name": "Ada"}, files=files).json()
    assert (made["name"], made["images"], made["size"]) == ("Ada", 2, 128)
    assert "agreed" in made["consent"]
    assert made in http.get("/v1/portraits").json()["portraits"]
    assert http.delete(f"/v1/portraits/{made['portrait_id']}").status_code == 204
    assert made not in http.get("/v1/portraits").json()["portraits"]
    refused(http.delete(f"/v1/portraits/{made['portrait_id']}"), 404, made["portrait_id"])


def grey_picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (200, 200), "gray").save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"hello", "bad_image", ("odd name.png", "not an image file")),
        (b"", "bad_image", ("odd name.png",)),
        (grey_picture(), "no_face", ("odd name.png", "face")),
        (grey_picture()[:120], "bad_image", ("odd name.png", "damaged")),
    ],
)
def test_a_picture_that_will_not_do_is_named(http, talk, content, code, words):
    files = [("images", talk.picture.open("rb")), ("images", ("odd name.png", content))]
    answer = http.post("/v1/portraits", data={"consent": "true"}, files=files)
    assert refused(answer, 422, *words)["code"] == code


def test_registering_needs_consent_and_a_fitting_number_of_pictures(http, talk):
    before = http.get("/v1/portraits").json()
    one = {"images": talk.picture.open("rb")}
    assert refused(http.post("/v1/portraits", files=one), 422, "consent")["code"] == "no_consent"
    refused(http.post("/v1/portraits", data={"consent": "false"}, files={"images": b"x"}), 422, "consent")
    refused(http.post("/v1/portraits", data={"consent": "true"}), 422, "images")
    four = [("images", (f"{i}.png", b"x")) for i in range(4)]
    refused(http.post("/v1/portraits", data={"consent": "true"}, files=four), 422, "at most 3", "found 4")
    assert http.get("/v1/portraits").json() == before


def test_a_video_is_as_long_as_its_audio(http, portrait_id, talk, tmp_path, check_media):
    write_wav(tmp_path / "short.wav", talk.samples[:20000])
    form = {"portrait_id": portrait_id, "seed": "5"}
    answer = http.post("/v1/videos", data=form, files={"audio": (tmp_path / "short.wav").open("rb")})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "video/mp4"
    (tmp_path / "out.mp4").write_bytes(answer.content)
    check_media(tmp_path / "out.mp4", 20000 / 16000)
    # The same seed, portrait and audio give the same video, another seed another.
    again = http.post("/v1/videos", data=form, files={"audio": (tmp_path / "short.wav").open("rb")})
    assert again.content == answer.content
    other = http.post(
        "/v1/videos", data=form | {"seed": "6"}, files={"audio": (tmp_path / "short.wav").open("rb")}
    )
    assert other.content != answer.content


def test_a_video_that_cannot_be_made_is_an_error_with_its_own_status(http, portrait_id, talk, service):
    sound = {"audio": ("a.wav", talk.wav.read_bytes())}
    refused(http.post("/v1/videos", data={"portrait_id": "0" * 16}, files=sound), 404, "0" * 16)
    form = {"portrait_id": portrait_id}
    refused(http.post("/v1/videos", data=form, files={"audio": ("x.wav", b"not sound")}), 422, "x.wav")
    refused(http.post("/v1/videos", data=form), 422, "audio")
    refused(http.post("/v1/videos", data=form | {"seed": "-1"}, files=sound), 422, "seed")
    with service.slot(), service.slot():
        full = http.post("/v1/videos", data=form, files=sound)
    assert refused(full, 503, "all 2 sessions")["code"] == "full"
    assert full.headers["retry-after"]
    assert service.sessions == 0


def test_audio_beyond_the_limit_is_refused(http, portrait_id, tmp_path, talk):
    write_wav(tmp_path / "long.wav", np.tile(talk.samples, 8))
    answer = http.post(
        "/v1/videos", data={"portrait_id": portrait_id}, files={"audio": (tmp_path / "long.wav").open("rb")}
    )
    refused(answer, 413, "long.wav", "24 s", "20 s")


def test_a_request_that_says_it_is_huge_is_not_read(http):
    answer = http.post("/v1/portraits", headers={"content-length": str(10**12)}, content=b"")
    assert refused(answer, 413)["code"] == "too_large"


def test_unknown_paths_answer_in_our_form(http):
    refused(http.get("/v1/nothing"), 404, "/v1/nothing")


def test_with_keys_each_caller_has_its_own_portraits(local_handles, talk):
    service = PortraitService(local_handles, Limits(), api_keys=ApiKeys(("alice", "bob")))
    with TestClient(create_api(service)) as http:
        alice, bob = ({"Authorization": f"Bearer {name}"} for name in ("alice", "bob"))
        assert http.get("/v1/health").status_code == 200
        refused(http.get("/v1/portraits"), 401, "API key")
        refused(http.get("/v1/portraits", headers={"Authorization": "Bearer eve"}), 401)
        one = {"images": talk.picture.open("rb")}
        made = http.post("/v1/portraits", data={"consent": "true"}, files=one, headers=alice).json()[
            "portrait_id"
        ]
        listed = [
            [p["portrait_id"] for p in http.get("/v1/portraits", headers=who).json()["portraits"]]
            for who in (alice, bob)
        ]
        assert listed == [[made], []]
        refused(http.delete(f"/v1/portraits/{made}", headers=bob), 404)
        sound = {"audio": ("a.wav", talk.wav.read_bytes())}
        refused(http.post("/v1/videos", data={"portrait_id": made}, files=sound, headers=bob), 404)
        assert http.delete(f"/v1/portraits/{made}", headers=alice).status_code == 204
