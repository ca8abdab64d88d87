"""docs/openapi.json as the tests read it: its operations, and whether an answer is one that it describes."""
import json
import warnings

import rig

warnings.simplefilter("ignore", DeprecationWarning)  # of RefResolver, which Debian 12's package needs
try:
    import jsonschema
except ImportError:
    rig.skip("python3-jsonschema is not installed")

with open(f"{rig.SOURCE}/docs/openapi.json") as source:
    TEXT = source.read()
DOC = json.loads(TEXT)
RESOLVER = jsonschema.RefResolver("", DOC)
OPERATIONS = {(m.upper(), p): op for p, ops in DOC["paths"].items() for m, op in ops.items()}
SEEN = {}  # (method, path): statuses that came, each as described


def follow(node):
    while "$ref" in node:
        node = RESOLVER.resolve(node["$ref"])[1]
    return node


def validator(schema):
    return jsonschema.Draft202012Validator(schema, resolver=RESOLVER, format_checker=jsonschema.FormatChecker())


def matches(schema, value, where):
    errors = [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:300]}" for e in validator(schema).iter_errors(value)]
    assert not errors, f"{where} is not as described: {errors[:5]}"


def as_described(method, path, a):
    """One answer against what its operation says: status, content type and schema."""
    op, where = OPERATIONS[method, path], f"{method} {path} -> {a.status}"
    assert str(a.status) in op["responses"], f"{where} is not described: {a!r}"
    content = follow(op["responses"][str(a.status)]).get("content", {})
    assert a.type in content, f"{where}: content type '{a.type}' is not described, only {list(content)}"
    if a.type == "application/json":
        matches(content[a.type]["schema"], a.json(), where)
    if "x-line" in content[a.type]:
        assert a.body == b"" or a.body.endswith(b"\n"), f"{where}: a line without end"
        for line in a.lines():
            matches(content[a.type]["x-line"], line, f"{where}, line {line}")
    SEEN.setdefault((method, path), set()).add(a.status)
