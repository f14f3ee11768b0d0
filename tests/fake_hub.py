"""A hub of models on this machine: the part of the Hugging Face hub's interface that its client uses for models."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors",)
"""Endings of the files that go to the store of large files."""

LICENSES = ("apache-2.0", "other", "unknown", "cc-by-nc-4.0")


@dataclass
class Repository:
    """Commits, each a mapping of paths to contents, and the branches that point to them."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        """Add files to a branch and return the new commit."""
        whole = {**self.commits.get(self.branches.get(branch, ""), {}), **files}
        name = hashlib.sha1(repr((len(self.commits), sorted(whole))).encode()).hexdigest()
        self.commits[name], self.branches[branch] = whole, name
        self.messages.append(message)
        return name


@dataclass
class FakeHub:
    """The state of the hub, which tests read and change.

    Attributes:
        url: its address.
        tokens: user of each token that may write; those that begin with "read" may read only.
        repositories: by ``user/name``.
        large: contents of the store of large files by SHA-256.
        requests: number of requests so far by method and kind.
        failing: number of coming requests of a kind that are cut off without an answer.
    """

    url: str = ""
    tokens: dict[str, str] = field(default_factory=lambda: {"hf_me": "me", "read_me": "me", "hf_you": "you"})
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    failing: Counter[str] = field(default_factory=Counter)

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """Return the files of a repository but its first one, which the hub makes itself."""
        repository = self.repositories[name]
        files = repository.commits[repository.branches.get(revision, revision)]
        return {path: content for path, content in files.items() if path != ".gitattributes"}


class Refused(Exception):
    """An answer other than 200: status, the hub's code and message."""


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers requests; ``hub`` is set on a subclass."""

    hub: FakeHub
    protocol_version = "HTTP/1.1"

    ROUTES = (
        ("whoami", "GET", r"/api/whoami-v2"),
        ("create", "POST", r"/api/repos/create"),
        ("yaml", "POST", r"/api/validate-yaml"),
        ("info", "GET", r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?"),
        ("tree", "GET", r"/api/models/([^/]+/[^/]+)/tree/([^/]+)"),
        ("branch", "POST", r"/api/models/([^/]+/[^/]+)/branch/([^/]+)"),
        ("preupload", "POST", r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)"),
        ("commit", "POST", r"/api/models/([^/]+/[^/]+)/commit/([^/]+)"),
        ("batch", "POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch"),
        ("store", "PUT", r"/lfs/([0-9a-f]{64})"),
        ("resolve", "HEAD|GET", r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)"),
        ("unknown", "HEAD|GET|POST|PUT", r"/.*"),
    )

    def on_unknown(self, body: bytes) -> Any:
        """Refuse what the client asks for besides, such as its own newest version."""
        raise Refused(404, "EntryNotFound", f"{self.path} not found")

    def answer(self) -> None:
        """Find the route, and send its answer or refusal."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        place = urlsplit(self.path).path
        kind, found = next(
            (kind, match)
            for kind, methods, pattern in self.ROUTES
            if self.command in methods.split("|") and (match := re.fullmatch(pattern, place))
        )
        self.hub.requests[kind] += 1
        if self.hub.failing[kind] > 0:
            self.hub.failing[kind] -= 1
            self.close_connection = True
            return
        try:
            parts = [unquote(each or "") for each in found.groups()]
            status, content, headers = getattr(self, f"on_{kind}")(body, *parts)
        except Refused as refused:
            status, code, message = refused.args
            content = json.dumps({"error": message}).encode()
            headers = {"X-Error-Code": code, "X-Error-Message": message}
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def user(self, writing: bool = False) -> str | None:
        """Return who asks, by the token."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            raise Refused(401, "", "Invalid credentials in Authorization header")
        if writing and (not token or token.startswith("read")):
            raise Refused(403, "", "Forbidden: this token cannot write")
        return self.hub.tokens.get(token)

    def repository(self, name: str, writing: bool = False) -> Repository:
        """Return a repository that the user may read or write."""
        user, found = self.user(writing), self.hub.repositories.get(name)
        if found is None or (found.private and user != name.split("/")[0]):
            raise Refused(401 if user is None else 404, "RepoNotFound", "Repository not found")
        if writing and user != name.split("/")[0]:
            raise Refused(403, "", "Forbidden: you cannot write here")
        return found

    def files_at(self, name: str, revision: str, writing: bool = False) -> tuple[str, dict[str, bytes]]:
        """Return a revision's commit and files."""
        repository = self.repository(name, writing)
        commit = repository.branches.get(revision or "main", revision)
        if commit not in repository.commits:
            raise Refused(404, "RevisionNotFound", "Invalid rev id")
        return commit, repository.commits[commit]

    def on_whoami(self, _body: bytes) -> Any:
        """Say who a token belongs to."""
        user = self.user()
        if user is None:
            raise Refused(401, "", "Invalid username or password.")
        return _json({"name": user, "type": "user", "orgs": []})

    def on_create(self, body: bytes) -> Any:
        """Make a repository with a first commit."""
        user, wanted = self.user(), json.loads(body)
        owner = wanted["organization"] or user
        name = f"{owner}/{wanted['name']}"
        if name in self.hub.repositories:
            return 409, json.dumps({"error": "exists", "url": f"{self.hub.url}/{name}"}).encode(), {}
        if user != owner or self.headers["Authorization"].startswith("Bearer read"):
            raise Refused(403, "", "You don't have the rights to create a model under this namespace")
        private = wanted.get("visibility") == "private" or wanted.get("private") is True
        made = self.hub.repositories[name] = Repository(private)
        made.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        return _json({"url": f"{self.hub.url}/{name}", "name": name})

    def on_yaml(self, body: bytes) -> Any:
        """Refuse a card whose license the hub does not list."""
        found = re.search(r"^license: (.*)$", json.loads(body)["content"], re.MULTILINE)
        if found and found[1] not in LICENSES:
            raise Refused(400, "", f'"license" must be one of {LICENSES}')
        return _json({"errors": [], "warnings": []})

    def on_info(self, _body: bytes, name: str, revision: str) -> Any:
        """Describe a revision."""
        commit, files = self.files_at(name, revision)
        siblings = [{"rfilename": path} for path in files]
        private = self.hub.repositories[name].private
        return _json({"id": name, "modelId": name, "sha": commit, "private": private, "siblings": siblings})

    def on_tree(self, _body: bytes, name: str, revision: str) -> Any:
        """List the files of a revision."""
        rows = []
        for path, content in self.files_at(name, revision)[1].items():
            row = {"type": "file", "path": path, "size": len(content), "oid": _blob(content)}
            if path.endswith(LARGE):
                row["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 134}
            rows.append(row)
        return _json(rows)

    def on_branch(self, _body: bytes, name: str, branch: str) -> Any:
        """Make a branch of the main one."""
        repository = self.repository(name, writing=True)
        if branch in repository.branches:
            raise Refused(409, "", "Reference already exists")
        repository.branches[branch] = repository.branches["main"]
        return _json({})

    def on_preupload(self, body: bytes, name: str, revision: str) -> Any:
        """Answer which files are uploaded through LFS, and which the repository already has."""
        _, there = self.files_at(name, revision, writing=True)
        answer = []
        for file in json.loads(body)["files"]:
            path, large = file["path"], file["path"].endswith(LARGE)
            row = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if path in there:
                row["oid"] = _sha256(there[path]) if large else _blob(there[path])
            answer.append(row)
        return _json({"files": answer})

    def on_batch(self, body: bytes, name: str) -> Any:
        """Say where to put the large files that are not in the store."""
        self.repository(name, writing=True)
        wanted = []
        for each in json.loads(body)["objects"]:
            place = {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{each['oid']}"}}}
            wanted.append({**each, **({} if each["oid"] in self.hub.large else place)})
        return _json({"transfer": "basic", "objects": wanted})

    def on_store(self, body: bytes, oid: str) -> Any:
        """Keep a large file."""
        if _sha256(body) != oid:
            raise Refused(400, "", "the content has another hash")
        self.hub.large[oid] = body
        return _json({})

    def on_commit(self, body: bytes, name: str, branch: str) -> Any:
        """Commit files."""
        repository, files, message = self.repository(name, writing=True), dict[str, bytes](), ""
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                assert line["key"] == "lfsFile", line["key"]
                files[value["path"]] = self.hub.large[value["oid"]]
        made = repository.commit(branch, files, message)
        return _json({"success": True, "commitOid": made, "commitUrl": f"{self.hub.url}/{name}/commit/{made}"})

    def on_resolve(self, _body: bytes, name: str, revision: str, path: str) -> Any:
        """Send a file, or its end from where a download was cut off."""
        commit, files = self.files_at(name, revision)
        if path not in files:
            raise Refused(404, "EntryNotFound", "Entry not found")
        content, start = files[path], int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_blob(content)}"'}
        if path.endswith(LARGE):
            headers |= {"X-Linked-Etag": f'"{_sha256(content)}"', "X-Linked-Size": str(len(content))}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return 206 if start else 200, content[start:], headers


def _json(value: object) -> tuple[int, bytes, dict[str, str]]:
    return 200, json.dumps(value).encode(), {"Content-Type": "application/json"}


class Server(ThreadingHTTPServer):
    """Says nothing when a client closes its connection: standard error belongs to what is tested."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report errors other than of the connection."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def serve() -> tuple[FakeHub, ThreadingHTTPServer]:
    """Start a hub on a free port of this machine; ``shutdown`` and ``server_close`` end the server."""
    hub = FakeHub()
    server = Server(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return hub, server
