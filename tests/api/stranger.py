"""A client that knows docs/openapi.json and nothing else: it makes requests out of what is described there, right ones
and such with one thing wrong, and holds every answer against it. A right request is not refused as a wrong one, a wrong
one is, and nothing makes vmsd fail. A run is repeated by its seed, VMSD_TEST_SEED."""
import contextlib
import datetime
import gzip
import json
import os
import re
import socket
import urllib.parse
from typing import NamedTuple

import rig
from document import DOC, OPERATIONS, SEEN, as_described, follow, matches, validator

try:
    import hypothesis
    from hypothesis import strategies as st
except ImportError:
    rig.skip("python3-hypothesis is not installed")

SEED = int(os.environ.get("VMSD_TEST_SEED", 1))
EXAMPLES = int(os.environ.get("VMSD_TEST_EXAMPLES", 40))  # of each operation
METHODS = [m for m in rig.METHODS if m != "HEAD"] + ["get", "BREW"]
SILENCE_S = 0.1  # of a stream that goes on: then it is cut
DAEMON = None

# Guests that the stranger may do anything with, one that runs and shall go on, and its image; see world().
PAPERS, RUNS, ABSENT = ["p0", "p1", "p2"], "runs", "absent-1"
IMAGE = None

# What neither a request's target nor a line of text has, and JSON here has no U+0000: see docs/api.md.
TEXTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x1f9ff, blacklist_categories=("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Mn")),
                max_size=30)
WILD = st.one_of(st.sampled_from(["", "-1", "0x1", "1e3", " 1", "1 ", "99999999999999999999", "nan", "true", "..", "/", "*", "a=b"]), TEXTS)


class Request(NamedTuple):
    method: str
    path: str  # as the document spells it
    target: str
    headers: dict
    body: bytes  # None: there is none
    length: int  # that is claimed; what is not there is not sent
    wrong: str   # None: nothing is
    may: set     # statuses that it may get; the document must describe them, too


# ---- values by their schema ----

def values(schema):
    """Right ones. Of JSON Schema it knows what requests have in the document."""
    schema = follow(schema)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of(*map(values, schema["anyOf"]))
    kind = schema.get("type")
    if isinstance(kind, list):
        return st.one_of(*(values({**schema, "type": k}) for k in kind))
    if kind == "string":
        return strings(schema)
    if kind == "integer":
        return st.integers(schema.get("minimum", -(1 << 31)), schema.get("maximum", (1 << 53) - 1))
    if kind == "array":
        return st.lists(values(schema["items"]), min_size=schema.get("minItems", 0), max_size=5,
                        unique=schema.get("uniqueItems", False))
    if kind == "object":
        return objects(schema)
    return {"boolean": st.booleans(), "null": st.none()}[kind]


def strings(schema):
    pattern = schema.get("pattern", "")
    if schema.get("format") == "date-time":
        return st.datetimes(min_value=datetime.datetime(1000, 1, 1)).map(lambda t: t.isoformat() + "Z")
    if pattern.endswith("$"):
        return st.from_regex(pattern, fullmatch=True)
    return TEXTS.map(lambda s: pattern.lstrip("^") + s)  # without an end: a prefix


def objects(schema):
    known, need = schema.get("properties", {}), set(schema.get("required", ()))
    fixed = st.fixed_dictionaries({k: values(v) for k, v in known.items() if k in need},
                                  optional={k: values(v) for k, v in known.items() if k not in need})
    if not schema.get("additionalProperties"):
        return fixed
    more = st.dictionaries(TEXTS.filter(lambda k: k and "=" not in k), values(schema["additionalProperties"]), max_size=3)
    return st.tuples(fixed, more).map(lambda both: {**both[1], **both[0]})


def wrong_json(schema, right):
    """Texts that the schema refuses, made from a right value."""
    text = json.dumps(right)
    bad = [b"", b"[]", b"null", b"\xff", b"{", text.encode()[:-1], text.encode() + b"x", b"[" * 9000, b'{"a":' * 5000,
           json.dumps({**right, "more": 1}).encode(), b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16")]
    for key in right:
        bad.append(f"{text[:-1]}, {json.dumps(key)}: {json.dumps(right[key])}}}".encode())  # twice
        for other in ({}, [[]], 1.5, -1, "\0", float("nan"), True, [right[key], right[key]]):
            changed = {**right, key: other}
            if not validator(schema).is_valid(changed) or other == "\0" or other != other:
                bad.append(json.dumps(changed).encode())
    for key in follow(schema)["required"]:
        bad.append(json.dumps({k: v for k, v in right.items() if k != key}).encode())
    return bad


def tars():
    """With the guest that runs always in it: an apply may prune."""
    all_ = specs()
    some = {k: v for k, v in all_.items() if k != "p1.yaml"}
    broken = {**all_, "x.yaml": "kind: container\nname: x\ncolour: red\n"}
    good = [rig.tar(all_), rig.tar(some), gzip.compress(rig.tar(all_)), rig.tar(broken)]
    return st.one_of(st.sampled_from(good), st.sampled_from(good), st.binary(max_size=2000), st.just(good[0][:700]))


# ---- requests ----

def path_values(method, path, parameter):
    """Mostly of what is there. The guest that runs is for those that do not stop it."""
    kept = method == "GET" or path.endswith(("/files", "/exec"))
    known = {"/v1/guests": [RUNS] * 3 + PAPERS + [ABSENT] if kept else PAPERS + [ABSENT],
             "/v1/images": [IMAGE, "debian-12", ABSENT], "/v1/jobs": [1, 2, 10**9], "/v1/volumes": [ABSENT]}
    return st.one_of(st.sampled_from(known[path[:path.index("/{")]]), values(parameter["schema"]))


def draw_path(draw, method, path, parameters, wrong):
    filled = path
    for p in parameters:
        if p["in"] != "path":
            continue
        if wrong == "path":
            value = draw(WILD.filter(lambda v, s=p["schema"]: v not in ("", "..", "/") and not is_right(s, v)))
        elif wrong and path.startswith("/v1/guests/"):
            value = RUNS  # so that its absence is no reason
        else:
            value = draw(path_values(method, path, p))
        filled = filled.replace(f"{{{p['name']}}}", urllib.parse.quote(str(value), safe=""))
    return filled


def is_right(schema, text):
    """What stands in a target has no type of its own."""
    return validator(schema).is_valid(int(text) if schema.get("type") == "integer" and re.fullmatch(r"\d+", text) else text)


def draw_query(draw, parameters):
    pairs = []
    for p in parameters:
        if p["in"] != "query" or not (p.get("required") or draw(st.booleans())):
            continue
        value = draw(values(p["schema"]))
        pairs += [(p["name"], str(v)) for v in (value if isinstance(value, list) else [value])]
    return pairs


def spoil_query(draw, wrong, parameters, pairs):
    """None: there is nothing to be spoilt so."""
    query = [p for p in parameters if p["in"] == "query"]
    if wrong == "unknown key":
        return pairs + [(draw(st.sampled_from(["x", "", "select ", "wait*", "Since", *(p["name"] + "s" for p in query)])), "1")]
    if wrong == "key twice":
        once = [p for p in query if p["schema"].get("type") != "array"]
        if not once:
            return None
        p = draw(st.sampled_from(once))
        value = str(draw(values(p["schema"])))
        return [x for x in pairs if x[0] != p["name"]] + [(p["name"], value)] * 2
    if wrong == "no key":
        need = [p["name"] for p in query if p.get("required")]
        return [x for x in pairs if x[0] not in need] if need else None
    strict = [p for p in query if p["schema"].keys() & {"enum", "pattern", "anyOf"} or p["schema"].get("type") == "integer"]
    if not strict:
        return None
    p = draw(st.sampled_from(strict))
    return [x for x in pairs if x[0] != p["name"]] + [(p["name"], draw(WILD.filter(lambda v: not is_right(p["schema"], v))))]


QUERY_WRONGS = ("unknown key", "key twice", "no key", "value")
WRONGS = [None] * 6 + [*QUERY_WRONGS, "path", "body", "no body", "a body", "too large", "method", "header"]


def methods_of(path):
    """An image may be named "gc"."""
    return {m for m, p in OPERATIONS if p == path or re.fullmatch(re.sub(r"{\w+}", "[^/]+", p), path)}


@st.composite
def requests(draw, method, path):
    op = OPERATIONS[method, path]
    parameters = [{**p, "schema": follow(p["schema"])} for p in map(follow, op.get("parameters", ()))]
    described = {int(s) for s in op["responses"]}
    wrong = draw(st.sampled_from(WRONGS))
    content = op.get("requestBody", {}).get("content", {})
    pairs = draw_query(draw, parameters)
    headers = {p["name"]: draw(values(p["schema"])) for p in parameters if p["in"] == "header"}
    body, may = None, described - {400, 405, 413, 500, 504}
    if content:
        (kind, inside), = content.items()
        headers["Content-Type"] = draw(st.sampled_from([kind, kind, "text/html", "application/json; charset=utf-8"]))
        if kind == "application/json":
            value = draw(values(inside["schema"]))
            body = json.dumps(value).encode()
        else:
            body = draw(tars() if kind == "application/x-tar" else st.binary(max_size=3000))
            may |= {400} if kind == "application/x-tar" else set()  # what is in it is not for a schema to say
    length = len(body or b"")
    if wrong in QUERY_WRONGS:
        spoilt = spoil_query(draw, wrong, parameters, pairs) if path != "/v1/openapi.json" else None
        pairs, may, wrong = (spoilt, {400}, wrong) if spoilt is not None else (pairs, may, None)
    elif wrong == "path" and "{" in path:
        may = {400, 404}
    elif wrong == "body" and content and kind == "application/json":
        body, may = draw(st.sampled_from(wrong_json(inside["schema"], value))), {400}
        length = len(body)
    elif wrong == "no body" and content and kind == "application/json":
        body, length, may = None, 0, {400}
    elif wrong == "a body" and not content:
        body, length, may = b"x", 1, {413}
    elif wrong == "too large":
        body, length, may = None, op.get("x-body-max", 0) + draw(st.integers(1, 1 << 40)), {413}
    elif wrong == "method":
        method, may = draw(st.sampled_from([m for m in METHODS if m not in methods_of(path)])), {405}
    elif wrong == "header" and "Upgrade" in headers:
        headers["Upgrade"], may = draw(st.sampled_from(["websocket", "h2c", "vmsd-exec2"])), {400}
    else:
        wrong = None
    where = draw_path(draw, method, path, parameters, wrong)
    target = where + ("?" + urllib.parse.urlencode(pairs) if pairs else "")
    return Request(method, path, target, headers, body, length, wrong, may)


# ---- one request and its answer ----

def read(c, response, target):
    """All of it; of a stream that goes on what comes at once, in whole lines."""
    data = b""
    if response.status == 101:
        return data
    if "follow=" in target and c.sock:
        c.sock.settimeout(SILENCE_S)
    with contextlib.suppress(*[socket.timeout] if "follow=" in target else []):
        while chunk := response.read1(1 << 16):
            data += chunk
        return data
    return data[:data.rfind(b"\n") + 1]


def send(r):
    c = rig.Connection(DAEMON.socket)
    try:
        c.putrequest(r.method, r.target, skip_accept_encoding=True)
        for k, v in {**r.headers, **({"Content-Length": r.length} if r.length or r.body is not None else {})}.items():
            c.putheader(k, v)
        c.endheaders()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            c.send(r.body or b"")
        a = c.getresponse()
        return rig.Answer(a.status, a.headers, read(c, a, r.target))
    finally:
        c.close()


def check(r):
    a = send(r)
    assert a.status in r.may, f"{r}:\nexpected one of {r.may}, got {a!r}"
    if a.status == 405:  # of no operation, so none describes it
        matches(DOC["components"]["schemas"]["Error"], a.json(), f"{r}")
        assert set(a.headers["Allow"].split(", ")) == methods_of(r.path), a.headers
    elif a.status == 101:
        SEEN.setdefault((r.method, r.path), set()).add(101)
    else:
        as_described(r.method, r.path, a)


# ---- the tests ----

def specs():
    runs = f"kind: container\nname: {RUNS}\nimage: debian-12\nmemory: 256M\ndisk: 128M\nrestart: {{policy: no}}\n"
    return {f"{RUNS}.yaml": runs, **{f"{name}.yaml": rig.paper(name) for name in PAPERS}}


def world(daemon, image):
    global DAEMON, IMAGE
    DAEMON, IMAGE = daemon, image
    lines = DAEMON.apply(specs())
    ends = {x["guest"]: x["state"] for x in lines if x["type"] == "guest"}
    assert ends[RUNS] == "done" and set(ends) == {RUNS, *PAPERS}, lines[-8:]


def test_requests_out_of_the_document():
    n = 0
    for i, (method, path) in enumerate(OPERATIONS):
        DAEMON.apply(specs())  # what others removed

        @hypothesis.seed(SEED + i)
        @hypothesis.settings(max_examples=EXAMPLES, deadline=None, database=None, phases=[hypothesis.Phase.generate],
                             suppress_health_check=list(hypothesis.HealthCheck), print_blob=False)
        @hypothesis.given(requests(method, path))
        def one(r):
            nonlocal n
            n += 1
            check(r)

        one()
        DAEMON.alive()
    assert DAEMON.get(f"/v1/guests/{RUNS}").json()["guest"]["state"] == "running"
    return f"seed {SEED}, {n} requests"


def any_target(path):
    return re.sub(r"{id}", "1", path.replace("{name}", ABSENT))


def test_refusals_that_all_have():
    """Of a user without a role; of a 65th connection; of bytes that are no query; of a body that is too large."""
    os.chmod(DAEMON.socket, 0o666)  # else the file system refuses first

    def asked_as_nobody():
        def ask(method, path):
            a = DAEMON.call(method, any_target(path))
            return method, path, a.status, dict(a.headers), a.body.decode()

        denied = [ask(*op) for op in OPERATIONS]
        held = [rig.Connection(DAEMON.socket) for _ in range(64)]
        for c in held:
            c.connect()
        return denied + [ask(*op) for op in OPERATIONS]

    answers = rig.as_user(rig.NOBODY, rig.NOBODY, [], asked_as_nobody)
    assert [a[2] for a in answers] == [403] * len(OPERATIONS) + [503] * len(OPERATIONS), [a[2] for a in answers]
    for method, path, status, headers, body in answers:
        as_described(method, path, rig.Answer(status, headers, body.encode()))
    for (method, path), op in OPERATIONS.items():
        for target, length, status in ((any_target(path) + "?%ff", 0, 400), (any_target(path), op.get("x-body-max", 0) + 1, 413)):
            check(Request(method, path, target, {}, None, length, "refused", {status}))
        if "404" in op["responses"] and method == "GET":
            check(Request(method, path, any_target(path).replace("/1", f"/{10**9}"), {}, None, 0, "absent", {404}))


def test_a_guest_that_is_removed():
    """It is not wished up again before it has gone."""
    name = {"may": {202}, "headers": {}, "body": None, "length": 0, "wrong": None}
    check(Request("DELETE", "/v1/guests/{name}", f"/v1/guests/{RUNS}", **name))
    for verb in ("start", "stop", "restart", "rebuild"):
        check(Request("POST", f"/v1/guests/{{name}}/{verb}", f"/v1/guests/{RUNS}/{verb}", **{**name, "may": {409}}))


# Statuses that are described and that nothing here brings about, and why.
NOT_REACHED = {
    500: "a host that fails: tests/nth and tests/fault deny memory, files and descriptors",
    504: "a guest that is silent for a minute: tests/agent has the deadlines",
}


def every_answer_was_seen(more):
    """What is described comes about, or is named with the reason why not; more: what the others cannot reach."""
    missing = [(*k, int(s)) for k, op in OPERATIONS.items() for s in op["responses"] if int(s) not in SEEN.get(k, ())]
    unnamed = [m for m in missing if m[2] not in NOT_REACHED and m not in more]
    assert not unnamed, f"described and never seen: {unnamed}"
    stale = [m for m in more if m not in missing]
    assert not stale, f"named as not reached, and reached: {stale}"
    return f"{sum(map(len, SEEN.values()))} kinds of answers as described, {len(missing)} not reached"
