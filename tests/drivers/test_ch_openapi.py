#!/usr/bin/env python3
"""Checks every request that vmsd sends to cloud-hypervisor, and every answer that its double gives, against
cloud-hypervisor's own OpenAPI description. cloud-hypervisor passes over keys that it does not know, so here an unknown key
is an error.

usage: test_ch_openapi.py SPEC RECORD...    RECORD: "REQ METHOD CALL", "BODY {...}", "ANS STATUS {...}", line by line
Exits with 77 (skipped) when there is no SPEC, or no module to read it with."""
import json
import os
import sys


def skip(why):
    print("skipped:", why)
    sys.exit(77)


def strict(schema):
    """Objects have the keys that they name, and no others."""
    if isinstance(schema, dict):
        if schema.get("properties") and "additionalProperties" not in schema:
            schema["additionalProperties"] = False
        for part in schema.values():
            strict(part)
    elif isinstance(schema, list):
        for part in schema:
            strict(part)


class Checker:
    def __init__(self, spec):
        strict(spec)
        self.spec, self.checked, self.failures = spec, {}, []

    def check(self, what, schema, value):
        whole = dict(schema, components=self.spec["components"])
        errors = list(jsonschema.Draft4Validator(whole).iter_errors(value))
        self.checked[what] = self.checked.get(what, 0) + 1
        for e in errors:
            self.failures.append(f"{what}: {'/'.join(map(str, e.absolute_path))}: {e.message}")

    def request(self, method, call, body):
        op = self.spec["paths"].get("/" + call, {}).get(method.lower())
        if op is None:
            self.failures.append(f"{method} {call} is not in the description")
            return
        content = op.get("requestBody", {}).get("content", {}).get("application/json")
        if (content is not None) != (body is not None):
            self.failures.append(f"{call}: a body is {'missing' if content else 'not expected'}")
        elif content:
            self.check(f"{call} request", content["schema"], json.loads(body))

    def answer(self, method, call, status, body):
        if status >= 400 or not body:
            return
        responses = self.spec["paths"]["/" + call][method.lower()]["responses"]
        found = responses.get(status) or responses.get(str(status))
        if not found:
            self.failures.append(f"{call}: no answer {status} in the description")
            return
        content = found.get("content", {}).get("application/json")
        if content:
            self.check(f"{call} answer", content["schema"], json.loads(body))

    def record(self, lines):
        pending, body = None, None
        for line in lines:
            word, _, rest = line.rstrip("\r\n").partition(" ")
            if word == "REQ":
                if pending:
                    self.request(*pending, body)
                pending, body = tuple(rest.split(" ")), None
                last = pending
            elif word == "BODY":
                body = rest
            elif word == "ANS" and pending:
                self.request(*pending, body)
                pending = None
                status, _, text = rest.partition(" ")
                self.answer(*last, int(status), text)
        if pending:
            self.request(*pending, body)


if len(sys.argv) < 3:
    sys.exit(__doc__)
if not os.path.exists(sys.argv[1]):
    skip(f"cloud-hypervisor's OpenAPI file is not there{': ' + sys.argv[1] if sys.argv[1] else ''}; name it by VMS_CH_OPENAPI when configuring")
try:
    import jsonschema
    import yaml
except ImportError as e:
    skip(f"{e.name} for python3 is not installed")
with open(sys.argv[1]) as f:
    checker = Checker(yaml.safe_load(f))
for path in sys.argv[2:]:
    if not os.path.exists(path):
        skip(f"no {path}: its test was skipped")
    with open(path, errors="replace") as f:
        checker.record(f)
for what, n in sorted(checker.checked.items()):
    print(f"{what}: {n}")
for failure in checker.failures[:20]:
    print("FAILED", failure)
if not checker.checked:
    sys.exit("nothing was recorded")
sys.exit(bool(checker.failures))
