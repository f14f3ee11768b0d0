"""What the app answers: its own page, with a policy that keeps other hosts out."""

import asyncio

import pytest

from qvggt.app.web.server import Guard


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": b"page"})


def answer(local, **headers):
    """Return the status and the headers of the answer to a request with these headers."""
    sent = []

    async def send(message):
        sent.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(Guard(app, local=local)({"type": "http", "headers": pairs}, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:7860"}, 200),
        ({"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:7860"}, 200),
        ({"host": "[::1]:7860", "origin": "http://[::1]:7860"}, 200),
        ({"host": "localhost:7860", "origin": "http://localhost:9000"}, 403),
        ({"host": "localhost:7860", "origin": "https://foreign.example"}, 403),
        ({"host": "localhost:7860", "origin": "null"}, 403),
        ({"host": "foreign.example:7860", "origin": "http://foreign.example:7860"}, 403),
        ({"host": "foreign.example:7860"}, 403),
        ({}, 403),
    ],
)
def test_a_local_app_answers_its_own_page_only(headers, status):
    assert answer(True, **headers)[0] == status


def test_an_app_with_a_password_is_reached_under_any_name():
    assert answer(False, host="room.example", origin="https://room.example")[0] == 200


@pytest.mark.parametrize("host", ["localhost:7860", "foreign.example"])
def test_every_answer_forbids_other_hosts(host):
    policy = answer(True, host=host)[1][b"content-security-policy"].decode()
    sources = {word for rule in policy.split(";") for word in rule.split()[1:]}
    assert sources == {"'self'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:", "'none'"}
