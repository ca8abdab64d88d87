#!/usr/bin/python3
"""docs/vms.schema.json under a validator that is not ours: the schema is one, takes every pass golden and the example,
and refuses every fail golden whose fault is one of structure (not fail-cross-*, fail-syntax-* and fail-C4-*)."""
import json
import pathlib
import re
import sys

try:
    import yaml
    from jsonschema import Draft202012Validator
except ImportError as e:
    print(f"skipped: {e}; apt install python3-jsonschema python3-yaml")
    sys.exit(77)

here = pathlib.Path(__file__).resolve().parent
root = here.parent.parent
# Faults that a schema cannot see: keys given twice, what another document might have given, what a field asks of
# another one.
BEYOND = {
    "fail-twice", "fail-no-image", "fail-image-sum", "fail-image-sum-needless",
}


class Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: PyYAML by itself takes "no" for false and 1:2 for a number."""


Loader.yaml_implicit_resolvers = {}
for tag, pattern, first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))
Loader.yaml_implicit_resolvers[""] = Loader.yaml_implicit_resolvers.pop("\0")
Loader.add_constructor("tag:yaml.org,2002:int", lambda l, n: int(l.construct_scalar(n), 10))

schema = json.loads((root / "docs/vms.schema.json").read_text())
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
faults = []


def documents(path):
    text = path.read_text()
    if text.startswith("{"):
        return [json.loads(text)]
    return [d for d in yaml.load_all(text, Loader) if d is not None]


def first_fault(path):
    for document in documents(path):
        for error in validator.iter_errors(document):
            return error
    return None


passed = sorted(here.glob("golden/pass-*.yaml")) + sorted((root / "vms.d").glob("*.yaml"))
failed = [p for p in sorted(here.glob("golden/fail-*.yaml"))
          if not re.match(r"fail-(cross|syntax|C4)-", p.name) and p.stem not in BEYOND]
for path in passed:
    if (error := first_fault(path)) is not None:
        faults.append(f"{path.name}: refused at {error.json_path}: {error.message}")
for path in failed:
    if first_fault(path) is None:
        faults.append(f"{path.name}: taken")
if len(passed) < 8 or len(failed) < 25:
    faults.append(f"only {len(passed)} pass and {len(failed)} fail goldens were found")
print("\n".join(faults) or f"{len(passed)} specs taken, {len(failed)} refused")
sys.exit(bool(faults))
