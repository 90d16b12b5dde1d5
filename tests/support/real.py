"""Real users, rooms, bans, transcription sessions and interviews, and whether what the server says of them is as its
descriptions have it."""

import json
import sys
import urllib.error
import urllib.request

import schemathesis

SUPPORT, API, PUBLIC, ADMIN, TOKEN = sys.argv[1:]


class User:
    """Somebody who polls."""

    def __init__(self):
        session = ask(PUBLIC + "/poll?wait=0")["messages"][0]
        self.id, self.token, self.sent = session["session_id"], session["resume_token"], 0

    def send(self, **message):
        self.sent += 1
        body = json.dumps({**message, "seq": self.sent}).encode()
        ask(PUBLIC + "/send", self.token, body)


def ask(url, token=None, body=None):
    headers = {"Content-Type": "application/json"} if body else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
        return json.load(answer)


support, api = (schemathesis.openapi.from_path(path) for path in (SUPPORT, API))


def check(method, path, status=200, body=None, **parameters):
    """The answer, which must be as described."""
    values = {name: value for name, value in parameters.items() if "{" + name + "}" in path}
    query = {name: value for name, value in parameters.items() if name not in values}
    schema = api if path.startswith("/api/") else support
    case = schema[path][method].Case(
        path_parameters=values, query=query, headers={"Authorization": f"Bearer {TOKEN}"},
        **({"body": body, "media_type": "application/json"} if body else {}),
    )
    answer = case.call(base_url=ADMIN)
    case.validate_response(answer)
    assert answer.status_code == status, (method, path, answer.status_code, answer.text)
    return answer.json() if answer.headers["content-type"][0].startswith("application/json") else answer.text


waiting, first, second, member = (User() for _ in range(4))
waiting.send(type="find_match", criteria={"language": "en", "region": "eu", "interests": ["chess", "go"]})
first.send(type="find_match")
second.send(type="find_match")
member.send(type="join_room", room="tea")

for user, state in [(waiting, "waiting"), (first, "in_room"), (second, "in_room"), (member, "in_room")]:
    assert check("GET", "/support/sessions/{id}", id=user.id)["state"] == state
room = check("GET", "/support/sessions/{id}", id=first.id)["room"]["room"]
check("GET", "/support/rooms/{id}", id=room)
check("GET", "/support/named-rooms/{name}", name="tea")
assert len(check("GET", "/support/sessions", limit=500)["sessions"]) == 4
check("POST", "/support/sessions/{id}/disconnect", id=second.id)
ban = check("POST", "/support/bans", 201, {"address": "203.0.113.0/24", "seconds": 60, "reason": "x"})
check("POST", "/support/bans", 201, {"user": "ann", "seconds": 60})
assert check("GET", "/support/bans", address="203.0.113.9")["bans"][0]["id"] == ban["id"]
check("DELETE", "/support/bans/{id}", id=ban["id"])
check("DELETE", "/support/bans/{id}", 404, id=ban["id"])
check("GET", "/support/closes")
check("GET", "/support/nodes")
check("GET", "/support/openapi.json")

# Sessions and interviews.
check("POST", "/api/sessions", 201, {"slug": "tea", "title": "Tea", "language": "en", "deliver": "own", "open": True})
check("POST", "/api/sessions", 409, {"slug": "tea"})
check("POST", "/api/sessions", 400, {"slug": "no slug"})
joined = check("POST", "/api/sessions/{slug}/participants/join", body={"user": "ann", "role": "listener"}, slug="tea")
assert joined["participant"]["role"] == "listener"
assert len(check("GET", "/api/sessions/{slug}", slug="tea")["participants"]) == 2
for form in ("json", "txt", "srt", "vtt"):
    check("GET", "/api/sessions/{slug}/transcript.{format}", slug="tea", format=form, after=0)
begun = check("POST", "/api/surveys/{id}/sessions", 201, {"respondent": "ann", "session": "tea"}, id="mobility")["session"]
check("POST", "/api/surveys/{id}/sessions", 200, {"respondent": "ann"}, id="mobility")
check("POST", "/api/surveys/{id}/sessions", 404, {"respondent": "ann"}, id="none")
tool = "/api/surveys/sessions/{session}/"
asked = check("POST", tool + "get_next_question", body={"language": "de"}, session=begun)["question"]
check("POST", tool + "get_next_question", 404, {"language": "de"}, session="1")
check("POST", tool + "validate_answer", body={"question": asked["id"], "value": 99}, session=begun)
check("POST", tool + "record_response", 422, {"value": 99, "request_id": "1"}, session=begun)
check("POST", tool + "record_response", body={"spoken": "yes please", "request_id": "1"}, session=begun)
check("POST", tool + "record_response", 409, {"value": False, "request_id": "1"}, session=begun)
for form in ("csv", "jsonl"):
    check("GET", "/api/surveys/{id}/answers.{format}", id="mobility", format=form)
check("POST", "/api/sessions/{slug}/end", slug="tea")
check("POST", "/api/sessions/{slug}/end", 410, slug="tea")
check("DELETE", "/api/sessions/{slug}", slug="tea")
check("DELETE", "/api/sessions/{slug}", 404, slug="tea")
