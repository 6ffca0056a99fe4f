"""The server of a labelling page: what it lets through, what it refuses and with which status."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path
from typing import Any

import httpx
import pytest
from image_files import encoded, photo
from label_pages import HOST, SAME, TOKEN, answer, labelling, photos

HOSTILE = "<script>alert(1)</script>"
FIRST = {"do": "answer", "position": 0, "version": 0, "state": "label", "label": "3"}


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table of labels."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_page_and_file_comes_with_a_strict_policy(tmp_path: Path) -> None:
    """No inline code, no type sniffing, no referrer; refusals have the same headers."""
    with labelling(photos(tmp_path / "photos"), tmp_path / "labels.csv") as page:
        paths = ("", "static/label.js", "static/label.css", "static/icon.svg", "state", "image/0/0", "agreement", "no")
        replies = [page.get(path) for path in paths]
    assert [reply.status_code for reply in replies] == [200] * 7 + [404]
    for reply in replies:
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
    for reply in replies[:1] + replies[6:7]:
        assert "style=" not in reply.text
        assert "<style" not in reply.text
        assert reply.text.count("<script") == reply.text.count('<script type="module" src=')


@pytest.mark.parametrize(
    "path", ["/", "/state", "/wrong-token/", f"/{TOKEN[:-1]}/state", f"/{TOKEN}x/", "//", f"//{TOKEN}/"]
)
def test_a_request_without_the_token_is_refused(tmp_path: Path, path: str) -> None:
    """Also on loopback, and for files too."""
    with labelling(photos(tmp_path / "photos", 1), tmp_path / "labels.csv") as page:
        assert page.client.get(f"{HOST}{path}").status_code == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:8010", 200), ("localhost:8010", 200), ("[::1]:8010", 200), ("evil.example", 421), ("", 421),
     ("127.0.0.1.evil.example:8010", 421), ("[", 421)],
)  # fmt: skip
def test_a_name_that_is_not_ours_is_refused(tmp_path: Path, host: str, status: int) -> None:
    """A name server of somebody else can turn any name of theirs to this machine."""
    with labelling(photos(tmp_path / "photos", 1), tmp_path / "labels.csv") as page:
        assert page.get("state", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (SAME, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({**SAME, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_a_label_from_another_page_is_refused(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    """And leaves no trace."""
    out = tmp_path / "labels.csv"
    with labelling(photos(tmp_path / "photos"), out) as page:
        assert page.post(answer(page.state(), 3), headers=headers).status_code == status
        assert page.state()["progress"]["labelled"] == (status == 200)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"json": []}, 400),
        ({"content": b"{", "json": None, "headers": {**SAME, "Content-Type": "application/json"}}, 400),
        ({"content": b"[" * 50_000, "json": None, "headers": {**SAME, "Content-Type": "application/json"}}, 400),
        ({"content": b"do=answer", "json": None}, 415),
        ({"json": {"do": "answer", "reason": "x" * 100_000}}, 413),
        ({"json": {"do": "drop table"}}, 400),
        ({"json": {**FIRST, "position": -1}}, 400),
        ({"json": {**FIRST, "position": 10**9}}, 400),
        ({"json": {**FIRST, "position": True}}, 400),
        ({"json": {**FIRST, "position": "0"}}, 400),
        ({"json": {**FIRST, "label": "9"}}, 400),
        ({"json": {**FIRST, "label": {"a": 1}}}, 400),
        ({"json": {**FIRST, "state": "done"}}, 400),
        ({"json": {**FIRST, "reason": "x" * 3000}}, 400),
        ({"json": {**FIRST, "reason": "data:image/png;x"}}, 400),
        ({"json": {"do": "undo"}}, 409),
    ],
)  # fmt: skip
def test_an_action_that_the_page_never_sends_is_refused(tmp_path: Path, request_: dict[str, Any], status: int) -> None:
    """With a reason in one line, and nothing is written."""
    out = tmp_path / "labels.csv"
    with labelling(photos(tmp_path / "photos"), out) as page:
        reply = page.post(None, **request_)
        assert reply.status_code == status, reply.text
        assert set(reply.json()) == {"error"}
        assert not out.exists()


@pytest.mark.parametrize(
    "path",
    ["image/0/1", "image/99/0", "image/-1/0", "image/x/0", "image/0/..", "image/..%2f..%2fetc%2fpasswd/0",
     "state?at=99", "state?at=x", "state?at=-1", "static/..%2fapp.py", "static/app.py", "static/../app.py",
     "image/0/0/../../../etc/passwd"],
)  # fmt: skip
def test_a_picture_or_file_that_is_not_there_is_not_found(tmp_path: Path, path: str) -> None:
    """An address holds numbers and our own names; nothing in it is a path."""
    with labelling(photos(tmp_path / "photos"), tmp_path / "labels.csv") as page:
        assert page.get(path).status_code == 404


def test_other_methods_are_refused(tmp_path: Path) -> None:
    """What is read is not written, and the reverse."""
    with labelling(photos(tmp_path / "photos", 1), tmp_path / "labels.csv") as page:
        assert page.get("act").status_code == 405
        assert page.client.put(f"/{TOKEN}/state", headers=SAME).status_code == 405
        assert page.client.delete(f"/{TOKEN}/state").status_code == 403


def test_files_that_only_look_like_images_are_not_served(tmp_path: Path) -> None:
    """An SVG or a page under the name of an image is refused; what follows an image is cut off."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_text(f'<svg xmlns="http://www.w3.org/2000/svg">{HOSTILE}</svg>')
    (folder / "b.jpg").write_text(f"<html>{HOSTILE}</html>")
    (folder / "c.png").write_bytes(encoded(photo()) + HOSTILE.encode())
    with labelling(folder, tmp_path / "labels.csv") as page:
        replies = [page.get(f"image/{position}/0") for position in range(3)]
    assert [reply.status_code for reply in replies] == [422, 422, 200]
    assert all("this picture cannot be shown" in reply.json()["error"] for reply in replies[:2])
    assert str(tmp_path) not in replies[0].text
    assert replies[2].headers["content-type"] == "image/png"
    assert HOSTILE.encode() not in replies[2].content


@pytest.mark.slow
def test_a_thousand_requests_at_once_are_answered_or_put_off(tmp_path: Path) -> None:
    """Each label is either confirmed, and in the file once, or refused with 409 or 503; no other status."""
    out = tmp_path / "labels.csv"
    with labelling(photos(tmp_path / "photos", 20), out) as page:
        transport = httpx.ASGITransport(page.server.app)

        async def storm() -> list[httpx.Response]:
            async with httpx.AsyncClient(transport=transport, base_url=HOST) as client:
                asked = [
                    client.post(
                        f"/{TOKEN}/act",
                        json={
                            "do": "answer",
                            "position": i % 20,
                            "version": 0,
                            "state": "label",
                            "label": str(i % 5 + 1),
                        },
                        headers=SAME,
                    )
                    if i % 2
                    else client.get(f"/{TOKEN}/image/{i % 20}/0")
                    for i in range(1000)
                ]
                return await asyncio.gather(*asked)

        replies = asyncio.run(storm())
        statuses = {reply.status_code for reply in replies}
        assert statuses <= {200, 409, 503}, statuses
        assert 200 in statuses
        confirmed = {i % 20 for i, reply in enumerate(replies) if i % 2 and reply.status_code == 200}
        assert len(rows(out)) == len({row["image"] for row in rows(out)}) == len(confirmed)


def test_the_second_page_has_figures_and_no_label(tmp_path: Path) -> None:
    """Two raters with the same seed are shown the same images; kappa has an interval."""
    folder, out = photos(tmp_path / "photos", 12), tmp_path / "labels.csv"
    for rater in ("ann", "ben"):
        with labelling(folder, out, rater=rater) as page:
            for i in range(8):
                assert page.label(5 if (rater, i) == ("ben", 0) else 1 + i % 5).status_code == 200
            text = page.get("agreement").text
    assert "Cohen’s kappa" in text
    assert "95 % interval" in text
    assert "7 of the 8 images" in text
    assert "ann and ben" in text


def test_a_page_that_cannot_write_says_so(tmp_path: Path) -> None:
    """The label is not confirmed, and the table stays as it was."""
    out = tmp_path / "labels.csv"
    with labelling(photos(tmp_path / "photos"), out) as page:
        assert page.label(3).status_code == 200
        before = out.read_bytes()
        page.session.journal.store.one("PRAGMA max_page_count=1")  # a disk without room
        reply = page.label(4, "é" * 2000)
        assert reply.status_code == 507
        assert "disk is full" in reply.json()["error"]
        assert out.read_bytes() == before
